"""Stores opened for reading."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nuner_embed.arrays import map_array
from nuner_embed.errors import RuntimeUnavailable, StoreError
from nuner_embed.files import expand, hash_of
from nuner_embed.installation import install_command
from nuner_embed.models.recipe import Recipe
from nuner_embed.printable import printable
from nuner_embed.store.journal import Journal
from nuner_embed.store.layout import SUFFIXES, Suffix
from nuner_embed.store.manifest import checked, read_values
from nuner_embed.store.shard import Hashes, Sizes, document_schema, row_schema
from nuner_embed.tables import Dtype, Granularity

if TYPE_CHECKING:
    from datasets import Dataset

# A `.npy` file begins with a header of 128 bytes; NumPy may write a longer one some day.
_LONGEST_HEADER = 4096
VECTOR_COLUMN = "vector"


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a store.

    Attributes:
        directory: of the store.
        name: of the shard.
        rows: number of rows.
        documents: number of documents.
        sha256: of each file, by suffix.
        bytes: of each file, by suffix.
        dim: width of the vectors.
        dtype: of the vectors.
        granularity: what a row is.
    """

    directory: Path
    name: str
    rows: int
    documents: int
    sha256: Hashes
    bytes: Sizes
    dim: int
    dtype: Dtype
    granularity: Granularity

    def __post_init__(self) -> None:
        header = self.bytes["npy"] - self.rows * self.dim * np.dtype(self.dtype).itemsize
        if not 0 < header <= _LONGEST_HEADER:
            raise ValueError(
                f"{self.name} has {self.bytes['npy']:,} bytes for {self.rows:,} rows of {self.dim:,} {self.dtype}"
            )

    def path(self, suffix: str) -> Path:
        """The path of the `npy`, `parquet` or `documents.parquet` file."""
        return self.directory / f"{self.name}.{suffix}"

    def wrong_size(self, suffix: Suffix) -> str | None:
        """What is wrong with the size of a file; None if nothing."""
        path = self.path(suffix)
        if not path.is_file():
            return f"{path.name} is missing"
        size = path.stat().st_size
        return None if size == self.bytes[suffix] else f"{path.name} has {size:,} bytes, not {self.bytes[suffix]:,}"

    @property
    def vectors(self) -> NDArray[np.floating[Any]]:
        """The embeddings (rows, dim), read-only, memory-mapped anew on every access.

        Raises:
            StoreError: the file is missing or was changed.
        """
        try:
            vectors: NDArray[np.floating[Any]] = map_array(self.path("npy"))
        except (OSError, ValueError) as error:
            raise self._unreadable("npy", error) from None
        expected = (self.rows, self.dim), np.dtype(self.dtype)
        if (vectors.shape, vectors.dtype) != expected or not vectors.flags.c_contiguous:
            raise StoreError(
                f"{self.path('npy')} has {vectors.dtype} of shape {vectors.shape}, expected {self.dtype} of shape "
                f"{expected[0]}; see nuner-embed store verify"
            )
        return vectors

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows as an Arrow table, with all columns or the named ones.

        Raises:
            StoreError: the file is missing or was changed, or has no such column.
        """
        return self._read("parquet", row_schema(self.granularity), self.rows, columns)

    def texts(self) -> pa.Table:
        """The documents of the rows: document_id, text.

        Raises:
            StoreError: the file is missing or was changed.
        """
        return self._read("documents.parquet", document_schema(), self.documents)

    def _read(self, suffix: Suffix, schema: pa.Schema, rows: int, columns: Sequence[str] | None = None) -> pa.Table:
        unknown = [name for name in columns or () if name not in schema.names]
        if unknown:
            raise StoreError(f"{self.directory} has no column {unknown[0]!r}, but {', '.join(schema.names)}")
        path = self.path(suffix)
        if not path.is_file():
            raise StoreError(f"{path} is missing; see nuner-embed store verify")
        try:
            with pq.ParquetFile(path) as file:
                found, size = file.schema_arrow, file.metadata.num_rows
                if size != rows or not found.equals(schema):
                    raise StoreError(
                        f"{path} has {size:,} rows of {', '.join(found.names)}, expected {rows:,} rows of "
                        f"{', '.join(schema.names)}; see nuner-embed store verify"
                    )
                table = file.read(list(columns) if columns is not None else None)
            table.validate(full=True)  # a damaged file may hold texts that are not UTF-8
        except (OSError, pa.ArrowException, MemoryError) as error:
            raise self._unreadable(suffix, error) from None
        if len(table) != rows:
            raise StoreError(f"{path} has {len(table):,} rows, expected {rows:,}; see nuner-embed store verify")
        return table

    def _unreadable(self, suffix: Suffix, error: BaseException) -> StoreError:
        reason = printable((error.strerror if isinstance(error, OSError) else None) or error)
        return StoreError(f"{self.path(suffix)} cannot be read: {reason}; see nuner-embed store verify")


class Store:
    """The embeddings of a corpus with their texts and offsets; open a store with `Store.open`.

    Attributes:
        path: the directory.
        manifest: the contents of `manifest.json`.
        shards: the parts, in corpus order.
        recipe: how hidden states became embeddings.
        granularity: what a row is: "token", "word" or "mention".
        documents: number of documents.
        dim: width of the vectors.
        dtype: of the vectors.
        semantic_hash: of everything that decides what a vector means; never mix vectors of two hashes.
        numeric_hash: of everything that decides the bits.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        facts = checked(path, manifest)
        if facts.clearing:
            raise StoreError(
                f"{path} was being emptied when the command stopped; the same nuner-embed encode command finishes the "
                "store"
            )
        self.complete = facts.complete
        listed = facts.shards if facts.complete else Journal.read(path).entries
        try:
            self.shards = tuple(
                Shard(
                    path, one.name, one.rows, one.documents, one.sha256, one.bytes,
                    facts.dim, facts.dtype, facts.granularity,
                )
                for one in listed
            )  # fmt: skip
        except ValueError as error:
            raise StoreError(
                f"{path}: its manifest or journal holds impossible numbers ({error}); encode again with --force"
            ) from None
        self.documents = sum(shard.documents for shard in self.shards)
        self.recipe = Recipe.from_dict(facts.recipe)
        self.granularity: str = facts.granularity
        self.dim = facts.dim
        self.dtype: Dtype = facts.dtype
        self.semantic_hash: str = facts.semantic_hash
        self.numeric_hash: str = facts.numeric_hash

    @classmethod
    def open(cls, path: str | Path, *, allow_incomplete: bool = False, check_files: bool = True) -> Self:
        """Opens a store for reading.

        Args:
            path: directory of the store.
            allow_incomplete: accept the finished shards of an unfinished job.
            check_files: check that every file exists with the size in the manifest.

        Raises:
            StoreError: there is no store, the store is unfinished or damaged, or a file is missing.
            StoreMismatch: the store has another schema version.
        """
        directory = expand(path)
        manifest = read_values(directory)
        if manifest is None:
            raise StoreError(f"{directory} holds no store (no manifest.json); nuner-embed encode makes one")
        store = cls(directory, manifest)
        if not store.complete and not allow_incomplete:
            raise StoreError(
                f"{directory} is unfinished ({store.documents} of {manifest.get('corpus_documents')} documents); "
                "the same nuner-embed encode command finishes the store"
            )
        for shard in store.shards if check_files else ():
            for suffix in SUFFIXES:
                wrong = shard.wrong_size(suffix)
                if wrong:
                    raise StoreError(f"{directory}: {wrong}; encode again with --force")
        return store

    def __len__(self) -> int:
        return sum(shard.rows for shard in self.shards)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {len(self)} {self.granularity} rows, {self.documents} documents)"

    def table(self, columns: Sequence[str] | None = None, *, vectors: Dtype | None = None) -> pa.Table:
        """All rows as one Arrow table: document_id, start, end, text, label, score and the row's number.

        Args:
            columns: names of columns; None for all.
            vectors: add a column `vector`, lists of `dim` numbers of this dtype; the store's own dtype takes no memory,
                since the numbers stay in the files.

        Raises:
            StoreError: no such column, no shard yet, or a file is missing or was changed.
        """
        if not self.shards:
            raise StoreError(f"{self.path} holds no shard yet")
        tables = (
            shard.table(columns) if vectors is None else with_vectors(shard.table(columns), shard.vectors, vectors)
            for shard in self.shards
        )
        return pa.concat_tables(tables)

    def vectors(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.floating[Any]]:
        """The embeddings of some rows, (len(rows), dim), in the order given.

        Raises:
            IndexError: a row number outside the store.
            TypeError: the rows are no list of whole numbers.
        """
        wanted = np.asarray(rows)
        if wanted.ndim != 1 or (wanted.size and not np.issubdtype(wanted.dtype, np.integer)):
            raise TypeError(f"rows must be a list of row numbers, not {wanted.dtype} of shape {wanted.shape}")
        wanted = wanted.astype(np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"row numbers go from 0 to {len(self) - 1}")
        found = np.empty((len(wanted), self.dim), dtype=self.dtype)
        begin = 0
        for shard in self.shards:
            here = (wanted >= begin) & (wanted < begin + shard.rows)
            if here.any():
                found[here] = shard.vectors[wanted[here] - begin]
            begin += shard.rows
        return found

    def batches(self, size: int = 65536) -> Iterator[tuple[pa.Table, NDArray[np.floating[Any]]]]:
        """Rows with their embeddings, at most `size` at a time, never from two shards."""
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}")
        for shard in self.shards:
            table = shard.table()
            for begin in range(0, shard.rows, size):
                yield table.slice(begin, size), shard.vectors[begin : begin + size]

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame; needs pandas."""
        return self.table().to_pandas()

    def to_dataset(self, *, vectors: Dtype | None = None) -> "Dataset":
        """The rows with their vectors as a `datasets.Dataset`, whose column `vector` has a fixed length.

        The vectors are not read before they are used. The dataset's fingerprint is made of the store's hashes, so that
        `map` finds what it computed for the same store before.

        Args:
            vectors: dtype of the vectors; None for the store's own.

        Raises:
            RuntimeUnavailable: the datasets library is not installed.
            StoreError: see `table`.
        """
        try:
            from datasets import Dataset
            from datasets.table import InMemoryTable
        except ImportError:
            raise RuntimeUnavailable(f"datasets is not installed; {install_command('datasets')}") from None
        dtype = vectors or self.dtype
        contents = [dict(shard.sha256) for shard in self.shards]
        table = InMemoryTable(self.table(vectors=dtype))
        return Dataset(table, fingerprint=hash_of({"shards": contents, "vectors": dtype})[:16])

    def verify(self) -> list[str]:
        """Reads and checks every byte; returns the problems, one line each.

        The parts that `unchecked` lists are checked less, for want of a checksum.
        """
        from nuner_embed.store.integrity import problems_of

        return problems_of(self)

    def unchecked(self) -> list[str]:
        """The parts, one line each, that `verify` cannot compare with a checksum, since earlier versions wrote none."""
        from nuner_embed.store.integrity import missing_checksums

        return missing_checksums(self)


def with_vectors(table: pa.Table, vectors: NDArray[np.floating[Any]], dtype: Dtype) -> pa.Table:
    """Rows with a column `vector` of fixed-size lists.

    Args:
        table: of n rows.
        vectors: (n, dim); not copied if they have the dtype.
        dtype: of the column.
    """
    flat = pa.array(np.ascontiguousarray(vectors, dtype).ravel())
    return table.append_column(VECTOR_COLUMN, pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
