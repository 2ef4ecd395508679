"""Full disks; a file of its own, so that it runs beside the other scripts."""

import pytest


@pytest.mark.slow
def test_full_disks(script):
    assert "40 points" in script("full_disk.py", "--points", 40, "--seed", 1)
