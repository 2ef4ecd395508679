"""Lines of text out of bytes."""

from collections.abc import Iterator
from typing import IO

from nuner_embed.corpora.records import Item, reject

_BOM = "\ufeff"


def read_lines(stream: IO[bytes], name: str, *, carriage_returns: bool = False) -> Iterator[tuple[int, str] | Item]:
    """Numbered lines without their ends; a line that is no UTF-8 becomes a reject.

    A line feed ends a line, and one carriage return before it belongs to it; all else is text, but for byte order
    marks at the start of a line: where files were joined, each began with its own.

    Args:
        stream: of the file's bytes.
        name: of the file, for rejects.
        carriage_returns: whether carriage returns end lines too, as in files of old Macs.
    """
    for number, line in enumerate(_lines(stream, carriage_returns), start=1):
        try:
            yield number, _without_marks(line.decode("utf-8"), first=number == 1)
        except UnicodeDecodeError as error:
            reason = f"not valid UTF-8 at byte {error.start + 1} of the line; convert the file to UTF-8"
            yield reject(name, number, reason, line.decode("utf-8", "backslashreplace"))


def _without_marks(line: str, *, first: bool) -> str:
    bare = line.lstrip(_BOM)
    is_word = not first and bare.startswith(("\t", " "))  # in columns, a mark with nothing around it is a word
    return line if is_word else bare


def _lines(stream: IO[bytes], carriage_returns: bool) -> Iterator[bytes]:
    for raw in stream:
        if carriage_returns:
            yield from raw.rstrip(b"\r\n").split(b"\r")
        else:
            yield raw.removesuffix(b"\n").removesuffix(b"\r")
