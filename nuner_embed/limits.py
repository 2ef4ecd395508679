"""How much is taken from a file before it is refused: bounds for what strangers may hand over.

Each bound lies far above what honest files hold: a damaged or hostile file ends in one line, not in the end of the
memory. SECURITY.md lists the bounds.
"""

from typing import Final

MIB: Final = 1 << 20

# A manifest names a shard in some 300 bytes: this is one of 200,000 shards. The largest tokenizer.json at hand
# (of a vocabulary of 256,000 pieces) has 35 MB.
JSON_FILE_BYTES: Final = 64 * MIB
# Arrays within arrays and objects within objects; the JSON of an annotated document has 4 levels.
JSON_DEPTH: Final = 100

# The journal of a store has a line of some 900 bytes for every shard.
JOURNAL_BYTES: Final = 256 * MIB
# A line of a store's coverage.jsonl has some 200 bytes and the document's id; one of rejects.jsonl quotes a record.
LIST_LINE_BYTES: Final = 4 * MIB

# What is measured of a probe grows with the square of its types: of so many the matrix has 800 MB. The largest set of
# types at hand has 66.
PROBE_TYPES: Final = 10_000
# A probe of 10,000 types over 4,096 dimensions has 160 MB.
PROBE_WEIGHTS_BYTES: Final = 512 * MIB
# The largest support sets of the paper have 64 mentions of a type, and are drawn 10 times.
SHOTS_MOST: Final = 1_000_000
DRAWS_MOST: Final = 10_000
# What every reader of JSON takes for a whole number.
SEED_MOST: Final = 2**63 - 1
