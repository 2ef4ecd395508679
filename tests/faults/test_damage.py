"""Damaged artefacts: 2,000 mutations, some 12 minutes of processor time."""

import pytest


@pytest.mark.slow
def test_damage(script):
    assert "2000 mutations, 0 faults" in script("mutations.py", "--count", 2000, "--seed", 1)
