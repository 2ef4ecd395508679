"""Killed commands: 100 kills, where `python tests/faults/kills.py` makes 200."""

import pytest


@pytest.mark.slow
def test_kills(script):
    assert "0 faults" in script("kills.py", "--count", 100, "--seed", 1)
