"""Full disks: 20 points, where `python tests/faults/full_disk.py` takes 40."""

import pytest


@pytest.mark.slow
def test_full_disks(script):
    assert "20 points" in script("full_disk.py", "--points", 20, "--seed", 1)
