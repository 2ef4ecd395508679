"""How much is taken from a file before it is refused: bounds for what strangers may hand over.

Each bound lies far above what honest files hold: a damaged or hostile file ends in one line, not in the end of the
memory. SECURITY.md lists the bounds.
"""

from typing import Final

MIB: Final = 1 << 20

# Of an index: the widest encoder at hand, all of its 48 layers one after the other, has 245,760.
VECTOR_WIDTH: Final = 1 << 20
# A line of a file of ids; an id has at most 19 digits.
ID_LINE_BYTES: Final = 1024
# How long a filter may take over all rows of an index; 10 million rows take some 2 seconds. --filter-seconds and
# `Index.open(..., filter_seconds=...)` allow more.
FILTER_SECONDS: Final = 120.0
# What DuckDB may hold in memory for a filter; 200,000 rows at a time take some 50 MB.
FILTER_MIB: Final = 2048

# A manifest names a shard in some 300 bytes: this is one of 200,000 shards. The largest tokenizer.json at hand
# (of a vocabulary of 256,000 pieces) has 35 MB.
JSON_FILE_BYTES: Final = 64 * MIB
# Arrays within arrays and objects within objects; the JSON of an annotated document has 4 levels.
JSON_DEPTH: Final = 100
