"""One immutable part of an index: a FAISS file, the vectors behind it, what its rows are, and their ids."""

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nuner_embed.arrays import map_array
from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes.kinds import SearchParameters, filters, is_exact, parameters, refining
from nuner_embed.indexes.order import Ints, Order
from nuner_embed.indexes.rows import Rows
from nuner_embed.indexes.vectors import Floats, Metric, Vectors, faiss_metric, scores_of

# FAISS's type stubs do not know what its Python layer adds.
_FAISS: Any = faiss
_LIMIT = threading.Lock()  # FAISS has one limit for all
FAISS_FILE = "index.faiss"
VECTORS_FILE = "vectors.npy"
IDS_FILE = "ids.npy"
LATE_FILE = "late.npy"
# Up to so many rows that a filter leaves are looked at one by one: that is quicker than any index, and exact.
SCAN_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A segment as the manifest names it.

    Attributes:
        name: of its folder.
        rows: in it.
        parts: how many pairs of rows and documents it has.
        kind: what was built, see `kinds.KINDS`.
        factory: FAISS's string for it.
        why: it is of this kind.
        trials: what was measured of every kind, see `choosing.Trial`; nothing where the kind was given.
        how: how hard a search tries.
        recall: what was measured when it was built, see `tuning.Recall`.
        bytes_resident: what FAISS holds in memory for it.
        files: SHA-256 and size of each file.
    """

    name: str
    rows: int
    parts: int
    kind: str
    factory: str
    why: str
    trials: list[dict[str, Any]]
    how: SearchParameters
    recall: dict[str, Any]
    bytes_resident: int
    files: dict[str, dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Reads what `to_dict` gave."""
        return cls(**{**values, "how": SearchParameters(**values["how"])})


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

    def __init__(self, folder: Path, entry: SegmentEntry, metric: Metric) -> None:
        self.folder = folder
        self.entry = entry
        for name, facts in entry.files.items():
            path = folder / name
            if _size(path) != facts["bytes"]:
                raise IndexBundleError(f"{path} is missing or not as long as it was written; build the index again")
        self.vectors = Vectors.open(folder / VECTORS_FILE, metric)
        self.rows = Rows(folder, entry.parts)
        self.ids = _read_numbers(folder / IDS_FILE)
        self.order = Order(entry.rows, _read_numbers(folder / LATE_FILE)[:])
        self.searcher = Searcher(_read_faiss(folder / FAISS_FILE), self.vectors)
        if not len(self.vectors) == len(self.ids) == len(self.rows) == self.searcher.size == entry.rows:
            raise IndexBundleError(f"{folder}: its files hold different numbers of rows; build the index again")

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
        return path.stat().st_size
    except OSError:
        return None


def _read_numbers(path: Path) -> Ints:
    try:
        numbers: Ints = map_array(path)
    except (OSError, ValueError, EOFError) as error:
        raise IndexBundleError(f"{path} cannot be read ({error}); build the index again") from None
    if numbers.dtype != np.int64 or numbers.ndim != 1:
        raise IndexBundleError(f"{path} is no list of numbers; build the index again")
    return numbers


def _read_faiss(path: Path) -> Any:
    """A FAISS index whose header cannot claim more than its file holds."""
    with _LIMIT:
        before = _FAISS.get_deserialization_vector_byte_limit()
        try:
            _FAISS.set_deserialization_vector_byte_limit(max(1 << 20, 16 * path.stat().st_size))
            return faiss.read_index(str(path), faiss.IO_FLAG_READ_ONLY)
        except (OSError, RuntimeError, MemoryError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise IndexBundleError(f"{path} is no FAISS index ({reason}); build the index again") from None
        finally:
            _FAISS.set_deserialization_vector_byte_limit(before)
