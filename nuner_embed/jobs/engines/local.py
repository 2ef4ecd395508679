"""The engine that encodes in this process."""

import contextlib
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from nuner_embed.encoders.text import TextEncoder
from nuner_embed.jobs.engines.base import ShardTask, WrittenShard
from nuner_embed.jobs.reporter import Reporter
from nuner_embed.tables import RowEmbeddings, TokenTable


class LocalEngine:
    """Encodes one shard after the other, while threads tokenize the next shard and write the last one.

    Args:
        encoder: loaded by the job's specification.
        reporter: is told of every batch.
    """

    def __init__(self, encoder: TextEncoder, reporter: Reporter) -> None:
        self._encoder = encoder
        self._reporter = reporter

    def run(self, task: ShardTask, tables: Iterable[TokenTable], commit: Callable[[WrittenShard], None]) -> None:
        """See `Engine.run`."""

        def write(table: TokenTable, embedded: RowEmbeddings, index: int) -> None:
            commit(task.write(table, embedded, index))

        with ThreadPoolExecutor(1) as writer, contextlib.closing(_one_ahead(tables)) as made:
            written: Future[None] | None = None
            for index, table in enumerate(made, start=task.first):
                embedded = task.encode(self._encoder, table, index, self._reporter.tokens)
                if written:
                    written.result()
                written = writer.submit(write, table, embedded, index)
            if written:
                written.result()


def _one_ahead(tables: Iterable[TokenTable]) -> Generator[TokenTable]:
    """Makes the next table in a thread while the current one is encoded."""
    remaining = iter(tables)
    with ThreadPoolExecutor(1) as maker:
        upcoming = maker.submit(next, remaining, None)
        while (table := upcoming.result()) is not None:
            upcoming = maker.submit(next, remaining, None)
            yield table
