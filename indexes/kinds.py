"""What FAISS builds for each kind of index, and the parameters that a search of it takes."""

import math
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

# FAISS's type stubs do not know what its Python layer adds.
_FAISS: Any = faiss
KINDS = ("flat", "hnsw", "ivf", "ivf_pq")
# Points that k-means wants for each list, by FAISS's own warning.
_POINTS_A_LIST = 39


@dataclass(frozen=True, slots=True)
class SearchParameters:
    """How hard a search tries.

    Attributes:
        probes: inverted lists that are looked at.
        effort: HNSW's queue, efSearch.
        candidates: rows that are re-ranked by their stored vectors, as a multiple of k; 0 where FAISS's own order is
            exact.
    """

    probes: int = 16
    effort: int = 64
    candidates: int = 4

    def harder(self) -> "SearchParameters":
        """The next step on the way to more recall."""
        return replace(self, probes=self.probes * 2, effort=self.effort * 2, candidates=min(64, self.candidates * 2))


def factory_of(kind: str, rows: int, dim: int) -> str:
    """FAISS's factory string for a kind; any other is taken for such a string itself."""
    lists = max(1, min(round(4 * math.sqrt(rows)), rows // _POINTS_A_LIST))
    if kind == "flat" or (kind in KINDS and rows < 1000):
        return "Flat"
    if kind == "hnsw":
        return "HNSW32"
    if kind == "ivf":
        return f"IVF{lists},Flat"
    if kind == "ivf_pq":
        return f"IVF{lists},PQ{_codes(dim)}x4fsr"
    return kind


def _codes(dim: int) -> int:
    """Sub-vectors of a product quantiser: of about eight dimensions, even in number as fast scan wants."""
    fitting = [m for m in range(2, dim + 1, 2) if dim % m == 0 and dim / m >= 4]
    return min(fitting, key=lambda m: abs(dim / m - 8), default=dim)


def make(factory: str, dim: int, metric: int) -> Any:
    """An empty FAISS index.

    Raises:
        ValueError: FAISS does not know the string.
    """
    try:
        return _FAISS.index_factory(dim, factory, metric)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{factory!r} is neither {', '.join(KINDS)} nor a FAISS factory string: {reason}") from None


def is_exact(index: Any) -> bool:
    """Whether FAISS's distances are those of the very vectors it was given, so that nothing needs re-ranking."""
    return isinstance(_FAISS.downcast_index(index), _FAISS.IndexFlat | _FAISS.IndexIVFFlat | _FAISS.IndexHNSWFlat)


def parameters(index: Any, how: SearchParameters, keep: NDArray[np.bool_] | None) -> Any:
    """FAISS's own search parameters; `keep` restricts the search to the rows that it marks.

    The result holds references to what must outlive the search.
    """
    selector = {"sel": _selector(keep)} if keep is not None else {}
    inner = _FAISS.downcast_index(index)
    if isinstance(inner, _FAISS.IndexIVF):
        return _FAISS.SearchParametersIVF(nprobe=min(how.probes, inner.nlist), **selector)
    if isinstance(inner, _FAISS.IndexHNSW):
        return _FAISS.SearchParametersHNSW(efSearch=how.effort, **selector)
    return _FAISS.SearchParameters(**selector) if selector else None


def _selector(keep: NDArray[np.bool_]) -> Any:
    return _FAISS.IDSelectorBitmap(np.packbits(keep, bitorder="little"))
