"""Encoding shards, in this process or in several."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nuner_embed.encoding.encoder import TextEncoder
from nuner_embed.encoding.reporting import Reporter
from nuner_embed.encoding.shards import ShardEntry, shard_name, write_shard
from nuner_embed.encoding.tokens import TokenTable
from nuner_embed.errors import StoreError

if TYPE_CHECKING:
    from nuner_embed.encoding.job import EncoderSpec, JobOptions

Written = tuple[ShardEntry, list[str], dict[str, Path]]


class Workers:
    """Turns token tables into written, not yet committed shards, in order."""

    def __init__(
        self, directory: Path, spec: "EncoderSpec", encoder: TextEncoder, options: "JobOptions", reporter: Reporter
    ) -> None:
        self._directory = directory
        self._encoder = encoder
        self._options = options
        self._reporter = reporter
        self._pool: ProcessPoolExecutor | None = None
        if options.workers > 1:
            self._pool = ProcessPoolExecutor(
                options.workers,
                mp_context=multiprocessing.get_context("spawn"),  # forking would copy the runtime's threads
                initializer=_start,
                initargs=(spec, directory, options),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def encode(self, tables: Iterable[TokenTable], first: int) -> Iterator[Written]:
        """Shards of the given tables, numbered from `first`."""
        if self._pool is None:
            for index, table in enumerate(tables, start=first):
                yield _encode(self._encoder, table, index, self._directory, self._options, self._reporter)
            return
        pending: deque[Future[Written]] = deque()
        try:
            for index, table in enumerate(tables, start=first):
                pending.append(self._pool.submit(_encode_here, table, index))
                if len(pending) > self._options.workers:
                    yield self._next(pending)
            while pending:
                yield self._next(pending)
        except BrokenProcessPool:
            raise StoreError(
                "a worker process died, perhaps for want of memory; the same command with fewer --workers goes on"
            ) from None

    def _next(self, pending: deque[Future[Written]]) -> Written:
        written = pending.popleft().result()
        self._reporter.tokens(written[0].tokens)
        return written


def _encode(
    encoder: TextEncoder,
    table: TokenTable,
    index: int,
    directory: Path,
    options: "JobOptions",
    reporter: Reporter,
) -> Written:
    embedded = encoder.encode_rows(table, options.granularity, options.overflow, reporter.tokens)
    return write_shard(directory, shard_name(index), table, embedded, options.granularity, options.dtype)


class _Worker:
    """What a worker process keeps between shards."""

    encoder: TextEncoder
    directory: Path
    options: "JobOptions"


def _start(spec: "EncoderSpec", directory: Path, options: "JobOptions") -> None:
    """Loads the encoder, and ends this process as soon as its parent is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    _Worker.encoder, _Worker.directory, _Worker.options = spec.load(), directory, options


def _encode_here(table: TokenTable, index: int) -> Written:
    return _encode(_Worker.encoder, table, index, _Worker.directory, _Worker.options, Reporter())
