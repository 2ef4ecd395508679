"""Bounds on the files and values that are accepted, which may come from strangers.

Each bound lies far above what real files hold; a damaged or hostile file ends in a one-line error before memory runs
out. SECURITY.md lists the bounds.
"""

from typing import Final

MIB: Final = 1 << 20

# Of an index: the widest encoder at hand, all of its 48 layers one after the other, has 245,760.
VECTOR_WIDTH: Final = 1 << 20
# A line of a file of ids; an id has at most 19 digits.
ID_LINE_BYTES: Final = 1024
# Seconds that a filter may take over all rows of an index; a comparison of texts takes some 60 ms for 24,000 rows.
# --filter-seconds and `Index.open(..., filter_seconds=...)` allow more.
FILTER_SECONDS: Final = 120.0
# What DuckDB may hold in memory for a filter, which it is handed 200,000 rows at a time.
FILTER_MIB: Final = 2048

# A manifest names a shard in some 300 bytes: this is one of 200,000 shards. The largest tokenizer.json at hand
# (of a vocabulary of 256,000 pieces) has 35 MB.
JSON_FILE_BYTES: Final = 64 * MIB
# Arrays within arrays and objects within objects; the JSON of an annotated document has 4 levels.
JSON_DEPTH: Final = 100

# The journal of a store has a line of some 900 bytes for every shard.
JOURNAL_BYTES: Final = 256 * MIB
# A line of a store's coverage.jsonl has some 200 bytes and the document's id; one of rejects.jsonl quotes a record.
LIST_LINE_BYTES: Final = 4 * MIB

# The confusion matrix of a probe grows with the square of its types: 800 MB for this many. The largest set of types
# at hand has 66.
PROBE_TYPES: Final = 10_000
# A probe of 10,000 types over 4,096 dimensions has 160 MB.
PROBE_WEIGHTS_BYTES: Final = 512 * MIB
# The largest support sets of the paper have 64 mentions of a type, and are drawn 10 times.
SHOTS_MOST: Final = 1_000_000
DRAWS_MOST: Final = 10_000
# The largest whole number that every JSON reader accepts.
SEED_MOST: Final = 2**63 - 1

# A line of a corpus, or a task of Label Studio, decompressed: the Bible has 4 MB. Of 32 MiB of JSON, Python makes some
# 2 GB at worst.
# `Corpus(max_line_mib=...)` and --max-line-mib allow more: text8, for example, is 100 MB on one line.
LINE_MIB: Final = 32
# Lines (words) between two blank lines of a column file; the longest sentence at hand has 1,100.
SENTENCE_LINES: Final = 1_000_000
# Fields of a line in columns. CoNLL-2012 has one for each verb of the sentence besides its eleven.
LINE_FIELDS: Final = 1_000
# The window of a zstd file, as a power of two: 256 MiB of memory. `zstd` itself stops at 27 unless told.
ZSTD_WINDOW_LOG: Final = 28
# A compressed Parquet file is unpacked to at most this many times its size, or this many MiB if that is more.
UNPACKED_RATIO: Final = 100
UNPACKED_MIB: Final = 1024
# Values of a column in one row group of a Parquet file; writers make row groups of about a million rows.
PARQUET_VALUES: Final = 1 << 27
# Bytes that one batch of rows may need for repeated values, which the file stores once.
PARQUET_BATCH_BYTES: Final = 1 << 28

# An LLM's whole answer over HTTP, decompressed; a million tokens of a reply have some 4 MB. `Server.max_reply_mib`
# and --max-reply-mib allow more.
REPLY_MIB: Final = 8
# Lines of a reply that are read as annotations, and spans that they may give in a text ("the" occurs often).
REPLY_ANNOTATIONS: Final = 10_000
REPLY_SPANS: Final = 100_000
# An instruction's wording.
INSTRUCTION_BYTES: Final = MIB

# config.json: the largest at hand, with the names of 30,000 labels, has 2 MB.
CONFIG_BYTES: Final = 8 * MIB
# tokenizer.json: that of a vocabulary of a million pieces has 70 MB.
TOKENIZER_BYTES: Final = 256 * MIB
# The largest values of a configuration. Published encoders have 48 layers, 5,120 dimensions, 32,768 positions and a
# vocabulary of a million. The values are also compared with the weights.
LAYERS: Final = 1000
HIDDEN_SIZE: Final = 1 << 16
POSITIONS: Final = 1 << 20
VOCABULARY: Final = 1 << 24
# The JSON at the head of a safetensors file: some 100 bytes a tensor, so this is one of 160,000.
SAFETENSORS_HEADER_BYTES: Final = 16 * MIB
# reference.npz of an export: 2,000 tokens in 16,384 numbers each are 131 MB.
REFERENCE_BYTES: Final = 1024 * MIB

# A file of pre-training settings: all of them take less than 1 kB.
SETTINGS_BYTES: Final = MIB

# What a request to nuner-embed serve may take; the first four have options. A body of 4 MiB holds 2,000 texts of 2 kB.
SERVED_BODY_MIB: Final = 4
SERVED_TEXTS: Final = 2048  # as OpenAI's embeddings API
SERVED_TOKENS: Final = 65_536  # some seconds on two cores, for which the requests behind wait
SERVED_REQUESTS: Final = 128  # at a time, those that wait included; each has a thread
# Numbers of an answer, for which JSON takes some 20 bytes each: 10,000 tokens of 384 dimensions.
SERVED_NUMBERS: Final = 1 << 22
SERVED_TYPES: Final = 256
SERVED_HITS: Final = 1000
# How long a client may take to send a body, and how much of a refused body is read before the connection is closed: a
# client that still writes would not see the answer.
SERVED_BODY_SECONDS: Final = 30.0
SERVED_REFUSED_MIB: Final = 64
