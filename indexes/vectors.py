"""Vectors on disk, in parts, and the scores between them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import faiss
import numpy as np
from numpy.typing import NDArray

from nuner_embed.errors import IndexBundleError

Metric = Literal["cosine", "dot", "l2"]
Floats = NDArray[np.float32]
_CHUNK_ROWS = 65536


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


class Vectors:
    """A matrix (rows, dim) in memory-mapped parts.

    Raises:
        IndexBundleError: a part is missing, no matrix, or of another width.
    """

    def __init__(self, paths: Sequence[Path], metric: Metric) -> None:
        self._parts = [_open(path) for path in paths]
        self.metric = metric
        self.bounds = np.concatenate([[0], np.cumsum([len(part) for part in self._parts])]).astype(np.int64)
        widths = {part.shape[1] for part in self._parts}
        if len(widths) != 1:
            raise IndexBundleError(
                f"the parts of {paths[0].parent} have widths {sorted(widths)}; build the index again"
            )
        (self.dim,) = widths

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def take(self, rows: NDArray[np.int64]) -> Floats:
        """Some rows as FAISS sees them, (len(rows), dim)."""
        return prepared(self.stored(rows), self.metric)

    def stored(self, rows: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """Some rows as they are stored, (len(rows), dim)."""
        if len(self._parts) == 1:
            return self._parts[0][rows]
        found = np.empty((len(rows), self.dim), np.result_type(*self._parts))
        part = np.searchsorted(self.bounds, rows, side="right") - 1
        for number in np.unique(part):
            here = part == number
            found[here] = self._parts[number][rows[here] - self.bounds[number]]
        return found

    def chunks(self, size: int = _CHUNK_ROWS) -> Iterator[tuple[int, Floats]]:
        """All rows as FAISS sees them, so many at a time, each chunk with its first row's number."""
        for begin, part in zip(self.bounds, self._parts, strict=False):
            for first in range(0, len(part), size):
                yield int(begin) + first, prepared(part[first : first + size], self.metric)

    def scores(self, queries: Floats, rows: NDArray[np.int64]) -> Floats:
        """Exact scores of some rows for each query, (q, k); higher is better.

        Args:
            queries: prepared, (q, dim).
            rows: their candidates, (q, k).
        """
        q, k = rows.shape
        scores = np.empty((q, k), np.float32)
        step = max(1, _CHUNK_ROWS // max(1, k))
        for a in range(0, q, step):
            part = rows[a : a + step]
            found = self.take(part.ravel()).reshape(*part.shape, self.dim)
            scores[a : a + step] = score(queries[a : a + step, None, :], found, self.metric)
        return scores

    def scan(self, queries: Floats, k: int, keep: NDArray[np.bool_] | None) -> tuple[Floats, NDArray[np.int64]]:
        """The k best rows of each query by looking at all of them, or at those that `keep` marks.

        Returns:
            Scores and row numbers, (q, k), best first; k must not exceed what there is.
        """
        if keep is not None and keep.sum() <= _CHUNK_ROWS:
            rows = np.flatnonzero(keep)
            return _knn(queries, self.take(rows), k, self.metric, rows)
        scores, places = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        for first, chunk in self.chunks():
            rows = np.arange(first, first + len(chunk))
            if keep is not None:
                marked = keep[first : first + len(chunk)]
                rows, chunk = rows[marked], chunk[marked]
            if not len(rows):
                continue
            found = _knn(queries, chunk, min(k, len(rows)), self.metric, rows)
            scores, places = best(np.hstack([scores, found[0]]), np.hstack([places, found[1]]), k)
        return scores, places


def score(a: Floats, b: Floats, metric: Metric) -> Floats:
    """Inner products, or for l2 the negative distances, over the last axis; higher is better."""
    if metric == "l2":
        return -np.sqrt(np.sum((a - b) ** 2, axis=-1, dtype=np.float32))
    found: Floats = np.einsum("...d,...d->...", a, b, dtype=np.float32)
    return found


def best(scores: Floats, places: NDArray[np.int64], k: int) -> tuple[Floats, NDArray[np.int64]]:
    """The k highest scores of each row with their places, best first; ties by place."""
    order = np.lexsort((places, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(places, order, axis=1)


def _knn(
    queries: Floats, vectors: Floats, k: int, metric: Metric, rows: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.int64]]:
    distances, places = faiss.knn(queries, vectors, k, metric=faiss_metric(metric))
    scores = -np.sqrt(np.maximum(distances, 0)) if metric == "l2" else distances
    return scores.astype(np.float32), rows[places]


def _open(path: Path) -> NDArray[np.floating[Any]]:
    try:
        part: NDArray[np.floating[Any]] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IndexBundleError(f"{path} cannot be read ({error}); build the index again") from None
    if part.ndim != 2 or part.dtype not in (np.float16, np.float32):
        raise IndexBundleError(f"{path} is no matrix of float16 or float32; build the index again")
    return part
