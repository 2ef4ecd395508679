"""FAISS's own file of a segment: written so that a full disk is told, read only if it is what the manifest says."""

import mmap
import re
import struct
import threading
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import faiss

from nuner_embed.errors import IndexBundleError
from nuner_embed.files import naming
from nuner_embed.indexes.faiss_structure import opens_elsewhere, require_alike, was_mapped
from nuner_embed.indexes.kinds import make
from nuner_embed.limits import MIB

# FAISS's type stubs do not know what its Python layer adds.
_FAISS: Any = faiss
_LIMIT = threading.Lock()  # FAISS has one limit for all
# What begins the files of indexes that hold no other index.
_PLAIN = frozenset({b"IxFI", b"IxF2", b"IxFl", b"IxSQ"})
_GRAPH = frozenset({b"IHNf", b"IHNs"})
_NUMBER = re.compile(r"[0-9]+")
_BITS = re.compile(r"x([0-9]+)")
_MANY = 1 << 20


def write_faiss(index: Any, path: Path) -> None:
    """Writes a FAISS index.

    Raises:
        OSError: the disk is full, say; names the file.
    """
    with naming(path), path.open("wb") as stream:
        sink = _Sink(stream)
        try:
            _FAISS.write_index(index, _FAISS.PyCallbackIOWriter(sink, 4 * MIB))
        except Exception:
            if sink.problem is None:
                raise
        if sink.problem is not None:  # FAISS says nothing of what ended its writing
            raise sink.problem


class _Sink:
    """Takes what FAISS writes, and remembers what went wrong."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.problem: BaseException | None = None

    def __call__(self, data: bytes) -> int:
        if self.problem is None:
            try:
                self._stream.write(data)
            except BaseException as problem:
                self.problem = problem
                raise
        return len(data)


def read_faiss(path: Path, factory: str, dim: int, rows: int, metric: int) -> Any:
    """A FAISS index that is what the factory string makes, over so many rows, and nothing else.

    It never opens another file, as one with inverted lists of its own on disk would, and its header cannot claim more
    memory than its file explains.

    Args:
        path: of the file.
        factory: FAISS's string for what it should be.
        dim: of the vectors.
        rows: it should hold.
        metric: FAISS's number of the metric.

    Raises:
        IndexBundleError: it is damaged, or something else.
    """
    try:
        size = path.stat().st_size
        _require_small(factory, size)
        expected = _expected(factory, dim, metric)
        with _LIMIT:
            before = _FAISS.get_deserialization_vector_byte_limit()
            try:
                _FAISS.set_deserialization_vector_byte_limit(max(MIB, 16 * size))
                index = _read(path)
            finally:
                _FAISS.set_deserialization_vector_byte_limit(before)
        require_alike(index, expected, rows)
    except MemoryError:
        raise IndexBundleError(f"there is not enough memory to open {path} ({path.stat().st_size:,} bytes)") from None
    except (OSError, RuntimeError, ValueError, AttributeError, struct.error) as error:
        reason = str(error).strip().splitlines()[-1]
        raise IndexBundleError(f"{path} is no FAISS index as {factory} makes it ({reason}); build it again") from None
    return index


@lru_cache(maxsize=16)
def _expected(factory: str, dim: int, metric: int) -> Any:
    """An empty index to compare with; FAISS takes some milliseconds, and an index has one string for many segments."""
    return make(factory, dim, metric)


def _read(path: Path) -> Any:
    flags = _FAISS.IO_FLAG_READ_ONLY
    if not _holds_another(path):
        return _FAISS.read_index(str(path), flags)
    try:
        index = _FAISS.read_index(str(path), flags | _FAISS.IO_FLAG_MMAP)  # lists are named, and none is opened yet
    except RuntimeError:  # some kinds of lists cannot be mapped
        if _names_a_file(path):
            raise
    else:
        if opens_elsewhere(index):
            raise ValueError("it keeps lists in another file")
        if not was_mapped(index):
            return index
    return _FAISS.read_index(str(path), flags)


def _names_a_file(path: Path) -> bool:
    """Whether what begins lists in another file stands anywhere in a file."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(b"ilod") >= 0


def _require_small(factory: str, size: int) -> None:
    """Refuses a factory string that makes something larger than a file: it comes from a manifest.

    Raises:
        ValueError: it does.
    """
    numbers = [int(number) for number in _NUMBER.findall(factory)]
    bits = [int(number) for number in _BITS.findall(factory)]
    if any(number > size for number in numbers) or any(number > 16 and 2 ** min(number, 64) > size for number in bits):
        raise ValueError("its file is too small for that")


def _holds_another(path: Path) -> bool:
    """Whether an index is of a kind that may hold other indexes and lists, of which some open files."""
    with path.open("rb") as stream:
        kind = stream.read(4)
        if kind not in _GRAPH:
            return kind not in _PLAIN
        # a graph: width, size, two numbers without meaning, trained, metric; five lists of the graph; five numbers
        metric = struct.unpack("<iqqqBi", stream.read(33))[-1]
        stream.seek(4 if metric > 1 else 0, 1)
        for width in (8, 4, 4, 8, 4):
            stream.seek(width * struct.unpack("<Q", stream.read(8))[0], 1)
        stream.seek(20, 1)
        return stream.read(4) not in _PLAIN
