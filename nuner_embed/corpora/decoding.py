"""Lines of text out of bytes."""

from collections.abc import Iterator
from typing import IO

from nuner_embed.corpora.records import Item, reject

_BOM = b"\xef\xbb\xbf"


def read_lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, str] | Item]:
    """Numbered lines without their ends; a line that is no UTF-8 becomes a reject.

    Only a line feed ends a line, and one carriage return before it belongs to it; all else is text.
    """
    for number, raw in enumerate(stream, start=1):
        line = raw.removesuffix(b"\n").removesuffix(b"\r")
        if number == 1:
            line = line.removeprefix(_BOM)
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            reason = f"not valid UTF-8 at byte {error.start + 1} of the line; convert the file to UTF-8"
            yield reject(name, number, reason, line.decode("utf-8", "backslashreplace"))
