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

# config.json: the largest at hand, with the names of 30,000 labels, has 2 MB.
CONFIG_BYTES: Final = 8 * MIB
# tokenizer.json: that of a vocabulary of a million pieces has 70 MB.
TOKENIZER_BYTES: Final = 256 * MIB
# What a configuration may promise; published encoders have up to 48 layers, 5,120 dimensions, 32,768 positions and a
# vocabulary of a million. What it promises is also compared with the weights.
LAYERS: Final = 1000
HIDDEN_SIZE: Final = 1 << 16
POSITIONS: Final = 1 << 20
VOCABULARY: Final = 1 << 24
# The JSON at the head of a safetensors file: some 100 bytes a tensor, so this is one of 160,000.
SAFETENSORS_HEADER_BYTES: Final = 16 * MIB
# reference.npz of an export: 2,000 tokens in 16,384 numbers each are 131 MB.
REFERENCE_BYTES: Final = 1024 * MIB
