"""The command line, run as a user runs it."""

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, TextIO
from unittest import mock

_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "COLUMNS": "120"}


def run(*arguments: Any, cwd: Any = None, stdin: Any = None, check: int | None = None) -> Any:
    """Runs `nuner-embed` in this process: most of a short command's time goes into starting another.

    Args:
        arguments: of the command line.
        cwd: the folder that it runs in.
        stdin: what it reads, text or bytes.
        check: the exit code that it must have.

    Returns:
        `returncode`, `stdout` and `stderr`, as `subprocess.run` would give.
    """
    given = stdin if isinstance(stdin, bytes) else (stdin or "").encode()
    streams = {name: io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for name in ("stdout", "stderr")}
    code = call(arguments, cwd, {**streams, "stdin": io.TextIOWrapper(io.BytesIO(given), "utf-8")})
    said = {name: stream.buffer.getvalue() for name, stream in streams.items()}  # type: ignore[attr-defined]
    if not isinstance(stdin, bytes):
        said = {name: content.decode() for name, content in said.items()}
    done = SimpleNamespace(returncode=code, **said)
    if check is not None:
        assert done.returncode == check, (done.stdout, done.stderr)
    return done


def call(arguments: Sequence[Any], cwd: Any, streams: dict[str, TextIO]) -> int:
    """Runs `nuner-embed` in this process, with other streams, and returns its exit code."""
    from nuner_embed.cli.__main__ import main

    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(cwd or "."))
        stack.enter_context(mock.patch.dict(os.environ, _ENVIRONMENT))
        for name, stream in streams.items():
            stack.enter_context(mock.patch.object(sys, name, stream))
        stack.enter_context(mock.patch.object(sys, "argv", ["nuner-embed", *map(str, arguments)]))
        stack.enter_context(_as_it_was())
        try:
            main()
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else 1
    return 0


@contextlib.contextmanager
def _as_it_was() -> Any:
    """Takes back what a command does to its process: its log's handlers, and what a signal means."""
    log, numbers = logging.getLogger("nuner_embed"), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    warn = warnings.showwarning
    on_signal = [signal.getsignal(number) for number in numbers]
    handlers, level, propagate = list(log.handlers), log.level, log.propagate
    try:
        yield
    finally:
        warnings.showwarning = warn
        log.handlers, log.propagate = handlers, propagate
        log.setLevel(level)
        for number, handler in zip(numbers, on_signal, strict=True):
            signal.signal(number, handler)


def run_apart(*arguments: Any, cwd: Any = None, stdin: Any = None, check: int | None = None) -> Any:
    """Runs `nuner-embed` in a process of its own; see `run`."""
    done = subprocess.run(
        [sys.executable, "-m", "nuner_embed.cli", *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=not isinstance(stdin, bytes),
        env={**os.environ, **_ENVIRONMENT},
    )
    if check is not None:
        assert done.returncode == check, (done.stdout, done.stderr)
    return done
