"""Encoding shards, in this process or in several."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from nuner_embed.encoding.encoder import TextEncoder
from nuner_embed.encoding.layout import shard_name
from nuner_embed.encoding.options import EncoderSpec, JobOptions
from nuner_embed.encoding.reporting import Reporter
from nuner_embed.encoding.shards import ShardEntry, write_shard
from nuner_embed.encoding.tokens import TokenTable
from nuner_embed.errors import StoreError

Written = tuple[ShardEntry, list[str], dict[str, Path]]


class Workers:
    """Turns token tables into written, not yet committed shards, in order."""

    def __init__(
        self, directory: Path, spec: EncoderSpec, encoder: TextEncoder, options: JobOptions, reporter: Reporter
    ) -> None:
        self._directory = directory
        self._encoder = encoder
        self._options = options
        self._reporter = reporter
        self._pool: ProcessPoolExecutor | None = None
        if options.workers > 1:
            context = multiprocessing.get_context("spawn")  # forking would copy the runtime's threads
            # Workers end when the pipe does: closed here, or with this process. An Event would wait for the dead.
            self._reader, self._writer = context.Pipe(duplex=False)
            self._pool = ProcessPoolExecutor(
                options.workers,
                mp_context=context,
                initializer=_start,
                initargs=(spec, directory, options, self._reader),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            if kind is not None:
                self._writer.close()
            self._pool.shutdown(cancel_futures=True)
            self._writer.close()
            self._reader.close()

    def encode(self, tables: Iterable[TokenTable], first: int) -> Iterator[Written]:
        """Shards of the given tables, numbered from `first`."""
        if self._pool is None:
            for index, table in enumerate(tables, start=first):
                yield _encode(self._encoder, table, index, self._directory, self._options, self._reporter)
            return
        pending: deque[Future[Written]] = deque()
        try:
            for index, table in enumerate(tables, start=first):
                pending.append(self._submit(self._pool, table, index))
                if len(pending) > self._options.workers:
                    yield self._next(pending)
            while pending:
                yield self._next(pending)
        except BrokenProcessPool:
            raise StoreError(
                "a worker process died, perhaps for want of memory; the same command with fewer --workers goes on"
            ) from None

    @staticmethod
    def _submit(pool: ProcessPoolExecutor, table: TokenTable, index: int) -> Future[Written]:
        try:
            return pool.submit(_encode_here, table, index)
        except OSError as error:
            if error.errno is not None:
                raise
            # The pool, finding a dead worker, closed its wake-up pipe in the middle of this call.
            raise BrokenProcessPool(str(error)) from error

    def _next(self, pending: deque[Future[Written]]) -> Written:
        written = pending.popleft().result()
        self._reporter.tokens(written[0].tokens)
        return written


def _encode(
    encoder: TextEncoder,
    table: TokenTable,
    index: int,
    directory: Path,
    options: JobOptions,
    reporter: Reporter,
) -> Written:
    embedded = encoder.encode_rows(table, options.granularity, options.overflow, reporter.tokens)
    return write_shard(directory, shard_name(index), table, embedded, options.granularity, options.dtype)


class _Worker:
    """What a worker process keeps between shards."""

    encoder: TextEncoder
    directory: Path
    options: JobOptions


def _start(spec: EncoderSpec, directory: Path, options: JobOptions, pipe: Connection) -> None:
    """Loads the encoder, and ends this process as soon as its parent says so or is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides

    def end_with_the_pipe() -> None:
        pipe.poll(None)
        os._exit(1)

    threading.Thread(target=end_with_the_pipe, daemon=True).start()
    _Worker.encoder, _Worker.directory, _Worker.options = spec.load(), directory, options


def _encode_here(table: TokenTable, index: int) -> Written:
    return _encode(_Worker.encoder, table, index, _Worker.directory, _Worker.options, Reporter())
