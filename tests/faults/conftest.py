"""Runs the scripts of this folder, each of which says how to repeat what it finds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def script(tmp_path):
    """Calls a script with its options and gives what it prints."""
    if not hasattr(os, "fork") or not Path("/proc").is_dir():
        pytest.skip("the scripts fork, and look at /proc")

    def call(name, *options):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        done = subprocess.run(
            [sys.executable, HERE / name, "--base", tmp_path / "base", *map(str, options)],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
        return done.stdout

    return call
