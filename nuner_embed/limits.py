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

# A line of a corpus, decompressed: the Bible has 4 MB. Of 32 MiB of JSON, Python makes some 2 GB at worst.
# `Corpus(max_line_mib=...)` and --max-line-mib allow more: text8, for one, is 100 MB without a line's end.
LINE_MIB: Final = 32
# Words, a line each, between two blank lines of a column file; the longest sentence at hand has 1,100.
SENTENCE_LINES: Final = 1_000_000
# Fields of a line in columns. CoNLL-2012 has one for each verb of the sentence besides its eleven.
LINE_FIELDS: Final = 1_000
# How far back a zstd file may look, as a power of two: 256 MiB of memory. `zstd` itself stops at 27 unless told.
ZSTD_WINDOW_LOG: Final = 28
# A compressed Parquet file is unpacked to a temporary file of at most so many times its size, or so much.
UNPACKED_RATIO: Final = 100
UNPACKED_MIB: Final = 1024
# Values of a column in one row group of a Parquet file; writers make row groups of about a million rows.
PARQUET_VALUES: Final = 1 << 27
# Bytes that one batch of rows may need because a value is repeated without being written again.
PARQUET_BATCH_BYTES: Final = 1 << 28

# An LLM's whole answer over HTTP, decompressed; a million tokens of a reply have some 4 MB. `Server.max_reply_mib`
# and --max-reply-mib allow more.
REPLY_MIB: Final = 8
# Lines of a reply that are read as annotations, and spans that these may make in one text ("the" stands in it often).
REPLY_ANNOTATIONS: Final = 10_000
REPLY_SPANS: Final = 100_000
# An instruction's wording.
INSTRUCTION_BYTES: Final = MIB
