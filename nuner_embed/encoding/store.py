"""Reading a store."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nuner_embed.arrays import map_array
from nuner_embed.encoding.journal import Journal
from nuner_embed.encoding.layout import COVERAGE_FILE, JOURNAL_FILE, MANIFEST_FILE, SUFFIXES, require_shard_name
from nuner_embed.encoding.manifest import read_manifest
from nuner_embed.errors import StoreError
from nuner_embed.files import expand, hash_of, sha256_of
from nuner_embed.models import Recipe


@dataclass(frozen=True)
class Shard:
    """One part of a store.

    Attributes:
        directory: of the store.
        name: of the shard.
        rows: how many.
        sha256: of each file, by suffix.
        bytes: of each file, by suffix.
    """

    directory: Path
    name: str
    rows: int
    sha256: dict[str, str]
    bytes: dict[str, int]

    def path(self, suffix: str) -> Path:
        """Where the `npy` or `parquet` file lies."""
        return self.directory / f"{self.name}.{suffix}"

    def wrong_size(self, suffix: str) -> str | None:
        """What is wrong with a file, as far as its size tells."""
        path = self.path(suffix)
        if not path.is_file():
            return f"{path.name} is missing"
        size = path.stat().st_size
        return None if size == self.bytes[suffix] else f"{path.name} has {size:,} bytes, not {self.bytes[suffix]:,}"

    @cached_property
    def vectors(self) -> NDArray[np.floating[Any]]:
        """The embeddings (rows, dim), memory-mapped and read-only.

        Raises:
            StoreError: the file is not what was written.
        """
        try:
            vectors: NDArray[np.floating[Any]] = map_array(self.path("npy"))
        except (OSError, ValueError, EOFError) as error:
            raise StoreError(f"{self.path('npy')} cannot be read: {error}; see nuner-embed store verify") from None
        if vectors.ndim != 2 or len(vectors) != self.rows:
            raise StoreError(f"{self.path('npy')} has shape {vectors.shape}, expected {self.rows} rows")
        return vectors

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows as Arrow, all columns or those named.

        Raises:
            StoreError: the file is not what was written, or has no such column.
        """
        try:
            return pq.read_table(self.path("parquet"), columns=list(columns) if columns is not None else None)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{self.path('parquet')} cannot be read: {error}; see nuner-embed store verify") from None


class Store:
    """Embeddings of a corpus with what they stand for; open one with `Store.open`.

    Attributes:
        path: the directory.
        manifest: `manifest.json` as it stands.
        shards: the parts, in corpus order.
        recipe: what an embedding is.
        granularity: what a row is: "token", "word" or "mention".
        documents: how many.
        dim: width of the vectors.
        dtype: of the vectors.
        semantic_hash: what the vectors mean; never mix two.
        numeric_hash: which bits to expect.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        try:
            self.complete = bool(manifest["complete"])
            listed = manifest["shards"] if self.complete else [entry.to_dict() for entry in Journal.read(path).entries]
            self.shards = tuple(
                Shard(path, shard["name"], shard["rows"], shard["sha256"], shard["bytes"]) for shard in listed
            )
            for shard in self.shards:
                require_shard_name(shard.name)
            self.documents = sum(int(shard["documents"]) for shard in listed)
            self.recipe = Recipe.from_dict(manifest["recipe"])
            self.granularity = str(manifest["granularity"])
            self.dim = int(manifest["dim"])
            self.dtype = str(manifest["dtype"])
            self.semantic_hash = str(manifest["semantic_hash"])
            self.numeric_hash = str(manifest["numeric_hash"])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path}/manifest.json is damaged (problem with {error})") from None

    @classmethod
    def open(cls, path: str | Path, *, allow_incomplete: bool = False, check_files: bool = True) -> Self:
        """Opens a store for reading.

        Args:
            path: its directory.
            allow_incomplete: accept the finished shards of a job that has not ended.
            check_files: look that every file is there with the size it was written with.

        Raises:
            StoreError: there is no store, it is unfinished or damaged, or a file of it is missing.
            StoreMismatch: another schema version.
        """
        directory = expand(path)
        manifest = read_manifest(directory)
        if manifest is None:
            raise StoreError(f"{directory} holds no store (no manifest.json); nuner-embed encode makes one")
        store = cls(directory, manifest)
        if not store.complete and not allow_incomplete:
            raise StoreError(
                f"{directory} is unfinished ({store.documents} of {manifest.get('corpus_documents')} documents); "
                "the same nuner-embed encode command again finishes it"
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

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows as one Arrow table: document_id, start, end, text, label, score and the row's number."""
        if not self.shards:
            raise StoreError(f"{self.path} holds no shard yet")
        return pa.concat_tables(shard.table(columns) for shard in self.shards)

    def vectors(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.floating[Any]]:
        """The embeddings of some rows, (len(rows), dim), in the order given.

        Raises:
            IndexError: a row number outside the store.
            TypeError: no list of whole numbers.
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
        """Rows with their embeddings, at most `size` at a time, never across a shard's end."""
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}")
        for shard in self.shards:
            table = shard.table()
            for begin in range(0, shard.rows, size):
                yield table.slice(begin, size), shard.vectors[begin : begin + size]

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame; needs pandas."""
        return self.table().to_pandas()

    def _wrong_bookkeeping(self) -> list[str]:
        """Where manifest, journal and coverage do not say the same."""
        problems = []
        if hash_of(self.manifest["numerics"]) != self.numeric_hash:
            problems.append(f"{MANIFEST_FILE} was changed: its numerics do not have its numeric hash")
        try:
            journal = Journal.read(self.path)
        except StoreError as error:
            return [*problems, str(error)]
        if [(entry.name, entry.sha256) for entry in journal.entries] != [(s.name, s.sha256) for s in self.shards]:
            problems.append(f"{MANIFEST_FILE} and {JOURNAL_FILE} name different shards")
        path = self.path / COVERAGE_FILE
        size = path.stat().st_size if path.is_file() else 0
        if size < journal.coverage_bytes or (self.complete and size > journal.coverage_bytes):
            problems.append(f"{COVERAGE_FILE} has {size:,} bytes, not {journal.coverage_bytes:,}")
        return problems

    def verify(self) -> list[str]:
        """Reads every byte again; returns what is wrong, a line each, nothing if all is well."""
        problems = self._wrong_bookkeeping()
        for shard in self.shards:
            for suffix in SUFFIXES:
                wrong = shard.wrong_size(suffix)
                if wrong is None and sha256_of(shard.path(suffix)) != shard.sha256[suffix]:
                    wrong = f"{shard.path(suffix).name} is not what was written (sha256 differs)"
                problems += [wrong] if wrong else []
        return problems
