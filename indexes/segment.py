"""One immutable part of an index: the backend over its vectors, and the ids, columns and texts of its rows."""

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nuner_embed.arrays import map_array
from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes.base import SearchParameters, backend_of
from nuner_embed.indexes.bundle import (
    IDS_FILE,
    LATE_FILE,
    VECTORS_FILE,
    Bundle,
    SegmentEntry,
    documents_file,
    rows_file,
)
from nuner_embed.indexes.vectors import Floats, Ints, Order, Vectors
from nuner_embed.store.shard import row_schema
from nuner_embed.tables import Granularity

_DOCUMENTS = pa.schema({"document_id": pa.string(), "text": pa.string()})
_REQUIRED = frozenset({"document_id", "start", "end", "text"})
# Exceptions of pyarrow for a damaged file; the last two are for changed sizes and names.
_DAMAGE = (OSError, pa.ArrowException, ValueError, KeyError)


class Rows:
    """The rows of a segment, in parts: a file of rows and one of documents each.

    Attributes:
        bounds: the first row of each part, and the number of all rows, (parts + 1,).

    Raises:
        IndexBundleError: a file is missing or damaged.
    """

    def __init__(self, folder: Path, parts: int, granularity: Granularity) -> None:
        self.folder = folder
        columns = row_schema(granularity)
        self._rows = [_Lookup(folder / rows_file(part), columns) for part in range(parts)]
        self._documents = [_Lookup(folder / documents_file(part), _DOCUMENTS) for part in range(parts)]
        self.bounds: Ints = np.cumsum([0, *(len(part) for part in self._rows)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.bounds[-1])

    @property
    def paths(self) -> list[Path]:
        """The files of rows, in order."""
        return [part.path for part in self._rows]

    @property
    def columns(self) -> list[str]:
        """Names of the rows' columns."""
        return self._rows[0].schema.names if self._rows else []

    def table(self, rows: Ints, columns: Sequence[str] | None = None, *, texts: bool = False) -> pa.Table:
        """The columns of some rows, in the order given.

        Args:
            rows: their numbers.
            columns: some of the columns; None for all.
            texts: add `document_text`, the text that contains the row.
        """
        part = np.searchsorted(self.bounds, rows, side="right") - 1
        found, order = [], []
        for number in np.unique(part):
            here = np.flatnonzero(part == number)
            table = self._rows[number].take(rows[here] - self.bounds[number], columns)
            if texts:
                table = table.append_column("document_text", self._texts(number, table["document_id"]))
            found.append(table)
            order.append(here)
        if not found:
            empty = self._rows[0].take(rows, columns)
            return empty.append_column("document_text", pa.array([], pa.string())) if texts else empty
        return pa.concat_tables(found).take(pa.array(np.argsort(np.concatenate(order))))

    def stretches(self, columns: Sequence[str], size: int) -> Iterator[tuple[int, pa.Table]]:
        """All rows, in tables of whole parts with `size` rows or more: the number of the first row, and the table."""
        first, tables = 0, []
        for part, end in zip(self._rows, self.bounds[1:].tolist(), strict=True):
            tables.append(part.all(columns))
            if end - first >= size or end == len(self):
                yield first, pa.concat_tables(tables)
                first, tables = end, []

    def documents(self, part: int, ids: pa.ChunkedArray) -> pa.Table:
        """The documents of a part with these ids: `document_id` and `text`, in the order of the part."""
        import pyarrow.compute as pc  # takes some 50 ms to import, and building an index does not need it

        known = self._documents[part].all(["document_id"])["document_id"]
        return self._documents[part].take(np.flatnonzero(pc.is_in(known, value_set=ids).to_numpy()))

    def _texts(self, part: int, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        import pyarrow.compute as pc

        documents = self.documents(part, ids.unique())
        texts = documents["text"].take(pc.index_in(ids, value_set=documents["document_id"]))
        if texts.null_count:
            raise self._documents[part].damaged("a document that rows refer to is missing")
        return texts


class _Lookup:
    """A Parquet file from which some rows are read.

    The file is mapped into memory: a search continues when another process compacts the index and deletes the file.
    Every read opens a reader of its own, so that threads share nothing.
    """

    def __init__(self, path: Path, columns: pa.Schema) -> None:
        self.path = path
        try:
            with pa.memory_map(str(path)) as file:
                self._bytes = file.read_buffer()
            self._metadata = pq.read_metadata(pa.BufferReader(self._bytes))
            self.schema = self._metadata.schema.to_arrow_schema()
            groups = [self._metadata.row_group(group).num_rows for group in range(self._metadata.num_row_groups)]
        except _DAMAGE as error:
            raise self.damaged(error) from None
        if not self.schema.equals(columns):
            raise self.damaged(f"its columns are {', '.join(self.schema.names)}")
        if sum(groups) != self._metadata.num_rows or min(groups, default=0) < 0:
            raise self.damaged("its counts of rows contradict each other")
        self._bounds = np.cumsum([0, *groups])

    def __len__(self) -> int:
        return int(self._bounds[-1])

    def all(self, columns: Sequence[str]) -> pa.Table:
        """All rows."""
        return self._sound(self._read(range(len(self._bounds) - 1), columns))

    def take(self, rows: Ints, columns: Sequence[str] | None = None) -> pa.Table:
        """Some rows, in the order given: only the row groups that hold them are read."""
        group = np.searchsorted(self._bounds, rows, side="right") - 1
        wanted = np.unique(group)
        sizes = np.diff(self._bounds)[wanted]
        begins = np.cumsum(sizes) - sizes  # of each group within what is read
        places = rows - self._bounds[group] + begins[np.searchsorted(wanted, group)]
        return self._sound(self._read(wanted.tolist(), columns).take(pa.array(places)))

    def _read(self, groups: Sequence[int], columns: Sequence[str] | None) -> pa.Table:
        try:
            with pq.ParquetFile(pa.BufferReader(self._bytes), metadata=self._metadata) as file:
                table = file.read_row_groups(list(groups), columns=list(columns) if columns is not None else None)
        except _DAMAGE as error:
            raise self.damaged(error) from None
        expected = int(np.diff(self._bounds)[list(groups)].sum())
        if len(table) != expected:
            raise self.damaged(f"it holds {len(table):,} rows instead of {expected:,}")
        return table

    def _sound(self, table: pa.Table) -> pa.Table:
        """The table, after a check that its texts are valid and no required value is missing."""
        try:
            table.validate(full=True)
        except pa.ArrowInvalid as error:
            raise self.damaged(error) from None
        for name in _REQUIRED.intersection(table.column_names):
            if table[name].null_count:
                raise self.damaged(f"a row has no {name}")
        return table

    def damaged(self, error: Exception | str) -> IndexBundleError:
        """The error for a damaged file."""
        reason = " ".join(str(error).split())  # messages of pyarrow have several lines
        return IndexBundleError(f"{self.path} cannot be read ({reason}); build the index again")


class Segment:
    """An opened segment; any number of threads may search it.

    Attributes:
        folder: of its files.
        entry: its description in the manifest.
        ids: of the rows, ascending, (rows,).
        rows: columns and texts of the rows.
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
                raise IndexBundleError(
                    f"{path} is missing or does not have the length that was written; build the index again"
                )
        self.vectors = Vectors.open(folder / VECTORS_FILE, bundle.metric)
        self.rows = Rows(folder, entry.parts, bundle.granularity)
        self.ids = _read_numbers(folder / IDS_FILE)
        late = _read_numbers(folder / LATE_FILE)
        if not len(self.vectors) == len(self.ids) == len(self.rows) == entry.rows or (late >= entry.rows).any():
            raise IndexBundleError(f"{folder}: its files hold different numbers of rows; build the index again")
        if self.ids[-1] >= bundle.next_id:
            raise IndexBundleError(f"{folder / IDS_FILE} holds ids that were never assigned; build the index again")
        if (self.vectors.dim, self.vectors.matrix.dtype) != (bundle.dim, np.dtype(bundle.dtype)):
            raise IndexBundleError(
                f"{folder / VECTORS_FILE} holds {self.vectors.matrix.dtype} of width {self.vectors.dim}, the index "
                f"{bundle.dtype} of width {bundle.dim}; build the index again"
            )
        self.order = Order(entry.rows, late)
        own = folder / entry.backend_file if entry.backend_file else None
        self.backend = backend_of(entry.kind).load().open(own, entry.factory, self.vectors)

    def locate(self, ids: Ints) -> tuple[Ints, Ints]:
        """The ids that are in this segment, as places among `ids`, and the numbers of their rows."""
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
            k: number of rows; fewer are returned if fewer may be found.
            parameters: of the search; None for the tuned parameters of the segment.
            keep: the rows that may be found, (rows,); None for all.

        Returns:
            Exact scores and ids, (q, min(k, rows that may be found)), best first.
        """
        marked = None if keep is None else self.order.marked(keep)
        scores, places = self.backend.search(queries, k, parameters or self.entry.parameters, marked)
        return scores, self.ids[self.order.rows(places)]

    def table(self, rows: Ints, columns: Sequence[str] | None = None, *, texts: bool = False) -> pa.Table:
        """The columns of some rows; see `Rows.table`."""
        return self.rows.table(rows, columns, texts=texts)


def _size(path: Path) -> int | None:
    """The size of a file in bytes; None if the file is gone, as happens while another process changes the index."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_size if stat.S_ISREG(facts.st_mode) else None


def _read_numbers(path: Path) -> Ints:
    """Reads ascending integers from 0 on.

    Raises:
        IndexBundleError: the file is missing or holds something else.
    """
    try:
        numbers: Ints = map_array(path)
    except (OSError, ValueError, EOFError) as error:
        raise IndexBundleError(f"{path} cannot be read ({error}); build the index again") from None
    if numbers.dtype != np.int64 or numbers.ndim != 1:
        raise IndexBundleError(f"{path} is not a list of numbers; build the index again")
    if len(numbers) and (numbers[0] < 0 or not (numbers[1:] > numbers[:-1]).all()):
        raise IndexBundleError(f"{path} holds numbers that do not increase; build the index again")
    return numbers
