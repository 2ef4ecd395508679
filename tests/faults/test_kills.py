"""Killed commands; a file of its own, so that it runs beside the other scripts."""

import pytest


@pytest.mark.slow
def test_kills(script):
    assert "0 faults" in script("kills.py", "--count", 200, "--seed", 1)
