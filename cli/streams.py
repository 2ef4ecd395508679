"""Standard output and standard error, whatever is at their other end: the one place that writes to either.

Every line for people is escaped here: what files, models and servers say cannot move the cursor, begin a line of its
own, or turn text round. A progress bar, where one is shown, makes room for what is written.
"""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import Protocol, TextIO

from nuner_embed.printable import printable

_LINE_ENDS = re.compile("[\n\t]")  # of what others write to standard error: warnings, tracebacks


class Bar(Protocol):
    """A progress bar on a terminal."""

    def print_above(self, line: str) -> None:
        """Prints a line of standard error, below which the bar goes on."""

    def make_room(self) -> None:
        """Takes the bar off the terminal until it moves again."""


_bars: list[Bar] = []


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
    if _descriptor(sys.stdout) == 1 and not isinstance(_file_of(sys.stdout), _Results):
        sys.stdout = _text_of(_Results(1, "wb", closefd=False), sys.stdout)
    if not isinstance(sys.stderr, _Messages):
        ours = _descriptor(sys.stderr) == 2
        below = _text_of(_Heedless(2, "wb", closefd=False), sys.stderr, always_by_line=True) if ours else sys.stderr
        sys.stderr = _Messages(below)


def _descriptor(stream: TextIO) -> int:
    try:
        return stream.fileno()
    except OSError:  # it is no file: a test's, or a notebook's
        return -1


def _file_of(stream: TextIO) -> object:
    return getattr(getattr(stream, "buffer", None), "raw", None)


def _text_of(file: io.FileIO, like: TextIO, *, always_by_line: bool = False) -> TextIO:
    """A file for text; what its encoding does not have is escaped."""
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=like.encoding,
        errors="backslashreplace",
        line_buffering=always_by_line or bool(getattr(like, "line_buffering", False)),
    )


class _Results(io.FileIO):
    """Standard output, which has a name where it cannot be written."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from None


class _Heedless(io.FileIO):
    """A file that drops what cannot be written: the reader has gone, the terminal too, or the disk is full."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return memoryview(data).nbytes  # type: ignore[arg-type]


class _Through(io.TextIOBase):
    """Text on its way to a file."""

    @property
    def below(self) -> TextIO:
        """The file."""
        raise NotImplementedError

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the file."""
        return self.below.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """How the file takes what its encoding does not have."""
        return self.below.errors

    def flush(self) -> None:
        """Flushes the file."""
        self.below.flush()

    def fileno(self) -> int:
        """The file's descriptor."""
        return self.below.fileno()

    def isatty(self) -> bool:
        """Whether the file is a terminal."""
        return self.below.isatty()

    def writable(self) -> bool:
        """It is."""
        return True


class _Messages(_Through):
    """Standard error as all but the progress bar see it: what is unsafe is escaped, whoever writes it."""

    def __init__(self, below: TextIO) -> None:
        self._below = below
        self._begun = ""  # of a line, while a bar is shown

    @property
    def below(self) -> TextIO:
        """Standard error as it is."""
        return self._below

    def write(self, text: str, /) -> int:
        """Writes a text, whole lines at a time where a bar is shown."""
        shown = self._begun + _escaped(text)
        if _bars:
            *lines, self._begun = shown.split("\n")
            for line in lines:
                _bars[-1].print_above(line)
        else:
            self._begun = ""
            self.below.write(shown)
        return len(text)


class Output(_Through):
    """Standard output as a file that goes through `write`."""

    @property
    def below(self) -> TextIO:
        """Standard output."""
        return sys.stdout

    def write(self, text: str, /) -> int:
        """Writes a text exactly."""
        write(text)
        return len(text)


def _escaped(text: str) -> str:
    """A text in which nothing acts but line ends and tabs."""
    if text.isprintable():
        return text
    parts = _LINE_ENDS.split(text)
    return "".join(f"{printable(part)}{end}" for part, end in zip(parts, [*_LINE_ENDS.findall(text), ""], strict=True))


def terminal() -> TextIO:
    """Standard error without an escape, for what draws on a terminal."""
    return sys.stderr.below if isinstance(sys.stderr, _Messages) else sys.stderr


@contextlib.contextmanager
def making_room(bar: Bar) -> Iterator[None]:
    """While the block runs, the bar makes room for what is written."""
    _bars.append(bar)
    try:
        yield
    finally:
        _bars.remove(bar)


def say(*lines: str) -> None:
    """Lines for people on standard error; a line's end within one is escaped as well."""
    for line in lines:
        print(printable(line), file=sys.stderr, flush=True)


def show(*lines: str) -> None:
    """Lines for people on standard output; a line's end within one is escaped as well."""
    write("".join(f"{printable(line)}\n" for line in lines))


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def write(text: str) -> None:
    """Writes a part of the results on standard output, exactly.

    Raises:
        OSError: it cannot be written.
    """
    if _bars and on_terminal():
        for bar in _bars:
            bar.make_room()
    sys.stdout.write(text)
    sys.stdout.flush()


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
