"""Heads: what reads the embeddings of texts and says where mentions are, and of which type.

The defaults stand here, where the command line reads them without NumPy; they were chosen on development parts.
"""

from typing import Final

# how it is fitted: benchmarks/strength.py, results/strength.md
DEFAULT_C: Final = 0.03
DEFAULT_CLASS_WEIGHT: Final = "sqrt"
BACKGROUND_CLASS_WEIGHT: Final = "balanced"  # with a background: benchmarks/background.py, results/background.md
AUTO_CLASS_WEIGHT: Final = "auto"  # one of these two
# How probable a type that is only named must be: benchmarks/zeroshot.py, results/zeroshot.md. Low, since a calibration
# is over all types of its data, and of the few that are named each is more probable.
NAMED_THRESHOLD: Final = 0.1
# How probable a type must be that a probe was trained for: the most probable class wins
EVEN_THRESHOLD: Final = 0.5
