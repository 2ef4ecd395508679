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
