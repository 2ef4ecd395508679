"""The vectors behind an index, memory-mapped, and the scores between them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Self, get_args

import faiss
import numpy as np
from numpy.typing import NDArray

from nuner_embed.arrays import map_array, write_header, write_numbers
from nuner_embed.errors import IndexBundleError
from nuner_embed.files import naming
from nuner_embed.indexes.order import Ints, Order

Metric = Literal["cosine", "dot", "l2"]
Floats = NDArray[np.float32]
_CHUNK_ROWS = 65536
# FAISS's type stubs do not know what its Python layer adds.
_FAISS: Any = faiss


def faiss_metric(metric: Metric) -> int:
    """FAISS's number for a metric; cosine is the inner product of unit vectors.

    Raises:
        ValueError: no such metric.
    """
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be {', '.join(get_args(Metric))}, not {metric!r}")
    return int(faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)


def prepared(vectors: NDArray[np.floating[Any]], metric: Metric) -> Floats:
    """Vectors as FAISS sees them: float32, contiguous, of unit length for cosine."""
    found = np.ascontiguousarray(vectors, dtype=np.float32)
    if metric == "cosine":
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        found = found / np.maximum(lengths, np.float32(1e-12))
    return found


def scores_of(distances: Floats, metric: Metric) -> Floats:
    """Scores, where higher is better, from FAISS's distances: for l2 the negative distance."""
    return -np.sqrt(np.maximum(distances, 0)) if metric == "l2" else distances


def write_vectors(path: Path, chunks: Iterable[NDArray[np.floating[Any]]], order: Order, dim: int, dtype: str) -> None:
    """Writes rows that come a chunk at a time as a matrix in FAISS's order.

    Raises:
        OSError: the disk is full, say; names the file. A sparse file mapped into memory would end the process instead.
    """
    late = np.empty((len(order.late), dim), dtype)
    first = 0
    with naming(path), path.open("wb") as stream:
        write_header(stream, (order.size, dim), np.dtype(dtype))
        for chunk in chunks:
            places = order.places(np.arange(first, first + len(chunk)))
            first += len(chunk)
            held = places >= order.early
            late[places[held] - order.early] = chunk[held]
            early = chunk[~held] if held.any() else chunk
            write_numbers(stream, early.astype(dtype, copy=False))
        write_numbers(stream, late)


class Vectors:
    """Vectors as FAISS sees them, read where they lie on the disk.

    Attributes:
        matrix: (n, dim), float16 or float32, contiguous.
        metric: what they are compared by.
    """

    def __init__(self, matrix: NDArray[np.floating[Any]], metric: Metric) -> None:
        self.matrix = matrix
        self.metric: Metric = metric

    @classmethod
    def open(cls, path: Path, metric: Metric) -> Self:
        """Maps a file into memory.

        Raises:
            IndexBundleError: it is missing or no such matrix.
        """
        try:
            matrix: NDArray[np.floating[Any]] = map_array(path)
        except (OSError, ValueError, EOFError) as error:
            raise IndexBundleError(f"{path} cannot be read ({error}); build the index again") from None
        if matrix.ndim != 2 or matrix.dtype not in (np.float16, np.float32) or not matrix.flags.c_contiguous:
            raise IndexBundleError(f"{path} is no matrix of float16 or float32; build the index again")
        return cls(matrix, metric)

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.matrix.shape[1])

    def as_index(self) -> Any:
        """A FAISS index that compares with these very bytes, without a copy; it must not outlive us.

        Its worth is in `faiss.IndexRefine`, which looks at those vectors that another index names.
        """
        bits = _FAISS.ScalarQuantizer.QT_fp16
        index = (
            _FAISS.IndexScalarQuantizer(self.dim, bits, faiss_metric(self.metric))
            if self.matrix.dtype == np.float16
            else _FAISS.IndexFlat(self.dim, faiss_metric(self.metric))
        )
        if len(self):
            flat = self.matrix.view(np.uint8).reshape(-1)
            nobody = _FAISS.MaybeOwnedVectorUInt8().owner  # FAISS is not to free what numpy has mapped
            index.codes = _FAISS.MaybeOwnedVectorUInt8.create_view(_FAISS.swig_ptr(flat), flat.nbytes, nobody)
            index.ntotal = len(self)
        return index

    def take(self, places: Ints) -> Floats:
        """Some of them, (len(places), dim)."""
        return np.ascontiguousarray(self.matrix[places], dtype=np.float32)

    def chunks(self, begin: int, end: int) -> Iterator[Floats]:
        """Those from one place to another, some at a time."""
        for first in range(begin, end, _CHUNK_ROWS):
            yield np.ascontiguousarray(self.matrix[first : min(end, first + _CHUNK_ROWS)], dtype=np.float32)

    def scan(
        self, queries: Floats, k: int, keep: NDArray[np.bool_] | None = None, end: int | None = None
    ) -> tuple[Floats, Ints]:
        """The k best of each query by looking at all before `end`, or at those of them that `keep` marks.

        Args:
            queries: prepared, (q, dim).
            k: at most as many as there are.
            keep: (n,), or None for all.
            end: or None for all.

        Returns:
            Scores and places, (q, k), best first.
        """
        if keep is not None and (marked := np.flatnonzero(keep)).size <= _CHUNK_ROWS:
            return self._knn(queries, self.take(marked), k, marked)
        scores, places = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        first = 0
        for chunk in self.chunks(0, len(self) if end is None else end):
            here = np.arange(first, first + len(chunk))
            first += len(chunk)
            if keep is not None:
                chosen = keep[here]
                here, chunk = here[chosen], chunk[chosen]
            if len(here):
                found = self._knn(queries, chunk, min(k, len(here)), here)
                scores, places = best(np.hstack([scores, found[0]]), np.hstack([places, found[1]]), k)
        return scores, places

    def neighbours(
        self, queries: Floats, k: int, keep: NDArray[np.bool_] | None = None, end: int | None = None
    ) -> tuple[Floats, Ints]:
        """As `scan`, with scores that are right to the last digit: FAISS takes l2 apart, which near 0 leaves little."""
        scores, places = self.scan(queries, k, keep, end)
        if self.metric == "l2" and places.size:
            near = self.take(places.ravel()).reshape(*places.shape, self.dim)
            scores, places = best(-np.linalg.norm(queries[:, None] - near, axis=2), places, k)
        return scores, places

    def _knn(self, queries: Floats, vectors: Floats, k: int, places: Ints) -> tuple[Floats, Ints]:
        distances, found = faiss.knn(queries, vectors, k, metric=faiss_metric(self.metric))
        return scores_of(distances, self.metric), places[found]


def best(scores: Floats, places: Ints, k: int) -> tuple[Floats, Ints]:
    """The k highest scores of each row with their places, best first; ties by place."""
    order = np.lexsort((places, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(places, order, axis=1)
