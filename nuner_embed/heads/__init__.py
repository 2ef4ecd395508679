"""Heads: what reads the embeddings of texts and says where mentions are, and of which type.

The defaults stand here, where the command line reads them without NumPy; they were chosen on development parts.
"""

from typing import Final

# chosen in benchmarks/strength.py, results/strength.md
DEFAULT_C: Final = 0.03
DEFAULT_CLASS_WEIGHT: Final = "sqrt"
BACKGROUND_CLASS_WEIGHT: Final = "balanced"  # with a background: benchmarks/background.py, results/background.md
AUTO_CLASS_WEIGHT: Final = "auto"  # one of the two above
# Least probability of a type that is only named: benchmarks/zeroshot.py, results/zeroshot.md. Low, because a
# calibration covers all types of its data, and each of a few named types is more probable than that.
NAMED_THRESHOLD: Final = 0.1
# Least probability of a type that a probe was trained for: the most probable class wins
EVEN_THRESHOLD: Final = 0.5
# With names of types beside examples: benchmarks/offset.py, results/offset.md
NAMED_C: Final = 0.01
DEFAULT_OFFSET_STRENGTH: Final = 100.0
