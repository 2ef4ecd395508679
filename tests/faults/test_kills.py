"""Killed commands: 200 kills."""

import pytest


@pytest.mark.slow
def test_kills(script):
    assert "0 faults" in script("kills.py", "--count", 200, "--seed", 1)
