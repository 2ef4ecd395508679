"""Damaged artefacts: 800 mutations, where `python tests/faults/mutations.py` makes 2,000 in some 20 minutes."""

import pytest


@pytest.mark.slow
def test_damage(script):
    assert "800 mutations, 0 faults" in script("mutations.py", "--count", 800, "--seed", 1)
