"""Plain, gzip and zstd files as streams of bytes, and as lines of text."""

import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from nuner_embed.corpora.records import Item, reject
from nuner_embed.errors import CorpusError
from nuner_embed.files import OF_THE_PROCESS
from nuner_embed.limits import LINE_MIB, MIB, ZSTD_WINDOW_LOG

COMPRESSION_SUFFIXES = (".gz", ".zst")
_BOM = "\ufeff"
_PIECE = 1 << 16
_SHOWN = 2000  # bytes of a line that cannot be read


@contextmanager
def open_bytes(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Opens a file for reading, decompressing by its suffix.

    Raises:
        CorpusError: the file cannot be opened, or its compressed data is broken, incomplete or missing; may also be
            raised within the block.
    """
    try:
        with _open(path, name) as stream:
            yield stream
    except EOFError as error:
        reason = str(error) if isinstance(error, _Empty) else "the compressed data ends early; the file is truncated"
        raise CorpusError(name, None, f"{reason}, get it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(name, None, f"not valid gzip data ({error}); get the file again") from None
    except OSError as error:
        if error.errno in OF_THE_PROCESS:  # no fault of the record, which must not be skipped
            raise
        raise CorpusError(name, None, f"cannot be read: {error.strerror or error}") from None


class _Empty(EOFError):
    """A compressed file of 0 bytes, which gzip would read as an empty text."""


@contextmanager
def _open(path: Path, name: str) -> Iterator[IO[bytes]]:
    suffix = path.suffix.lower()
    if suffix in COMPRESSION_SUFFIXES and not path.stat().st_size:
        raise _Empty(f"the file is empty: even an empty text has some bytes as {suffix}")
    if suffix == ".gz":
        with gzip.open(path, "rb") as stream:
            yield stream  # type: ignore[misc]
    elif suffix == ".zst":
        with _open_zstd(path, name) as stream:
            yield stream
    else:
        with path.open("rb") as stream:
            yield stream


@contextmanager
def _open_zstd(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Opens a zstd file with a window of at most 256 MiB; a small file may demand a window of 2 GiB."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    window = zstd.DecompressionParameter.window_log_max
    try:
        with zstd.open(path, "rb", options={window: ZSTD_WINDOW_LOG}) as stream:
            yield stream  # type: ignore[misc]
    except zstd.ZstdError as error:
        if "too much memory" in str(error):
            megabytes = 1 << (ZSTD_WINDOW_LOG - 20)
            reason = f"unpacking it takes more than {megabytes} MiB of memory; unpack it first: zstd -d --long=31 FILE"
            raise CorpusError(name, None, reason) from None
        raise CorpusError(name, None, f"not valid zstd data ({error}); get the file again") from None


def read_lines(
    stream: IO[bytes], name: str, *, carriage_returns: bool = False, limit: int = LINE_MIB * MIB
) -> Iterator[tuple[int, str] | Item]:
    """Numbered lines without their ends; a line that is not UTF-8 or too long becomes a reject.

    A line feed, with one carriage return before it, ends a line. Byte order marks at the start of any line are removed,
    because joined files have one at the start of each part.

    Args:
        stream: of the file's bytes.
        name: of the file, for rejects.
        carriage_returns: whether carriage returns end lines too, as in files of old Macs.
        limit: most bytes of a line, at least 65,536; no more is held in memory.
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
    is_word = not first and bare.startswith(("\t", " "))  # in columns, a mark alone in a field is a word
    return line if is_word else bare


def _lines(stream: IO[bytes], limit: int) -> Iterator[tuple[bytes, bool]]:
    """Lines without their line feeds, and whether each is whole; a line over the limit is cut to its beginning.

    The stream is read in pieces, because 80 kB of a compressed file may hold gigabytes of one line.
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
