"""FAISS's own file of a segment: a full disk is reported, and only a file that its factory string explains is read."""

import mmap
import re
import struct
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import faiss

from nuner_embed.errors import IndexBundleError
from nuner_embed.files import naming
from nuner_embed.indexes.faiss.factory import make
from nuner_embed.limits import MIB

# FAISS's type stubs do not know what its Python layer adds.
_FAISS: Any = faiss
_LIMIT = threading.Lock()  # FAISS has one limit for all
# What begins the files of indexes that hold no other index.
_PLAIN = frozenset({b"IxFI", b"IxF2", b"IxFl", b"IxSQ"})
_GRAPH = frozenset({b"IHNf", b"IHNs"})
_NUMBER = re.compile(r"[0-9]+")
_BITS = re.compile(r"x([0-9]+)")
# What FAISS writes as something more general than what it had made.
_WRITTEN_AS = {
    "IndexFlatIP": "IndexFlat",
    "IndexFlatL2": "IndexFlat",
    "PCAMatrix": "LinearTransform",
    "OPQMatrix": "LinearTransform",
    "RandomRotationMatrix": "LinearTransform",
    "HadamardRotation": "LinearTransform",
}
# What decides how bytes are read: of indexes, quantisers, transforms and lists.
_NUMBERS = (
    "d", "metric_type", "code_size", "nlist", "M", "M2", "ksub", "dsub", "nbits", "bbs", "qb", "qtype", "by_residual",
    "n_levels", "batch_size", "total_codebook_size", "n_per_block", "block_size",
)  # fmt: skip
_WIDTHS = ("d_in", "d_out")
_QUANTISERS = ("pq", "refine_pq", "sq", "rabitq", "aq")
_MAPPED = "OnDiskInvertedLists"


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


def size_of(index: Any) -> int:
    """The bytes that `write_faiss` would write."""
    sizes: list[int] = []

    def count(data: bytes) -> int:
        sizes.append(len(data))
        return len(data)

    _FAISS.write_index(index, _FAISS.PyCallbackIOWriter(count, 4 * MIB))
    return sum(sizes)


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
        raise IndexBundleError(
            f"{path} is not a FAISS index as {factory} makes it ({reason}); build it again"
        ) from None
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
        if _opens_elsewhere(index):
            raise ValueError("it keeps its lists in another file")
        if not _was_mapped(index):
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


def require_alike(found: Any, expected: Any, rows: int) -> None:
    """Refuses an index that is not of the kind and shape of another, or does not hold so many rows.

    Args:
        found: read from a file.
        expected: empty, made of a factory string.
        rows: that `found` should hold, numbered from 0.

    Raises:
        ValueError: naming what differs.
    """
    found, expected = _FAISS.downcast_index(found), _FAISS.downcast_index(expected)
    _require_same_kind(found, expected)
    _require_same_numbers(found, expected)
    if int(found.ntotal) != rows:
        raise ValueError(f"it holds {found.ntotal:,} rows, not {rows:,}")
    if not found.is_trained:
        raise ValueError(f"its {_kind(found)} is not trained")
    for name in _QUANTISERS:
        if hasattr(expected, name):
            _require_same_quantiser(getattr(found, name), getattr(expected, name), _splits(expected))
    if isinstance(found, _FAISS.IndexPreTransform):
        _require_same_chain(found, expected)
        require_alike(found.index, expected.index, rows)
    elif isinstance(found, _FAISS.IndexHNSW):
        _require_graph(found.hnsw, expected.hnsw)
        require_alike(found.storage, expected.storage, rows)
    elif isinstance(found, _FAISS.IndexIVF):
        if isinstance(found, _FAISS.IndexIVFFlatDedup):
            raise ValueError("it stores equal rows once, and its list of equal rows cannot be checked")
        require_alike(found.quantizer, expected.quantizer, int(found.nlist))
        _require_lists(found, expected, rows)
    elif hasattr(found, "codes") and hasattr(found, "code_size") and not isinstance(found, _FAISS.IndexFastScan):
        _require_codes(found, rows)


def _require_codes(found: Any, rows: int) -> None:
    if found.codes.size() < rows * found.code_size:  # more where they come in blocks
        raise ValueError(f"its {_kind(found)} holds {found.codes.size():,} bytes for {rows:,} rows")


def _opens_elsewhere(index: Any) -> bool:
    """Whether some lists of an index, read with FAISS's flag for mapping, lie in a file that it names."""
    return any(lists.filename for lists in _lists_of(index) if type(lists).__name__ == _MAPPED)


def _was_mapped(index: Any) -> bool:
    """Whether an index that was read with FAISS's flag for mapping is not in memory."""
    return any(type(lists).__name__ == _MAPPED for lists in _lists_of(index))


def _lists_of(index: Any) -> Iterator[Any]:
    index = _FAISS.downcast_index(index)
    if isinstance(index, _FAISS.IndexIVF):
        if index.invlists is not None:
            yield _FAISS.downcast_InvertedLists(index.invlists)
        yield from _lists_of(index.quantizer)
    for name in ("index", "storage", "base_index", "refine_index"):
        inner = getattr(index, name, None)
        if isinstance(inner, _FAISS.Index):
            yield from _lists_of(inner)


def _kind(part: Any) -> str:
    name = type(part).__name__
    return _WRITTEN_AS.get(name, name)


def _require_same_kind(found: Any, expected: Any) -> None:
    if _kind(found) != _kind(expected):
        raise ValueError(f"it holds a {_kind(found)} where a {_kind(expected)} should be")


def _require_same_numbers(found: Any, expected: Any, names: tuple[str, ...] = _NUMBERS) -> None:
    for name in names:
        if hasattr(expected, name):
            value, wanted = _plain(getattr(found, name)), _plain(getattr(expected, name))
            if value != wanted:
                raise ValueError(f"its {_kind(found)} has {name} {value}, {wanted} is expected")


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float) else _FAISS.vector_to_array(value).tolist()


def _splits(index: Any) -> int:
    """Into how many parts vectors are cut before they are quantised additively."""
    product = getattr(index, "prq", None) or getattr(index, "plsq", None)
    return int(product.nsplits) if product is not None else 1


def _require_same_quantiser(found: Any, expected: Any, splits: int) -> None:
    _require_same_numbers(found, expected)
    sizes = {}
    if hasattr(expected, "centroids"):
        sizes["centroids"] = expected.centroids.size()
    if hasattr(expected, "codebooks"):
        sizes["codebooks"] = expected.d // splits * expected.total_codebook_size
    if hasattr(expected, "trained"):
        sizes["trained"] = _scales(expected)
    for name, size in sizes.items():
        if getattr(found, name).size() != size:
            raise ValueError(f"its {_kind(found)} has {getattr(found, name).size()} {name}, not {size}")


def _scales(quantiser: Any) -> int:
    """How many numbers a scalar quantiser learns."""
    kinds = _FAISS.ScalarQuantizer
    if quantiser.qtype in (kinds.QT_8bit, kinds.QT_4bit, kinds.QT_6bit):
        return 2 * int(quantiser.d)
    return 2 if quantiser.qtype in (kinds.QT_8bit_uniform, kinds.QT_4bit_uniform) else 0


def _require_same_chain(found: Any, expected: Any) -> None:
    if found.chain.size() != expected.chain.size():
        raise ValueError(f"it transforms vectors {found.chain.size()} times, not {expected.chain.size()} times")
    for number in range(expected.chain.size()):
        one, other = (_FAISS.downcast_VectorTransform(index.chain.at(number)) for index in (found, expected))
        _require_same_kind(one, other)
        _require_same_numbers(one, other, _WIDTHS)
        if not one.is_trained:
            raise ValueError(f"its {_kind(one)} is not trained")
        if isinstance(one, _FAISS.LinearTransform) and (
            one.A.size() != one.d_in * one.d_out or one.b.size() != (one.d_out if one.have_bias else 0)
        ):
            raise ValueError(f"its {_kind(one)} is not a matrix of {one.d_out} x {one.d_in}")


def _require_graph(found: Any, expected: Any) -> None:
    """Refuses a graph of other layers; that its edges lead to rows, FAISS looks at itself as it reads them."""
    layers, wanted = found.cum_nneighbor_per_level, expected.cum_nneighbor_per_level
    if layers.size() < wanted.size() or any(layers.at(i) != wanted.at(i) for i in range(wanted.size())):
        raise ValueError("its graph has other links than expected")
    highest = int(_FAISS.vector_to_array(found.levels).max(initial=0))
    if not -1 <= found.max_level < max(1, highest):
        raise ValueError(f"its graph begins at layer {found.max_level} of {highest}")


def _require_lists(found: Any, expected: Any, rows: int) -> None:
    """Refuses lists that do not hold each row once."""
    lists, wanted = (_FAISS.downcast_InvertedLists(index.invlists) for index in (found, expected))
    _require_same_kind(lists, wanted)
    _require_same_numbers(lists, wanted)
    places = _FAISS.DirectMap()
    places.set_type(_FAISS.DirectMap.Array, lists, rows)  # looks that no number is below 0 or above rows
    if lists.compute_ntotal() != rows or _FAISS.vector_to_array(places.array).min(initial=0) < 0:
        raise ValueError("its lists do not hold each row once")
