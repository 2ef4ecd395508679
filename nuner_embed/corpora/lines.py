"""Lines of text out of bytes."""

from collections.abc import Iterator
from typing import IO

from nuner_embed.corpora.records import Item, reject
from nuner_embed.limits import LINE_MIB, MIB

_BOM = "\ufeff"
_PIECE = 1 << 16
_SHOWN = 2000  # bytes of a line that cannot be read


def read_lines(
    stream: IO[bytes], name: str, *, carriage_returns: bool = False, limit: int = LINE_MIB * MIB
) -> Iterator[tuple[int, str] | Item]:
    """Numbered lines without their ends; a line that is no UTF-8, or is too long, becomes a reject.

    A line feed ends a line, and one carriage return before it belongs to it; all else is text, but for byte order
    marks at the start of a line: where files were joined, each began with its own.

    Args:
        stream: of the file's bytes.
        name: of the file, for rejects.
        carriage_returns: whether carriage returns end lines too, as in files of old Macs.
        limit: bytes of a line, at least 65,536; of a longer one no more is held in memory.
    """
    number = 0
    for raw, whole in _lines(stream, limit):
        if not whole:
            number += 1
            reason = f"the line has more than {limit / MIB:g} MiB; break it up, or read longer ones with --max-line-mib"
            yield reject(name, number, reason, raw.decode("utf-8", "backslashreplace"))
            continue
        for line in raw.rstrip(b"\r").split(b"\r") if carriage_returns else (raw.removesuffix(b"\r"),):
            number += 1
            try:
                yield number, _without_marks(line.decode("utf-8"), first=number == 1)
            except UnicodeDecodeError as error:
                reason = f"not valid UTF-8 at byte {error.start + 1} of the line; convert the file to UTF-8"
                yield reject(name, number, reason, line[:_SHOWN].decode("utf-8", "backslashreplace"))


def _without_marks(line: str, *, first: bool) -> str:
    bare = line.lstrip(_BOM)
    is_word = not first and bare.startswith(("\t", " "))  # in columns, a mark with nothing around it is a word
    return line if is_word else bare


def _lines(stream: IO[bytes], limit: int) -> Iterator[tuple[bytes, bool]]:
    """Lines without their line feeds, and whether each is whole; of a longer one than the limit only its beginning.

    Read in pieces, since a line's end may never come: 80 kB of a compressed file may hold gigabytes of one line.
    """
    pieces: list[bytes] = []  # of the line that has begun
    length = 0
    while piece := stream.read1(_PIECE):  # type: ignore[attr-defined]
        first, *lines = piece.split(b"\n")
        was_whole = length <= limit
        length += len(first)
        if length <= limit:
            pieces.append(first)
        elif was_whole:
            yield (pieces[0] if pieces else first)[:_SHOWN], False
            pieces = []
        if not lines:
            continue
        if length <= limit:
            yield b"".join(pieces), True
        last = lines.pop()
        for line in lines:
            yield line, True
        pieces, length = [last], len(last)
    if 0 < length <= limit:
        yield b"".join(pieces), True
