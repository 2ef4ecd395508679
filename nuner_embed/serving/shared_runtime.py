"""One thread that computes for all requests: batches that wait at the same time run together.

A runtime takes ragged windows of tokens and returns one vector for each row, so the windows of several requests can be
joined to one batch, and the rows cut apart afterwards. `SharedRuntime` is a runtime that does this; an encoder with
this runtime can be used from any number of threads, and everything that takes an encoder shares batches.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from nuner_embed.runtimes.base import FLOAT32_ROWS, Pass, RowFormat, Runtime, WindowBatch, ignore_pass

# Batches of requests that run together hold at most so many passes for each stream of the runtime. More passes mean
# less padding, since windows are sorted by length before they are cut into passes, but a longer wait for a short text.
PASSES: Final = 4
THREAD: Final = "nuner-embed compute"
ABANDONED: Final = "nuner-embed abandoned"  # by this name the command line finds a thread, and does not wait for it


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of joined batches took.

    Attributes:
        requests: batches that ran together.
        tokens: tokens of the windows, special tokens included.
        padding: padding tokens besides.
        seconds: of the run.
    """

    requests: int
    tokens: int
    padding: int
    seconds: float


class RunObserver(Protocol):
    """Is told about every run, in the thread that computes."""

    def ran(self, run: Run) -> None:
        """Takes note of a run."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A batch that waits to be run."""

    runtime: Runtime
    batch: WindowBatch
    batch_tokens: int
    vectors: "Future[NDArray[Any]]" = field(default_factory=Future)

    @property
    def tokens(self) -> int:
        return len(self.batch.ids)


class ComputeThread:
    """The thread that runs all networks, one run at a time, first come first served.

    A run takes the batch that has waited longest, and the next ones for the same runtime as long as their tokens fit
    into the budget of the run.

    Args:
        observer: is told about every run; None for nobody.
    """

    def __init__(self, observer: RunObserver | None = None) -> None:
        self._observer = observer
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=THREAD, daemon=True)
        self._thread.start()

    def rows(self, runtime: Runtime, batch: WindowBatch, batch_tokens: int) -> NDArray[Any]:
        """The rows of a batch, (m, dim) float32, not scaled; the caller waits until they are computed.

        Raises:
            OutOfMemory: one window alone does not fit.
            RuntimeError: the thread was closed.
        """
        waiting = _Waiting(runtime, batch, batch_tokens)
        with self._changed:
            if self._closed:
                raise RuntimeError("the thread that computes has ended")
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting.vectors.result()

    def close(self, seconds: float | None = None) -> None:
        """Computes what waits, then ends the thread.

        Args:
            seconds: longest time to wait for the end; None for any time.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._thread.name = ABANDONED

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                together = self._take()
            self._run(together)

    def _take(self) -> list[_Waiting]:
        """Takes the batches of the next run from the queue."""
        first = self._waiting.popleft()
        together, room = [first], PASSES * first.runtime.streams * first.batch_tokens - first.tokens
        others: deque[_Waiting] = deque()
        while self._waiting and room > 0:
            one = self._waiting.popleft()
            if one.runtime is first.runtime and one.batch_tokens == first.batch_tokens and one.tokens <= room:
                together.append(one)
                room -= one.tokens
            else:
                others.append(one)
        self._waiting.extendleft(reversed(others))
        return together

    def _run(self, together: Sequence[_Waiting]) -> None:
        first, passes = together[0], list[Pass]()
        begin = time.perf_counter()
        try:
            joined = join_batches([one.batch for one in together])
            vectors = first.runtime.rows(joined, first.batch_tokens, passes.append, FLOAT32_ROWS)
        except Exception as error:
            if len(together) == 1:
                first.vectors.set_exception(error)
                return
            for one in together:  # an error may come from one of the batches alone
                self._run([one])
            return
        if self._observer is not None:
            tokens, padding = sum(one.tokens for one in passes), sum(one.padding for one in passes)
            self._observer.ran(Run(len(together), tokens, padding, time.perf_counter() - begin))
        ends = np.cumsum([len(one.batch.window) for one in together])[:-1]
        for one, part in zip(together, np.split(vectors, ends), strict=True):
            one.vectors.set_result(part)


class SharedRuntime:
    """A `Runtime` that any number of threads may use at a time; see `Runtime` for its attributes.

    The numbers are those of the runtime behind: a batch that runs alone gives the same bits, and one that runs together
    with others the same numbers except for rounding.

    Args:
        runtime: does the work.
        compute: the thread that runs it.
    """

    def __init__(self, runtime: Runtime, compute: ComputeThread) -> None:
        self._runtime = runtime
        self._compute = compute
        self.name = runtime.name
        self.device = runtime.device
        self.precision = runtime.precision
        self.dim = runtime.dim
        self.batch_tokens = runtime.batch_tokens
        self.streams = runtime.streams
        self.description = runtime.description
        self.numerics = runtime.numerics

    def rows(
        self,
        batch: WindowBatch,
        batch_tokens: int,
        on_pass: Callable[[Pass], None] = ignore_pass,
        form: RowFormat = FLOAT32_ROWS,
    ) -> NDArray[Any]:
        """See `Runtime.rows`; `on_pass` is called once, with the tokens of this batch and without padding."""
        vectors = self._compute.rows(self._runtime, batch, batch_tokens)
        on_pass(Pass(len(batch.ids), 0, batch_tokens))
        # a part of the rows of several requests: a copy is scaled, and the rest is not kept in memory
        return form.apply(vectors.copy())


def join_batches(batches: Sequence[WindowBatch]) -> WindowBatch:
    """The windows and rows of several batches as one, in order."""
    if len(batches) == 1:
        return batches[0]
    tokens = np.cumsum([0, *(len(batch.ids) for batch in batches[:-1])])
    windows = np.cumsum([0, *(len(batch.bounds) - 1 for batch in batches[:-1])])
    bounds = [batch.bounds[1:] + shift for batch, shift in zip(batches, tokens, strict=True)]
    return WindowBatch(
        ids=np.concatenate([batch.ids for batch in batches]),
        bounds=np.concatenate([[0], *bounds]),
        window=np.concatenate([batch.window + shift for batch, shift in zip(batches, windows, strict=True)]),
        first=np.concatenate([batch.first for batch in batches]),
        last=np.concatenate([batch.last for batch in batches]),
    )
