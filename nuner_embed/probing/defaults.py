"""How a probe is fitted where nothing else is said.

Chosen on development parts by benchmarks/strength.py; see benchmarks/results/strength.md.
"""

from typing import Final

DEFAULT_C: Final = 0.03
DEFAULT_CLASS_WEIGHT: Final = "sqrt"
