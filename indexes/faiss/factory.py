"""FAISS's factory strings: what each kind builds, which indexes can be searched here, and their search parameters."""

import contextlib
import math
import re
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from nuner_embed.indexes.base import KINDS, SearchParameters
from nuner_embed.indexes.vectors import Metric, require_metric

# FAISS's type stubs do not know what its Python layer adds.
_FAISS: Any = faiss
# Training points that FAISS's k-means asks for in each list; below, FAISS warns.
_POINTS_A_LIST = 39


def faiss_metric(metric: Metric) -> int:
    """FAISS's number for a metric; cosine is the inner product of unit vectors.

    Raises:
        ValueError: there is no such metric.
    """
    require_metric(metric)
    return int(faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)


def factory_of(kind: str, rows: int, dim: int) -> str:
    """FAISS's factory string for a kind; any other string is taken for a factory string."""
    lists = max(1, min(round(2 * math.sqrt(rows)), rows // _POINTS_A_LIST))
    if kind == "flat":
        return "Flat"
    if kind == "hnsw":
        return "HNSW32"
    if kind == "ivf":
        return f"IVF{lists},Flat"
    if kind == "ivf_pq":
        return f"IVF{lists},PQ{_codes(dim)}x4fsr"
    return kind


def _codes(dim: int) -> int:
    """Sub-vectors of a product quantiser: of about four dimensions, even in number as fast scan wants."""
    fitting = [m for m in range(2, dim + 1, 2) if dim % m == 0]
    return min(fitting, key=lambda m: abs(dim / m - 4), default=dim)


# The FAISS indexes that can be added to, written, read again and searched. Some cannot filter during a search, and some
# of those take no search parameters. All other indexes, such as NSG and lattices, are refused.
_WITHOUT_PARAMETERS = (
    _FAISS.IndexPQ
    | _FAISS.IndexFastScan
    | _FAISS.IndexAdditiveQuantizer
    | _FAISS.IndexLSH
    | _FAISS.IndexIVFAdditiveQuantizerFastScan
)
_WITHOUT_FILTER = _WITHOUT_PARAMETERS | _FAISS.IndexIVFAdditiveQuantizer
_SEARCHABLE = (
    _WITHOUT_FILTER
    | _FAISS.IndexFlat
    | _FAISS.IndexScalarQuantizer
    | _FAISS.IndexRaBitQ
    | _FAISS.IndexHNSW
    | _FAISS.IndexIVF
)

# Numbers that FAISS accepts, and that then crash the process.
_DEADLY = re.compile(r"(?<![0-9])0+(?![0-9])|HNSW1(?![0-9])")


def make(factory: str, dim: int, metric: int) -> Any:
    """An empty FAISS index.

    Raises:
        ValueError: FAISS does not know the string, or cannot build that for this width and metric; what it builds
            cannot be searched here, or does what this package does itself.
    """
    if _DEADLY.search(factory):
        raise ValueError(f"{factory!r}: every number must be at least 1, and HNSW needs 2 links or more")
    try:
        index = _FAISS.index_factory(dim, factory, metric)
    except RuntimeError as error:
        raise ValueError(_reason_against(factory, dim, metric, error)) from None
    inner = _innermost(index)
    if inner.metric_type != metric:  # FAISS builds HNSW over codes for l2, whatever metric is given
        raise ValueError(_for_another_metric(factory, metric))
    if isinstance(inner, _FAISS.IndexRefine | _FAISS.IndexIDMap):
        raise ValueError(
            f"{factory!r}: leave out parts that re-rank or that map ids, such as RFlat and IDMap; every index here "
            "does both itself"
        )
    # IndexIVFFlatDedup is refused: its file maps equal rows to others without a check that these rows exist
    if not isinstance(inner, _SEARCHABLE) or isinstance(inner, _FAISS.IndexIVFFlatDedup):
        raise ValueError(
            f"{factory!r}: FAISS's {type(inner).__name__} cannot be added to, written to disk and searched as an index "
            f"here must be; use {', '.join(KINDS)} or another factory string"
        )
    return index


def _reason_against(factory: str, dim: int, metric: int, error: RuntimeError) -> str:
    """Why FAISS does not build a string: the metric, or the string itself."""
    reason = str(error).strip().splitlines()[-1]
    with contextlib.suppress(RuntimeError):
        other = faiss.METRIC_INNER_PRODUCT if metric == faiss.METRIC_L2 else faiss.METRIC_L2
        _FAISS.index_factory(dim, factory, other)
        return _for_another_metric(factory, metric)
    return f"{factory!r} is neither auto, {', '.join(KINDS)} nor a FAISS factory string for {dim} dimensions: {reason}"


def _for_another_metric(factory: str, metric: int) -> str:
    only = "cosine and dot" if metric == faiss.METRIC_L2 else "l2"
    return f"FAISS builds {factory!r} for the metric {only} alone; give another --metric or another kind"


def _innermost(index: Any) -> Any:
    """The index behind all transforms of the vectors, such as PCA."""
    index = _FAISS.downcast_index(index)
    return _innermost(index.index) if isinstance(index, _FAISS.IndexPreTransform) else index


def is_exact(index: Any, metric: int) -> bool:
    """Whether FAISS's distances are exact scores of the rows that it finds, so that nothing needs re-ranking.

    They are not exact if the vectors are transformed first, nor for l2, which FAISS computes from inner products: few
    digits remain near 0.
    """
    return metric == faiss.METRIC_INNER_PRODUCT and _holds_vectors(_FAISS.downcast_index(index))


def _holds_vectors(index: Any) -> bool:
    """Whether FAISS compares with the vectors themselves, not with codes or transformed vectors."""
    return isinstance(index, _FAISS.IndexFlat | _FAISS.IndexIVFFlat | _FAISS.IndexHNSWFlat)


def is_exhaustive(index: Any) -> bool:
    """Whether FAISS compares with every row, uncompressed."""
    return isinstance(_FAISS.downcast_index(index), _FAISS.IndexFlat)


def filters(index: Any) -> bool:
    """Whether FAISS can restrict a search to some rows."""
    return not isinstance(_innermost(index), _WITHOUT_FILTER)


def parameters_of(index: Any, wanted: SearchParameters, keep: NDArray[np.bool_] | None) -> Any:
    """FAISS's own search parameters; `keep` marks the places that may be found, for an index that `filters`.

    None for an index that takes no parameters. The result keeps alive what must outlive the search.
    """
    index = _FAISS.downcast_index(index)
    if isinstance(_innermost(index), _WITHOUT_PARAMETERS):
        return None
    if isinstance(index, _FAISS.IndexPreTransform):
        return _FAISS.SearchParametersPreTransform(index_params=parameters_of(index.index, wanted, keep))
    selector = {"sel": _selector(keep)} if keep is not None else {}
    if isinstance(index, _FAISS.IndexIVF):
        return _FAISS.SearchParametersIVF(nprobe=min(wanted.nprobe, index.nlist), **selector)
    if isinstance(index, _FAISS.IndexHNSW):
        return _FAISS.SearchParametersHNSW(efSearch=min(wanted.ef_search, index.ntotal), **selector)
    return _FAISS.SearchParameters(**selector)


def refining(base: Any, k_factor: float) -> Any:
    """Parameters of a search of which `k_factor * k` candidates are compared by their stored vectors."""
    return _FAISS.IndexRefineSearchParameters(k_factor=k_factor, base_index_params=base)


def easier_to_harder(index: Any) -> Iterator[list[SearchParameters]]:
    """Settings to try, in families; within a family, each finds more than the one before, and is slower."""
    index = _FAISS.downcast_index(index)
    factors = (1,) if _holds_vectors(index) else (2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
    index = _innermost(index)
    lists = index.nlist if isinstance(index, _FAISS.IndexIVF) else 1
    probes = [p for p in _STEPS if p < lists] + [lists]
    for k_factor in factors:
        if isinstance(index, _FAISS.IndexHNSW):
            steps = [step for step in _STEPS if step >= 10 * k_factor]
            yield [SearchParameters(nprobe=1, ef_search=step, k_factor=k_factor) for step in steps]
        elif isinstance(index, _FAISS.IndexIVF) and not isinstance(index, _WITHOUT_PARAMETERS):
            yield [SearchParameters(nprobe=p, ef_search=1, k_factor=k_factor) for p in probes]
        else:
            yield [SearchParameters(nprobe=1, ef_search=1, k_factor=k_factor)]


_STEPS = [1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048]


def _selector(keep: NDArray[np.bool_]) -> Any:
    return _FAISS.IDSelectorBitmap(np.packbits(keep, bitorder="little"))
