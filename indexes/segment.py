"""One immutable part of an index: a FAISS file, the vectors behind it, what its rows are, and their ids."""

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nuner_embed.arrays import map_array
from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes.bundle import Bundle
from nuner_embed.indexes.entries import FAISS_FILE, IDS_FILE, LATE_FILE, VECTORS_FILE, SegmentEntry
from nuner_embed.indexes.faiss_file import read_faiss
from nuner_embed.indexes.kinds import SearchParameters, filters, is_exact, parameters, refining
from nuner_embed.indexes.order import Ints, Order
from nuner_embed.indexes.segment_rows import Rows
from nuner_embed.indexes.vectors import Floats, Vectors, faiss_metric, scores_of

# FAISS's type stubs do not know what its Python layer adds.
_FAISS: Any = faiss
# Up to so many rows that a filter leaves are looked at one by one: that is quicker than any index, and exact.
SCAN_ROWS = 20_000


class Segment:
    """An opened segment; any number of threads may search it.

    Attributes:
        folder: where it lies.
        entry: what the manifest says of it.
        ids: of its rows, rising, (rows,).
        rows: what they are.
        order: where they stand in FAISS.
        vectors: theirs, in FAISS's order.
        searcher: FAISS's index over them.

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
        metric = faiss_metric(bundle.metric)
        index = read_faiss(folder / FAISS_FILE, entry.factory, bundle.dim, entry.rows, metric)
        self.searcher = Searcher(index, self.vectors)

    def locate(self, ids: Ints) -> tuple[Ints, Ints]:
        """Which of some ids are in this segment, as places among them, and the row numbers of those."""
        numbers = np.searchsorted(self.ids, ids)
        inside = numbers < len(self.ids)
        inside[inside] = self.ids[numbers[inside]] == ids[inside]
        return np.flatnonzero(inside), numbers[inside].astype(np.int64)

    def search(
        self, queries: Floats, k: int, how: SearchParameters | None = None, keep: NDArray[np.bool_] | None = None
    ) -> tuple[Floats, Ints]:
        """The best rows for each query: exact scores and ids, (q, min(k, rows that are kept)), best first.

        Args:
            queries: prepared, (q, dim).
            k: how many.
            how: how hard to try, in place of what the segment was tuned to.
            keep: the rows that may be found, (rows,); None for all.
        """
        how = how or self.entry.how
        if keep is None:
            scores, places = self.searcher.search(queries, min(k, len(self.ids)), how)
            return scores, self.ids[self.order.rows(places)]
        allowed = int(np.count_nonzero(keep))
        k = min(k, allowed)
        if k == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        marked = self.order.marked(keep)
        if allowed <= max(SCAN_ROWS, k) or not filters(self.searcher.index):
            scores, places = self.vectors.neighbours(queries, k, marked)
        else:
            scores, places = self.searcher.search(queries, k, how.harder(len(keep) / allowed), marked)
        return scores, self.ids[self.order.rows(places)]

    def table(self, rows: Ints, columns: Sequence[str] | None = None, *, texts: bool = False) -> pa.Table:
        """What some rows are; see `Rows.table`."""
        return self.rows.table(rows, columns, texts=texts)


class Searcher:
    """FAISS's index with the stored vectors behind it, which give the scores; any number of threads may search."""

    def __init__(self, index: Any, vectors: Vectors) -> None:
        self.index = index
        self.vectors = vectors
        self._refined = None
        if not is_exact(index, faiss_metric(vectors.metric)):
            self._stored = vectors.as_index()  # held: FAISS keeps a bare pointer
            self._stored.ntotal = index.ntotal
            self._refined = _FAISS.IndexRefine(index, self._stored)

    @property
    def size(self) -> int:
        """How many vectors it holds."""
        return int(self.index.ntotal)

    def search(
        self, queries: Floats, k: int, how: SearchParameters, keep: NDArray[np.bool_] | None = None
    ) -> tuple[Floats, Ints]:
        """Exact scores and places of the k best, (q, k), best first; FAISS's -1 never leaves.

        Args:
            queries: prepared, (q, dim).
            k: at most as many as are kept.
            how: how hard to try.
            keep: the places that may be found, (n,); None for all.
        """
        base = parameters(self.index, how, keep)
        if self._refined is None:
            distances, places = self.index.search(queries, k, params=base)
        else:
            candidates = max(1.0, min(how.candidates, self.size / k))
            distances, places = self._refined.search(queries, k, params=refining(base, candidates))
        scores = scores_of(distances, self.vectors.metric)
        if places.size and places.min() < 0:  # FAISS looked at too little: these queries are answered exactly
            short = np.flatnonzero((places < 0).any(axis=1))
            scores[short], places[short] = self.vectors.neighbours(queries[short], k, keep, self.size)
        return scores, places


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
