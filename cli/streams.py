"""Standard output and standard error, whatever is at their other end."""

import contextlib
import io
import os
import sys
from typing import TextIO


def make_ready() -> None:
    """Makes standard error one that never ends a job, and opens what was closed when the process began.

    A closed descriptor would be given to the next file that is opened, into which messages were then written.
    """
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(descriptor)
        sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    with contextlib.suppress(OSError):  # it is no file: a test's, or a notebook's
        if sys.stderr.fileno() == 2:
            sys.stderr = io.TextIOWrapper(
                io.BufferedWriter(_Heedless(2, "wb", closefd=False)),
                encoding=sys.stderr.encoding,
                errors="backslashreplace",
                line_buffering=True,
            )


class _Heedless(io.FileIO):
    """A file that drops what cannot be written: the reader has gone, the terminal too, or the disk is full."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return memoryview(data).nbytes  # type: ignore[arg-type]


def say(text: str) -> None:
    """A line on standard error, from where nothing but Python's own library is imported."""
    print(text, file=sys.stderr, flush=True)


def leave() -> None:
    """Sees to it that Python finds nothing to complain about when it flushes the streams at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            drop(stream)


def drop(stream: TextIO) -> None:
    """What is written from now on, and what was not yet, goes nowhere."""
    with contextlib.suppress(OSError):  # it is no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
