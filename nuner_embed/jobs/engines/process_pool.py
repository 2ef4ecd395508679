"""The engine that encodes in worker processes: how they start, get their shards and end."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import StoreError
from nuner_embed.jobs.engines.base import ShardTask, WrittenShard
from nuner_embed.jobs.reporter import Reporter
from nuner_embed.tables import TokenTable

_MAIN = "__main__"
_ONE_AT_A_TIME = threading.Lock()
_PR_SET_PDEATHSIG = 1
_ENDS_WITHIN = 5  # seconds


class ProcessEngine:
    """Encodes in `task.options.workers` processes, each a shard at a time.

    Args:
        reporter: is told of every shard's tokens.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def run(self, task: ShardTask, tables: Iterable[TokenTable], commit: Callable[[WrittenShard], None]) -> None:
        """See `Engine.run`."""
        context = WorkerContext((task.options.spec, task.options))
        # Workers end when the pipe is closed, here or by the end of this process. An Event would wait for dead workers.
        reader, pipe = context.Pipe(duplex=False)
        pool = ProcessPoolExecutor(
            task.options.workers, mp_context=context, initializer=_start, initargs=(task, reader)
        )
        try:
            self._feed(pool, task, tables, commit)
        except BaseException as error:
            pipe.close()
            if isinstance(error, BrokenProcessPool):
                raise StoreError(context.why_one_ended()) from None
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            pipe.close()
            reader.close()

    def _feed(
        self,
        pool: ProcessPoolExecutor,
        task: ShardTask,
        tables: Iterable[TokenTable],
        commit: Callable[[WrittenShard], None],
    ) -> None:
        """Submits tables, one more than there are workers, and commits the shards in order."""
        pending: deque[Future[WrittenShard]] = deque()

        def commit_next() -> None:
            written = pending.popleft().result()
            self._reporter.tokens(written.entry.tokens)
            commit(written)

        for index, table in enumerate(tables, start=task.first):
            pending.append(_submit(pool, table, index))
            if len(pending) > task.options.workers:
                commit_next()
        while pending:
            commit_next()


def _submit(pool: ProcessPoolExecutor, table: TokenTable, index: int) -> Future[WrittenShard]:
    try:
        return pool.submit(_encode_here, table, index)
    except OSError as error:
        if error.errno is not None:
            raise
        # The pool found a dead worker and closed its wake-up pipe during this call.
        raise BrokenProcessPool(str(error)) from error


class _Worker:
    """What a worker process keeps between shards."""

    task: ShardTask
    encoder: TextEncoder
    failed: Exception | None = None


def _start(task: ShardTask, pipe: Connection) -> None:
    """Loads the encoder, and ends this process when its parent closes the pipe or dies.

    Errors are raised with the first shard: raised here, the parent would learn only that the process ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent handles it

    def end_with_the_pipe() -> None:
        pipe.poll(None)
        os._exit(1)

    threading.Thread(target=end_with_the_pipe, daemon=True).start()
    _Worker.task = task
    try:
        _Worker.encoder = task.options.spec.load()
    except Exception as error:
        _Worker.failed = error


def _encode_here(table: TokenTable, index: int) -> WrittenShard:
    if _Worker.failed is not None:
        raise _Worker.failed
    embedded = _Worker.task.encode(_Worker.encoder, table, index, lambda tokens: None)
    return _Worker.task.write(table, embedded, index)


class WorkerContext(SpawnContext):
    """Starts processes that do not run the user's main script again, and ignore Ctrl-C.

    Python runs the main script in every spawned process, to define what the script defines. Without an
    `if __name__ == "__main__":` the process would begin the job anew, and a script from standard input or a notebook
    cannot be run at all. Workers need the main script only if the job was given an object of a class that the script
    defines; then the script is run as usual.

    Args:
        given: the objects that the processes get.
    """

    def __init__(self, given: tuple[Any, ...]) -> None:
        super().__init__()
        self._started: list[SpawnProcess] = []
        self._needs_main = any(map(_is_of_main, given))

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        """Makes a process that is not started yet."""
        process = _Process(*args, **kwargs)
        process.needs_main = self._needs_main
        self._started.append(process)
        return process

    def why_one_ended(self) -> str:
        """Why a process ended too early, as far as known, and what to do about it."""
        codes = [code for process in self._started if (code := _exit_code(process))]
        if -signal.SIGKILL in codes:
            return (
                "a worker process was killed, most likely because memory ran out; the same command with fewer "
                "--workers continues"
            )
        if self._needs_main and 1 in codes:
            return (
                "a worker process could not run the main script, which defines what the job was given; protect the "
                'script\'s calls with if __name__ == "__main__":, or define these things in a module of their own'
            )
        ends = {_named(code) for code in codes if code != -signal.SIGTERM}  # sent by the pool to the other workers
        return (
            f"a worker process ended ({', '.join(sorted(ends)) or 'for an unknown reason'}); see its output above. "
            "The same command continues, also without --workers"
        )


def _exit_code(process: SpawnProcess) -> int | None:
    """The exit code of a process that ends; None where the process lives on.

    The pool's own thread waits for its processes too: whoever comes second finds no child, and no code until the first
    has noted it.
    """
    process.join(_ENDS_WITHIN)
    until = time.monotonic() + 1
    while process.exitcode is None and time.monotonic() < until:
        time.sleep(0.01)
    return process.exitcode


class _Process(SpawnProcess):
    """A process that ends with its parent, from its first moment on."""

    needs_main = False

    def __reduce__(self) -> tuple[Any, ...]:
        # The new process calls this before it reads anything else, which would import modules for seconds.
        return _received, (os.getpid(),), self.__dict__

    def start(self) -> None:
        with _ONE_AT_A_TIME, _without_ctrl_c(), contextlib.nullcontext() if self.needs_main else _without_main():
            super().start()


def _received(parent: int) -> _Process:
    """Ties the new process to its parent; returns an empty process object."""
    end_with(parent)
    return _Process.__new__(_Process)


def end_with(parent: int) -> None:
    """Makes the system kill this process when its parent dies, on Linux only.

    On Linux the parent is the thread that started the process: this thread must live as long as the process works.

    Args:
        parent: id of the parent process.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before
            os._exit(1)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hides the origin of the main script while a process starts, so that the process does not run the script."""
    main = sys.modules[_MAIN]
    hidden: dict[str, Any] = {name: main.__dict__[name] for name in ("__file__", "__spec__") if name in main.__dict__}
    main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(hidden)


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Blocks SIGINT, which a new process inherits: a terminal sends Ctrl-C to all, and the parent handles it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_of_main(value: Any) -> bool:
    """Whether a value, or an attribute of it, is of a class that the main script defines."""
    if type(value).__module__ == _MAIN:
        return True
    slots = [getattr(value, name, None) for name in getattr(type(value), "__slots__", ())]
    return any(type(one).__module__ == _MAIN for one in [*slots, *getattr(value, "__dict__", {}).values()])


def _named(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
