"""Exact search with NumPy over the memory-mapped vectors of a segment: other backends are measured by it."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes.base import EXHAUSTIVE, Backend, SearchParameters
from nuner_embed.indexes.vectors import CHUNK_ROWS, Floats, Ints, Metric, Vectors, best, require_metric

# Bytes that the scores of a block of rows with all queries may take.
_BLOCK_BYTES = 64 << 20
_QUERIES = 4096  # at a time
_NOWHERE = np.iinfo(np.int64).max


def nearest(
    vectors: Vectors, queries: Floats, k: int, keep: NDArray[np.bool_] | None = None, end: int | None = None
) -> tuple[Floats, Ints]:
    """The k best rows for each query, by comparing the query with every row.

    Args:
        vectors: prepared for their metric.
        queries: prepared for the same metric, (q, dim).
        k: how many rows.
        keep: the places that may be found, (at least `end`,); None for all.
        end: one past the last place that is compared; None for all.

    Returns:
        Scores and places, (q, min(k, rows that may be found)), best first, equal scores by place. A score depends
        only on its query and its row, to the last digit, not on other queries or rows.
    """
    end = len(vectors) if end is None else end
    places = None if keep is None else np.flatnonzero(keep[:end])
    count = end if places is None else len(places)
    k = min(k, count)
    if not k or not len(queries):
        return np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    parts = [
        _nearest(vectors, queries[first : first + _QUERIES], k, places, count)
        for first in range(0, len(queries), _QUERIES)
    ]
    return np.concatenate([scores for scores, _ in parts]), np.concatenate([found for _, found in parts])


def _nearest(vectors: Vectors, queries: Floats, k: int, places: Ints | None, count: int) -> tuple[Floats, Ints]:
    scores, found = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    block = _block_rows(len(queries))
    for first in range(0, count, block):
        last = min(first + block, count)
        here = np.arange(first, last) if places is None else places[first:last]
        rows = np.ascontiguousarray(vectors.matrix[first:last], np.float32) if places is None else vectors.take(here)
        products = queries @ rows.T
        if vectors.metric == "l2":  # gives the order of the distances; the exact distances are computed later
            products -= np.einsum("nd,nd->n", rows, rows) / 2
        np.fmax(products, -np.inf, out=products)  # rows of damaged vectors come last: NaN has no order
        scores, found = _merged(scores, found, products, here, k)
    return best(_scores(vectors, queries, found), found, k)


def _block_rows(queries: int) -> int:
    """The number of rows whose scores with the queries are held in memory at a time."""
    return max(1024, min(CHUNK_ROWS, _BLOCK_BYTES // (4 * queries)))


def _merged(scores: Floats, found: Ints, products: Floats, here: Ints, k: int) -> tuple[Floats, Ints]:
    """The k best of the rows found before and of a block; only rows that can be among the k best are sorted."""
    if scores.shape[1] == k:
        query, row = np.nonzero(products > scores[:, -1:])
    elif products.shape[1] > k:
        query, row = np.nonzero(products >= -np.partition(-products, k - 1)[:, k - 1 : k])
    else:
        return best(np.hstack([scores, products]), np.hstack([found, np.broadcast_to(here, products.shape)]), k)
    if not len(query):
        return scores, found
    counts = np.bincount(query, minlength=len(products))
    slot = np.arange(len(query)) - (np.cumsum(counts) - counts)[query]
    candidates = np.full((len(products), counts.max()), -np.inf, np.float32)
    candidates[query, slot] = products[query, row]
    numbers = np.full(candidates.shape, _NOWHERE)
    numbers[query, slot] = here[row]
    return best(np.hstack([scores, candidates]), np.hstack([found, numbers]), k)


def _scores(vectors: Vectors, queries: Floats, places: Ints) -> Floats:
    """Each query's scores with the rows at its places, (q, k), computed pair by pair."""
    scores = np.empty(places.shape, np.float32)
    some = max(1, CHUNK_ROWS // places.shape[1])
    for first in range(0, len(queries), some):
        here = slice(first, first + some)
        near = vectors.take(places[here].ravel()).reshape(*places[here].shape, vectors.dim)
        if vectors.metric == "l2":
            scores[here] = -np.linalg.norm(queries[here, None] - near, axis=2)
        else:
            scores[here] = np.einsum("qd,qkd->qk", queries[here], near)
    return scores


class ExactBackend(Backend):
    """Looks at every row where it lies on disk. It needs no FAISS, no training, no file of its own and no memory."""

    def __init__(self, vectors: Vectors, size: int) -> None:
        self.spec = "numpy"
        self.vectors = vectors
        self._size = size

    @classmethod
    def spec_of(cls, kind: str, rows: int, dim: int) -> str:
        return kind

    @classmethod
    def require_buildable(cls, spec: str, dim: int, metric: Metric, *, gpu: bool) -> None:
        require_metric(metric)
        if gpu:
            raise IndexBundleError("--gpu trains inverted lists, and this kind has none; use --kind ivf or ivf_pq")

    @classmethod
    def new(cls, spec: str, vectors: Vectors) -> Self:
        return cls(vectors, 0)

    @classmethod
    def open(cls, path: Path | None, spec: str, vectors: Vectors) -> Self:
        if spec != "numpy":
            raise IndexBundleError(f"the manifest says that NumPy searches {spec[:60]!r}; build the index again")
        return cls(vectors, len(vectors))

    @classmethod
    def threads(cls, count: int) -> AbstractContextManager[None]:
        return _threads(count)

    def train(self, end: int, *, gpu: bool = False) -> None:
        return

    def add(self, vectors: Floats) -> None:
        self._size += len(vectors)

    def save(self, path: Path | None) -> None:
        return

    @property
    def size(self) -> int:
        return self._size

    @property
    def bytes_resident(self) -> int:
        return 0

    @property
    def is_exhaustive(self) -> bool:
        return True

    def settings(self) -> Iterator[list[SearchParameters]]:
        yield [EXHAUSTIVE]

    def search(
        self, queries: Floats, k: int, parameters: SearchParameters, keep: NDArray[np.bool_] | None = None
    ) -> tuple[Floats, Ints]:
        return nearest(self.vectors, queries, k, keep, self._size)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    if not count:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(count):
        yield
