"""The vectors of a segment: their order, their preparation for a metric, and the file that they are mapped from."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arrays import map_array, write_header, write_numbers
from nuner_embed.errors import IndexBundleError
from nuner_embed.files import naming

Metric = Literal["cosine", "dot", "l2"]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
CHUNK_ROWS = 65_536  # that are held in memory at a time


def require_metric(metric: str) -> None:
    """Checks the name of a metric.

    Raises:
        ValueError: the metric is unknown.
    """
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be {', '.join(get_args(Metric))}, not {metric!r}")


def prepared(vectors: NDArray[np.floating[Any]], metric: Metric) -> Floats:
    """Vectors in the form that backends need: float32, contiguous, of unit length for cosine."""
    found = np.ascontiguousarray(vectors, dtype=np.float32)
    if metric == "cosine":
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        found = found / np.maximum(lengths, np.float32(1e-12))
    return found


def best(scores: Floats, places: Ints, k: int) -> tuple[Floats, Ints]:
    """The k highest scores of each query and their places, best first; equal scores by place."""
    order = np.lexsort((places, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(places, order, axis=1)


@dataclass(frozen=True, slots=True)
class Order:
    """The places of a segment's rows: in the order of the stores, but with the held-out rows at the end.

    Attributes:
        size: the number of rows.
        late: the rows that were held out while recall was measured, and added last; ascending.
    """

    size: int
    late: Ints

    @property
    def early(self) -> int:
        """The number of rows that were not held out."""
        return self.size - len(self.late)

    def rows(self, places: Ints) -> Ints:
        """The rows at places of any shape."""
        if not len(self.late):
            return places
        # each late row moves all early rows after it forward by one place
        gaps = self.late - np.arange(len(self.late))
        rows = places + np.searchsorted(gaps, places, side="right")
        last = places >= self.early
        rows[last] = self.late[places[last] - self.early]
        return rows

    def places(self, rows: Ints) -> Ints:
        """The places of rows."""
        if not len(self.late):
            return rows
        before = np.searchsorted(self.late, rows)
        held = before < len(self.late)
        held[held] = self.late[before[held]] == rows[held]
        return np.where(held, self.early + before, rows - before)

    def marked(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mark for each row, (size,), as a mark for each place."""
        return np.concatenate([np.delete(rows, self.late), rows[self.late]]) if len(self.late) else rows


def write_vectors(path: Path, chunks: Iterable[NDArray[np.floating[Any]]], order: Order, dim: int, dtype: str) -> None:
    """Writes rows that come a chunk at a time as a matrix, in the order of their places.

    Raises:
        OSError: the file cannot be written, for instance on a full disk; the error names the file. A sparse file
            mapped into memory would end the process instead.
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
    """The vectors of a segment, prepared for a metric and mapped from their file.

    Attributes:
        matrix: (n, dim), float16 or float32, contiguous.
        metric: by which the vectors are compared.
    """

    def __init__(self, matrix: NDArray[np.floating[Any]], metric: Metric) -> None:
        self.matrix = matrix
        self.metric: Metric = metric

    @classmethod
    def open(cls, path: Path, metric: Metric) -> Self:
        """Maps a file into memory.

        Raises:
            IndexBundleError: the file is missing, or holds no such matrix.
        """
        try:
            matrix: NDArray[np.floating[Any]] = map_array(path)
        except (OSError, ValueError, EOFError) as error:
            raise IndexBundleError(f"{path} cannot be read ({error}); build the index again") from None
        if matrix.ndim != 2 or matrix.dtype not in (np.float16, np.float32) or not matrix.flags.c_contiguous:
            raise IndexBundleError(f"{path} is not a matrix of float16 or float32; build the index again")
        return cls(matrix, metric)

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def dim(self) -> int:
        """The width of a vector."""
        return int(self.matrix.shape[1])

    def take(self, places: Ints) -> Floats:
        """The vectors at some places, (len(places), dim)."""
        return np.ascontiguousarray(self.matrix[places], dtype=np.float32)

    def chunks(self, begin: int, end: int) -> Iterator[Floats]:
        """The vectors from one place to another, some at a time."""
        for first in range(begin, end, CHUNK_ROWS):
            yield np.ascontiguousarray(self.matrix[first : min(end, first + CHUNK_ROWS)], dtype=np.float32)
