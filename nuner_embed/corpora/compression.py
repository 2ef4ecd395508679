"""Plain, gzip and zstd files as streams of bytes."""

import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from nuner_embed.errors import CorpusError
from nuner_embed.files import OF_THE_PROCESS
from nuner_embed.limits import ZSTD_WINDOW_LOG

SUFFIXES = (".gz", ".zst")


@contextmanager
def open_bytes(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Opens a file for reading, decompressing by its suffix.

    Raises:
        CorpusError: the file cannot be opened, or its compressed data is broken, ends early or is missing; also while
            the file is read.
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
        if error.errno in OF_THE_PROCESS:  # the record is not bad: it must not be skipped
            raise
        raise CorpusError(name, None, f"cannot be read: {error.strerror or error}") from None


class _Empty(EOFError):
    """A compressed file has no bytes; gzip would read it as an empty text."""


@contextmanager
def _open(path: Path, name: str) -> Iterator[IO[bytes]]:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES and not path.stat().st_size:
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
    """Opens a zstd file with a window of at most 256 MiB; a file of a few kilobytes may ask for two gibibytes."""
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
