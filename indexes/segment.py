"""One immutable part of an index: a backend over vectors, what the rows are, and their ids."""

import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nuner_embed.arrays import map_array
from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes.base import SearchParameters, backend_of
from nuner_embed.indexes.bundle import IDS_FILE, LATE_FILE, VECTORS_FILE, Bundle, SegmentEntry
from nuner_embed.indexes.segment_rows import Rows
from nuner_embed.indexes.vectors import Floats, Ints, Order, Vectors


class Segment:
    """An opened segment; any number of threads may search it.

    Attributes:
        folder: of its files.
        entry: its description in the manifest.
        ids: of the rows, ascending, (rows,).
        rows: what the rows are.
        order: the places of the rows in `vectors` and in the backend.
        vectors: of the rows, in that order.
        backend: searches the vectors.

    Raises:
        IndexBundleError: a file is missing or not what was written.
    """

    def __init__(self, folder: Path, entry: SegmentEntry, bundle: Bundle) -> None:
        self.folder = folder
        self.entry = entry
        for name, facts in entry.files.items():
            path = folder / name
            if _size(path) != facts.bytes:
                raise IndexBundleError(f"{path} is missing or not as long as it was written; build the index again")
        self.vectors = Vectors.open(folder / VECTORS_FILE, bundle.metric)
        self.rows = Rows(folder, entry.parts, bundle.granularity)
        self.ids = _read_numbers(folder / IDS_FILE)
        late = _read_numbers(folder / LATE_FILE)
        if not len(self.vectors) == len(self.ids) == len(self.rows) == entry.rows or (late >= entry.rows).any():
            raise IndexBundleError(f"{folder}: its files hold different numbers of rows; build the index again")
        if self.ids[-1] >= bundle.next_id:
            raise IndexBundleError(f"{folder / IDS_FILE} holds ids that were never given; build the index again")
        if (self.vectors.dim, self.vectors.matrix.dtype) != (bundle.dim, np.dtype(bundle.dtype)):
            raise IndexBundleError(
                f"{folder / VECTORS_FILE} holds {self.vectors.matrix.dtype} of width {self.vectors.dim}, the index "
                f"{bundle.dtype} of width {bundle.dim}; build the index again"
            )
        self.order = Order(entry.rows, late)
        own = folder / entry.backend_file if entry.backend_file else None
        self.backend = backend_of(entry.kind).load().open(own, entry.factory, self.vectors)

    def locate(self, ids: Ints) -> tuple[Ints, Ints]:
        """Which of some ids are in this segment, as places among them, and the row numbers of those."""
        numbers = np.searchsorted(self.ids, ids)
        inside = numbers < len(self.ids)
        inside[inside] = self.ids[numbers[inside]] == ids[inside]
        return np.flatnonzero(inside), numbers[inside].astype(np.int64)

    def search(
        self, queries: Floats, k: int, parameters: SearchParameters | None = None, keep: NDArray[np.bool_] | None = None
    ) -> tuple[Floats, Ints]:
        """The best rows for each query.

        Args:
            queries: prepared for the metric, (q, dim).
            k: how many rows; fewer come back where fewer may be found.
            parameters: of the search; None for those that the segment was tuned to.
            keep: the rows that may be found, (rows,); None for all.

        Returns:
            Exact scores and ids, (q, min(k, rows that may be found)), best first.
        """
        marked = None if keep is None else self.order.marked(keep)
        scores, places = self.backend.search(queries, k, parameters or self.entry.parameters, marked)
        return scores, self.ids[self.order.rows(places)]

    def table(self, rows: Ints, columns: Sequence[str] | None = None, *, texts: bool = False) -> pa.Table:
        """What some rows are; see `Rows.table`."""
        return self.rows.table(rows, columns, texts=texts)


def _size(path: Path) -> int | None:
    """Of a file, in bytes; None where it is gone, as it may be at any moment while others change the index."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_size if stat.S_ISREG(facts.st_mode) else None


def _read_numbers(path: Path) -> Ints:
    """Whole numbers that are not negative and rise.

    Raises:
        IndexBundleError: the file is missing or holds something else.
    """
    try:
        numbers: Ints = map_array(path)
    except (OSError, ValueError, EOFError) as error:
        raise IndexBundleError(f"{path} cannot be read ({error}); build the index again") from None
    if numbers.dtype != np.int64 or numbers.ndim != 1:
        raise IndexBundleError(f"{path} is no list of numbers; build the index again")
    if len(numbers) and (numbers[0] < 0 or not (numbers[1:] > numbers[:-1]).all()):
        raise IndexBundleError(f"{path} holds numbers that do not rise; build the index again")
    return numbers
