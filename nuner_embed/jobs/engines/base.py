"""The contract of an engine: where the shards of a job are encoded."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nuner_embed.encoders.mentions import embed_detected
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.jobs.options import JobOptions
from nuner_embed.store.layout import Suffix, shard_name
from nuner_embed.store.shard import ShardEntry, require_finite, write_shard
from nuner_embed.tables import RowEmbeddings, TokenTable


@dataclass(frozen=True, slots=True)
class WrittenShard:
    """A shard whose files are written and synced under temporary names.

    Attributes:
        entry: the shard's entry for the journal.
        coverage: the shard's lines for `coverage.jsonl`.
        paths: the temporary files, by suffix.
    """

    entry: ShardEntry
    coverage: list[str]
    paths: dict[Suffix, Path]


@dataclass(frozen=True, slots=True)
class ShardTask:
    """How the shards of a job are encoded and written; can be pickled.

    Attributes:
        directory: of the store.
        options: of the job.
        first: number of the first shard.
    """

    directory: Path
    options: JobOptions
    first: int

    def encode(
        self, encoder: TextEncoder, table: TokenTable, index: int, on_batch: Callable[[int], None]
    ) -> RowEmbeddings:
        """Encodes the rows of a shard, in the dtype of the store.

        Args:
            encoder: loaded by `options.spec`.
            table: the tokens of the shard's documents.
            index: number of the shard.
            on_batch: called after every batch with its number of tokens.

        Raises:
            OutOfMemory: one window alone does not fit.
            StoreError: a number is not finite in the store's dtype.
        """
        options = self.options
        if options.detector:
            embedded = embed_detected(encoder, table, options.detector, options.overflow, on_batch, options.dtype)
        else:
            embedded = encoder.encode_rows(table, options.granularity, options.overflow, on_batch, options.dtype)
        require_finite(embedded, shard_name(index))
        return embedded

    def write(self, table: TokenTable, embedded: RowEmbeddings, index: int) -> WrittenShard:
        """Writes the files of the shard with this number."""
        name = shard_name(index)
        return WrittenShard(*write_shard(self.directory, name, table, embedded, self.options.granularity))


class Engine(Protocol):
    """Encodes and writes the shards of a job, in this process or elsewhere."""

    def run(self, task: ShardTask, tables: Iterable[TokenTable], commit: Callable[[WrittenShard], None]) -> None:
        """Turns token tables into shards.

        Args:
            task: how to encode and write a shard.
            tables: the tokens of the shards, in order; only a few tables are read ahead.
            commit: called for each shard, in order, one call at a time, as soon as the shard is written. (An iterator
                would yield a shard only when the next one is encoded, and a kill would lose both.)

        Raises:
            OutOfMemory, StoreError: see `ShardTask.encode`; also where a worker process ended.
        """
        ...
