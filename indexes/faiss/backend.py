"""FAISS as a backend: its index finds candidates, and the stored vectors behind it give the scores."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes.base import EXHAUSTIVE, Backend, SearchParameters, Untrainable
from nuner_embed.indexes.faiss.factory import (
    easier_to_harder,
    factory_of,
    faiss_metric,
    filters,
    is_exact,
    is_exhaustive,
    make,
    parameters_of,
    refining,
)
from nuner_embed.indexes.faiss.file import read_faiss, size_of, write_faiss
from nuner_embed.indexes.vectors import CHUNK_ROWS, Floats, Ints, Metric, Vectors, best
from nuner_embed.installation import install_command

# FAISS's type stubs lack what its Python layer adds.
_FAISS: Any = faiss
# If a filter leaves at most so many rows, all of them are compared: faster than any structure, and exact.
SCAN_ROWS = 20_000
# Training rows for each inverted list; more rows take long and hardly move the centroids.
_TRAINED_A_LIST = 50
_TRAINED = 65_536


class FaissBackend(Backend):
    """A FAISS index with the stored vectors behind it.

    Attributes:
        index: FAISS's own.
        refined: the index that compares candidates by their stored vectors; None where FAISS's distances are exact.
    """

    def __init__(self, index: Any, spec: str, vectors: Vectors) -> None:
        self.index = index
        self.spec = spec
        self.vectors = vectors
        self._bytes: int | None = None
        self._stored: Any = None
        self.refined: Any = None
        self._refine()

    @classmethod
    def spec_of(cls, kind: str, rows: int, dim: int) -> str:
        return factory_of(kind, rows, dim)

    @classmethod
    def require_buildable(cls, spec: str, dim: int, metric: Metric, *, gpu: bool) -> None:
        if gpu:
            require_gpu()
        make(spec, dim, faiss_metric(metric))

    @classmethod
    def new(cls, spec: str, vectors: Vectors) -> Self:
        return cls(make(spec, vectors.dim, faiss_metric(vectors.metric)), spec, vectors)

    @classmethod
    def open(cls, path: Path | None, spec: str, vectors: Vectors) -> Self:
        assert path is not None
        index = read_faiss(path, spec, vectors.dim, len(vectors), faiss_metric(vectors.metric))
        return cls(index, spec, vectors)

    @classmethod
    def threads(cls, count: int) -> AbstractContextManager[None]:
        return _threads(count)

    def train(self, end: int, *, gpu: bool = False) -> None:
        lists = _FAISS.try_extract_index_ivf(self.index)
        helper = _on_gpu(lists) if gpu else None  # kept alive, because FAISS holds only a pointer to it
        if not self.index.is_trained:
            wanted = max(_TRAINED, _TRAINED_A_LIST * lists.nlist) if lists else _TRAINED
            sample = np.linspace(0, end - 1, min(end, wanted)).astype(np.int64)
            try:
                self.index.train(self.vectors.take(sample))
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[-1]
                raise Untrainable(f"FAISS cannot train on {end:,} rows: {reason}; use --kind flat") from None
        if helper is not None:
            lists.clustering_index = None

    def add(self, vectors: Floats) -> None:
        self.index.add(vectors)
        self._bytes = None
        self._refine()

    def save(self, path: Path | None) -> None:
        assert path is not None
        write_faiss(self.index, path)
        self._bytes = path.stat().st_size

    @property
    def size(self) -> int:
        return int(self.index.ntotal)

    @property
    def bytes_resident(self) -> int:
        """The size of the file that FAISS makes of the index."""
        if self._bytes is None:
            self._bytes = size_of(self.index)
        return self._bytes

    @property
    def is_exhaustive(self) -> bool:
        return is_exhaustive(self.index)

    def settings(self) -> Iterator[list[SearchParameters]]:
        return iter([[EXHAUSTIVE]]) if self.is_exhaustive else easier_to_harder(self.index)

    def search(
        self, queries: Floats, k: int, parameters: SearchParameters, keep: NDArray[np.bool_] | None = None
    ) -> tuple[Floats, Ints]:
        """See `Backend.search`. If a filter leaves few rows, or FAISS cannot filter, every row left is compared."""
        allowed = self.size if keep is None else int(np.count_nonzero(keep))
        k = min(k, allowed)
        if k == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        if keep is None:
            return self._find(queries, k, parameters)
        if allowed <= max(SCAN_ROWS, k) or not filters(self.index):
            return scan(self.vectors, queries, k, keep)
        return self._find(queries, k, parameters.harder(self.size / allowed), keep)

    def _refine(self) -> None:
        """Makes `refined` for the rows added so far, if the distances of the index are not exact."""
        if not is_exact(self.index, faiss_metric(self.vectors.metric)):
            self._stored = _over(self.vectors)  # kept alive, because FAISS holds only a pointer to it
            self._stored.ntotal = self.index.ntotal
            self.refined = _FAISS.IndexRefine(self.index, self._stored)

    def _find(
        self, queries: Floats, k: int, parameters: SearchParameters, keep: NDArray[np.bool_] | None = None
    ) -> tuple[Floats, Ints]:
        """Searches with FAISS; queries for which FAISS returns too few rows (-1) are answered exactly."""
        base = parameters_of(self.index, parameters, keep)
        if self.refined is None:
            distances, places = self.index.search(queries, k, params=base)
        else:
            # FAISS cuts k_factor * k, in 32-bit floats, to a whole number: size / k * k may come to size - 1
            k_factor = max(1.0, min(parameters.k_factor, (self.size + 0.5) / k))
            distances, places = self.refined.search(queries, k, params=refining(base, k_factor))
        scores = _scores_of(distances, self.vectors.metric)
        if places.size and places.min() < 0:  # FAISS compared too few rows for these queries
            short = np.flatnonzero((places < 0).any(axis=1))
            scores[short], places[short] = scan(self.vectors, queries[short], k, keep, self.size)
        return scores, places


def scan(
    vectors: Vectors, queries: Floats, k: int, keep: NDArray[np.bool_] | None = None, end: int | None = None
) -> tuple[Floats, Ints]:
    """The k best rows for each query among those before `end` that `keep` marks, by FAISS's exact search.

    Args:
        vectors: prepared for their metric.
        queries: prepared for it too, (q, dim).
        k: at most the number of rows that may be found.
        keep: (n,); None for all.
        end: None for all.

    Returns:
        Scores and places, (q, k), best first.
    """
    metric = vectors.metric
    if keep is not None and (marked := np.flatnonzero(keep)).size <= CHUNK_ROWS:
        scores, places = _knn(queries, vectors.take(marked), k, metric, marked)
    else:
        scores, places = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        first = 0
        for chunk in vectors.chunks(0, len(vectors) if end is None else end):
            here = np.arange(first, first + len(chunk))
            first += len(chunk)
            if keep is not None:
                chosen = keep[here]
                here, chunk = here[chosen], chunk[chosen]
            if len(here):
                found = _knn(queries, chunk, min(k, len(here)), metric, here)
                scores, places = best(np.hstack([scores, found[0]]), np.hstack([places, found[1]]), k)
    if metric == "l2" and places.size:  # FAISS computes l2 from inner products, which leaves few digits near 0
        near = vectors.take(places.ravel()).reshape(*places.shape, vectors.dim)
        scores, places = best(-np.linalg.norm(queries[:, None] - near, axis=2), places, k)
    return scores, places


def _knn(queries: Floats, vectors: Floats, k: int, metric: Metric, places: Ints) -> tuple[Floats, Ints]:
    distances, found = faiss.knn(queries, vectors, k, metric=faiss_metric(metric))
    return _scores_of(distances, metric), places[found]


def _scores_of(distances: Floats, metric: Metric) -> Floats:
    """Scores from FAISS's distances: for l2 the negative distance."""
    return -np.sqrt(np.maximum(distances, 0)) if metric == "l2" else distances


def _over(vectors: Vectors) -> Any:
    """A FAISS index over the mapped vectors themselves, without a copy; the vectors must outlive the index.

    `faiss.IndexRefine` reads the vectors of candidates from this index.
    """
    bits = _FAISS.ScalarQuantizer.QT_fp16
    metric = faiss_metric(vectors.metric)
    index = (
        _FAISS.IndexScalarQuantizer(vectors.dim, bits, metric)
        if vectors.matrix.dtype == np.float16
        else _FAISS.IndexFlat(vectors.dim, metric)
    )
    if len(vectors):
        flat = vectors.matrix.view(np.uint8).reshape(-1)
        nobody = _FAISS.MaybeOwnedVectorUInt8().owner  # so that FAISS does not free memory that NumPy has mapped
        index.codes = _FAISS.MaybeOwnedVectorUInt8.create_view(_FAISS.swig_ptr(flat), flat.nbytes, nobody)
        index.ntotal = len(vectors)
    return index


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count or before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def require_gpu() -> None:
    """Checks that FAISS can use a GPU.

    Raises:
        IndexBundleError: it cannot.
    """
    if not hasattr(_FAISS, "StandardGpuResources") or not _FAISS.get_num_gpus():
        raise IndexBundleError(
            "no GPU that FAISS can use; pip uninstall onnxruntime faiss-cpu, then "
            f"{install_command('gpu')}; or leave out --gpu"
        )


def _on_gpu(lists: Any) -> Any:
    """Has a GPU compute the centroids of the lists; searches stay on the CPU.

    This was never run on a GPU. The tests use a CPU index in the place of the GPU's.
    """
    if lists is None:
        raise IndexBundleError("--gpu trains inverted lists, and this kind has none; use --kind ivf or ivf_pq")
    helper = _FAISS.index_cpu_to_all_gpus(_FAISS.IndexFlatL2(lists.d))
    lists.clustering_index = helper
    return helper
