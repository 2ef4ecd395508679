"""Encoding shards, in this process or in several."""

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from nuner_embed.encoders.mentions import embed_detected
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import StoreError
from nuner_embed.jobs.engines.processes import WorkerContext
from nuner_embed.jobs.options import EncoderSpec, JobOptions
from nuner_embed.jobs.reporter import Reporter
from nuner_embed.store.layout import Suffix, shard_name
from nuner_embed.store.shard import ShardEntry, cast, write_shard
from nuner_embed.tables import RowEmbeddings, TokenTable

Written = tuple[ShardEntry, list[str], dict[Suffix, Path]]
Commit = Callable[[ShardEntry, list[str], dict[Suffix, Path]], None]


class Workers:
    """Turns token tables into shards, here or in processes of their own."""

    def __init__(
        self, directory: Path, spec: EncoderSpec, encoder: TextEncoder, options: JobOptions, reporter: Reporter
    ) -> None:
        self._directory = directory
        self._encoder = encoder
        self._options = options
        self._reporter = reporter
        self._pool: ProcessPoolExecutor | None = None
        if options.workers > 1:
            self._context = WorkerContext((spec, options))
            # Workers end when the pipe does: closed here, or with this process. An Event would wait for the dead.
            self._reader, self._writer = self._context.Pipe(duplex=False)
            self._pool = ProcessPoolExecutor(
                options.workers,
                mp_context=self._context,
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

    def encode(self, tables: Iterable[TokenTable], first: int, commit: Commit) -> None:
        """Encodes and writes the tables as shards, numbered from `first`, and commits each, in order.

        Tokenizing goes on while shards are encoded, and so do writing and committing.
        """
        if self._pool is None:
            self._encode_alone(tables, first, commit)
            return
        pending: deque[Future[Written]] = deque()
        try:
            for index, table in enumerate(tables, start=first):
                pending.append(self._submit(self._pool, table, index))
                if len(pending) > self._options.workers:
                    commit(*self._next(pending))
            while pending:
                commit(*self._next(pending))
        except BrokenProcessPool:
            raise StoreError(self._context.why_one_ended()) from None

    def _encode_alone(self, tables: Iterable[TokenTable], first: int, commit: Commit) -> None:
        def write(table: TokenTable, embedded: RowEmbeddings, index: int) -> None:
            commit(*_write(table, embedded, index, self._directory, self._options))

        with ThreadPoolExecutor(1) as writer, contextlib.closing(_one_ahead(tables)) as made:
            written: Future[None] | None = None
            for index, table in enumerate(made, start=first):
                embedded = _encode(self._encoder, table, index, self._options, self._reporter)
                if written:
                    written.result()
                written = writer.submit(write, table, embedded, index)
            if written:
                written.result()

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


def _one_ahead(tables: Iterable[TokenTable]) -> Generator[TokenTable]:
    """Makes the next table, in a thread, while this one is worked on."""
    remaining = iter(tables)
    with ThreadPoolExecutor(1) as maker:
        upcoming = maker.submit(next, remaining, None)
        while (table := upcoming.result()) is not None:
            upcoming = maker.submit(next, remaining, None)
            yield table


def _encode(
    encoder: TextEncoder, table: TokenTable, index: int, options: JobOptions, reporter: Reporter
) -> RowEmbeddings:
    if options.detector:
        embedded = embed_detected(encoder, table, options.detector, options.overflow, reporter.tokens)
    else:
        embedded = encoder.encode_rows(table, options.granularity, options.overflow, reporter.tokens)
    return cast(embedded, options.dtype, shard_name(index))


def _write(table: TokenTable, embedded: RowEmbeddings, index: int, directory: Path, options: JobOptions) -> Written:
    return write_shard(directory, shard_name(index), table, embedded, options.granularity)


class _Worker:
    """What a worker process keeps between shards."""

    encoder: TextEncoder
    directory: Path
    options: JobOptions
    failed: Exception | None = None


def _start(spec: EncoderSpec, directory: Path, options: JobOptions, pipe: Connection) -> None:
    """Loads the encoder, and ends this process as soon as its parent says so or is gone, however it went.

    What goes wrong is told with the first shard: the pool itself would tell the parent only that this process ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides

    def end_with_the_pipe() -> None:
        pipe.poll(None)
        os._exit(1)

    threading.Thread(target=end_with_the_pipe, daemon=True).start()
    _Worker.directory, _Worker.options = directory, options
    try:
        _Worker.encoder = spec.load()
    except Exception as error:
        _Worker.failed = error


def _encode_here(table: TokenTable, index: int) -> Written:
    if _Worker.failed is not None:
        raise _Worker.failed
    embedded = _encode(_Worker.encoder, table, index, _Worker.options, Reporter())
    return _write(table, embedded, index, _Worker.directory, _Worker.options)
