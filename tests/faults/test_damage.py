"""Damaged artefacts; a file of its own, so that it runs beside the other scripts."""

import pytest


@pytest.mark.slow
def test_damage(script):
    assert "2000 mutations, 0 faults" in script("mutations.py", "--count", 2000, "--seed", 1)
