"""Plain, gzip and zstd files as streams of bytes."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from nuner_embed.errors import CorpusError

SUFFIXES = (".gz", ".zst")


@contextmanager
def open_bytes(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Opens a file for reading, decompressing by its suffix.

    Raises:
        CorpusError: it cannot be opened, or its compressed data is broken or ends early; also while it is read.
    """
    try:
        with _open(path) as stream:
            yield stream
    except EOFError:
        raise CorpusError(name, None, "the compressed data ends early; the file is truncated, get it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(name, None, f"not valid gzip data ({error}); get the file again") from None
    except OSError as error:
        if path.suffix.lower() == ".zst" and error.errno is None:  # what Arrow says of broken zstd data
            reason = f"not valid zstd data ({str(error).splitlines()[0][:80]}); get the file again"
            raise CorpusError(name, None, reason) from None
        raise CorpusError(name, None, f"cannot be read: {error.strerror or error}") from None


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        with gzip.open(path, "rb") as stream:
            yield stream  # type: ignore[misc]
    elif suffix == ".zst":
        import io

        import pyarrow as pa

        with pa.input_stream(str(path), compression="zstd") as compressed:
            yield io.BufferedReader(compressed)
    else:
        with path.open("rb") as stream:
            yield stream
