"""Standard output and standard error; nothing else in the command line writes to either.

Every line for people is escaped here: text from files, models and servers cannot move the cursor, start a new line, or
reverse the direction of text. A progress bar, if one is shown, makes room for what is written.
"""

import abc
import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import Protocol, TextIO

from nuner_embed.printable import printable

_LINE_ENDS = re.compile("[\n\t]")  # kept in what other code writes to standard error, such as warnings and tracebacks


class Bar(Protocol):
    """A progress bar on a terminal."""

    def print_above(self, line: str) -> None:
        """Prints a line of standard error, below which the bar goes on."""

    def make_room(self) -> None:
        """Takes the bar off the terminal until it moves again."""


_bars: list[Bar] = []


def make_ready() -> None:
    """Makes writing to standard error never fail, and opens the standard streams that were closed at the start.

    Otherwise the next file that is opened would get the closed descriptor, and messages would go into that file.
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
    except OSError:  # not a file, as in a test or a notebook
        return -1


def _file_of(stream: TextIO) -> object:
    return getattr(getattr(stream, "buffer", None), "raw", None)


def _text_of(file: io.FileIO, like: TextIO, *, always_by_line: bool = False) -> TextIO:
    """A text file over `file` with the settings of `like`; characters that the encoding lacks are escaped."""
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=like.encoding,
        errors="backslashreplace",
        line_buffering=always_by_line or bool(getattr(like, "line_buffering", False)),
    )


class _Results(io.FileIO):
    """Standard output; an error of writing names it."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from None


class _Heedless(io.FileIO):
    """A file that drops what cannot be written, because the reader or the terminal has gone, or the disk is full."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return memoryview(data).nbytes  # type: ignore[arg-type]


class _Through(io.TextIOBase, abc.ABC):
    """Text on its way to another file, which is asked for everything but `write`."""

    @property
    @abc.abstractmethod
    def below(self) -> TextIO:
        """The other file."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the file below."""
        return self.below.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """What the file below does with characters that its encoding does not have."""
        return self.below.errors

    def flush(self) -> None:
        """Flushes the file below."""
        self.below.flush()

    def fileno(self) -> int:
        """The descriptor of the file below."""
        return self.below.fileno()

    def isatty(self) -> bool:
        """Whether the file below is a terminal."""
        return self.below.isatty()

    def writable(self) -> bool:
        """Always true."""
        return True


class _Messages(_Through):
    """Standard error for everything but the progress bar: unsafe characters are escaped, whatever code writes them."""

    def __init__(self, below: TextIO) -> None:
        self._below = below
        self._begun = ""  # the unfinished last line, while a bar is shown

    @property
    def below(self) -> TextIO:
        """Standard error itself, without escapes."""
        return self._below

    def write(self, text: str, /) -> int:
        """Writes a text; while a bar is shown, only whole lines."""
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
    """The text with every control character escaped, except line ends and tabs."""
    if text.isprintable():
        return text
    parts = _LINE_ENDS.split(text)
    return "".join(f"{printable(part)}{end}" for part, end in zip(parts, [*_LINE_ENDS.findall(text), ""], strict=True))


def terminal() -> TextIO:
    """Standard error without escapes, for code that draws on a terminal."""
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
    """Prints lines for people on standard error; a line end within a line is escaped as well."""
    for line in lines:
        print(printable(line), file=sys.stderr, flush=True)


def show(*lines: str) -> None:
    """Prints lines for people on standard output; a line end within a line is escaped as well."""
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
    """Flushes both streams, so that Python reports no error when it flushes them at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            drop(stream)


def drop(stream: TextIO) -> None:
    """Discards what the stream still holds, and everything that is written to the stream from now on."""
    with contextlib.suppress(OSError):  # not a file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
