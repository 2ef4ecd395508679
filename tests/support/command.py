"""The command line, run as a user runs it."""

import os
import subprocess
import sys
from typing import Any


def run(*arguments: Any, cwd: Any = None, stdin: Any = None, check: int | None = None) -> Any:
    """Runs `nuner-embed` in a process of its own; `check` is the exit code that it must have."""
    done = subprocess.run(
        [sys.executable, "-m", "nuner_embed.cli", *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=not isinstance(stdin, bytes),
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "120"},
    )
    if check is not None:
        assert done.returncode == check, (done.stdout, done.stderr)
    return done
