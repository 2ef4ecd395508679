"""What a FAISS index consists of, compared part by part with one that was made for the purpose."""

from collections.abc import Iterator
from typing import Any

import faiss

# FAISS's type stubs do not know what its Python layer adds.
_FAISS: Any = faiss
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
            raise ValueError("it names rows that are equal to others where they cannot be checked")
        require_alike(found.quantizer, expected.quantizer, int(found.nlist))
        _require_lists(found, expected, rows)
    elif hasattr(found, "codes") and hasattr(found, "code_size") and not isinstance(found, _FAISS.IndexFastScan):
        _require_codes(found, rows)


def _require_codes(found: Any, rows: int) -> None:
    if found.codes.size() < rows * found.code_size:  # more where they come in blocks
        raise ValueError(f"its {_kind(found)} holds {found.codes.size():,} bytes for {rows:,} rows")


def opens_elsewhere(index: Any) -> bool:
    """Whether some lists of an index, read with FAISS's flag for mapping, lie in a file that it names."""
    return any(lists.filename for lists in _lists_of(index) if type(lists).__name__ == _MAPPED)


def was_mapped(index: Any) -> bool:
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
            raise ValueError(f"its {_kind(one)} is no matrix of {one.d_out} x {one.d_in}")


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
