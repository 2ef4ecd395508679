"""Damage, kills and full disks, each by its script, which says how to repeat what it finds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork") or not Path("/proc").is_dir(), reason="forks, and looks at /proc"),
]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The artefacts, made by the first script that needs them."""
    return tmp_path_factory.mktemp("faults") / "base"


def script(name, base, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, HERE / name, "--base", base, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    return done.stdout


def test_damage(base):
    assert "2000 mutations, 0 faults" in script("mutations.py", base, "--count", 2000, "--seed", 1)


def test_kills(base):
    assert "0 faults" in script("kills.py", base, "--count", 200, "--seed", 1)


def test_full_disks(base):
    assert "40 points" in script("full_disk.py", base, "--points", 40, "--seed", 1)
