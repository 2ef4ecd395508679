"""One immutable part of an index: a FAISS file, the vectors behind it, what its rows are, and their ids."""

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nuner_embed.errors import IndexBundleError
from nuner_embed.files import sha256_of, sync, sync_folder
from nuner_embed.indexes.kinds import SearchParameters, is_exact, make, parameters
from nuner_embed.indexes.vectors import Floats, Metric, Vectors, best, faiss_metric

FAISS_FILE = "index.faiss"
IDS_FILE = "ids.npy"
_TRAIN_ROWS = 262_144
# Up to so many rows that a filter leaves are looked at one by one: that is quicker than any index, and exact.
_SCAN_ROWS = 20_000
_COPIED_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A segment as the manifest names it.

    Attributes:
        name: of its folder.
        rows: in it.
        parts: how many pairs of vectors and rows it has.
        files: SHA-256 and size of each file.
    """

    name: str
    rows: int
    parts: int
    files: dict[str, dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Reads what `to_dict` gave."""
        return cls(**values)


def vectors_file(part: int) -> str:
    """The name of a part's vectors."""
    return f"vectors-{part:05d}.npy"


def rows_file(part: int) -> str:
    """The name of a part's rows."""
    return f"rows-{part:05d}.parquet"


class Segment:
    """An opened segment; any number of threads may search it.

    Raises:
        IndexBundleError: a file is missing or not what was written.
    """

    def __init__(self, folder: Path, entry: SegmentEntry, metric: Metric) -> None:
        self.folder = folder
        self.entry = entry
        for name, facts in entry.files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != facts["bytes"]:
                raise IndexBundleError(f"{path} is missing or not as long as it was written; build the index again")
        self.vectors = Vectors([folder / vectors_file(part) for part in range(entry.parts)], metric)
        try:
            self.ids: NDArray[np.int64] = np.load(folder / IDS_FILE, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise IndexBundleError(f"{folder / IDS_FILE} cannot be read ({error}); build the index again") from None
        self.index = _read_faiss(folder / FAISS_FILE)
        if not len(self.vectors) == len(self.ids) == self.index.ntotal == entry.rows:
            raise IndexBundleError(f"{folder}: its files hold different numbers of rows; build the index again")
        self._exact = is_exact(self.index)

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of those ids that are in this segment."""
        places = np.searchsorted(self.ids, ids)
        inside = places < len(self.ids)
        inside[inside] = self.ids[places[inside]] == ids[inside]
        return places[inside].astype(np.int64)

    def search(
        self, queries: Floats, k: int, how: SearchParameters, keep: NDArray[np.bool_] | None
    ) -> tuple[Floats, NDArray[np.int64]]:
        """The best rows for each query: exact scores and row numbers, (q, min(k, rows that are kept)), best first.

        Args:
            queries: prepared, (q, dim).
            k: how many.
            how: how hard to try.
            keep: the rows that may be found, (rows,); None for all.
        """
        allowed = len(self.ids) if keep is None else int(keep.sum())
        k = min(k, allowed)
        if k == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        if keep is not None and allowed <= max(_SCAN_ROWS, k):
            return self.vectors.scan(queries, k, keep)
        wanted = k if self._exact else min(allowed, k * how.candidates)
        _, rows = self.index.search(queries, wanted, params=parameters(self.index, how, keep))
        scores = self.vectors.scores(queries, np.maximum(rows, 0))
        scores[rows < 0] = -np.inf
        scores, rows = best(scores, rows.astype(np.int64), k)
        short = np.flatnonzero((rows < 0).any(axis=1))
        if len(short):  # FAISS looked at too little: these queries are answered exactly
            scores[short], rows[short] = self.vectors.scan(queries[short], k, keep)
        return scores, rows

    def table(self, rows: NDArray[np.int64] | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """What some rows are, in the order given; all of them by default."""
        paths = [self.folder / rows_file(part) for part in range(self.entry.parts)]
        try:
            table = pa.concat_tables(pq.read_table(path, columns=columns) for path in paths)
        except (OSError, pa.ArrowException) as error:
            raise IndexBundleError(f"{self.folder}: its rows cannot be read ({error}); build the index again") from None
        return table if rows is None else table.take(pa.array(rows))

    def copy_rows(self, rows: NDArray[np.int64], vectors: Path, table: Path) -> None:
        """Writes some rows' vectors as they are stored, a chunk at a time, and what they are."""
        shape = (len(rows), self.vectors.dim)
        target = np.lib.format.open_memmap(vectors, "w+", self.vectors.stored(rows[:1]).dtype, shape)
        for first in range(0, len(rows), _COPIED_AT_ONCE):
            chosen = rows[first : first + _COPIED_AT_ONCE]
            target[first : first + len(chosen)] = self.vectors.stored(chosen)
        target.flush()
        pq.write_table(self.table(rows), table, compression="zstd")


def _read_faiss(path: Path) -> Any:
    """A FAISS index whose header cannot claim more than its file holds."""
    try:
        faiss.set_deserialization_vector_byte_limit(max(1 << 20, 16 * path.stat().st_size))
        return faiss.read_index(str(path), faiss.IO_FLAG_READ_ONLY)
    except (OSError, RuntimeError, MemoryError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise IndexBundleError(f"{path} is no FAISS index ({reason}); build the index again") from None


def write_segment(
    folder: Path,
    parts: Iterable[tuple[Path, Path]],
    ids: NDArray[np.int64],
    factory: str,
    metric: Metric,
) -> SegmentEntry:
    """Builds a segment in a new folder from vectors and rows, which are hard-linked into it, or copied.

    Args:
        folder: is made.
        parts: a `.npy` and a `.parquet` file each, in order.
        ids: of all rows, rising, (rows,).
        factory: FAISS's factory string.
        metric: of the search.

    Raises:
        ValueError: FAISS does not know the string, or cannot train on so few rows.
    """
    folder.mkdir(parents=True)
    number = 0
    for number, (vectors, rows) in enumerate(parts, start=1):
        _link(vectors, folder / vectors_file(number - 1))
        _link(rows, folder / rows_file(number - 1))
    matrix = Vectors([folder / vectors_file(part) for part in range(number)], metric)
    index = make(factory, matrix.dim, faiss_metric(metric))
    if not index.is_trained:
        sample = np.linspace(0, len(matrix) - 1, min(len(matrix), _TRAIN_ROWS)).astype(np.int64)
        try:
            index.train(matrix.take(sample))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"FAISS cannot train {factory} on {len(matrix)} rows: {reason}") from None
    for _, chunk in matrix.chunks():
        index.add(chunk)
    faiss.write_index(index, str(folder / FAISS_FILE))
    np.save(folder / IDS_FILE, ids)
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            sync(stream)
        files[path.name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    sync_folder(folder)
    return SegmentEntry(folder.name, len(matrix), number, files)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
