"""Runtimes over padded matrices: their batches, their pooling, and whether padding changes their results.

Most networks mask the padding out. Networks that mix neighbours before they apply the mask (convolutions, Fourier
transforms, sketched attention) do not; they get batches of texts of one length. A network that gives different vectors
when the same text is run again, such as one that draws random numbers, is refused.
"""

import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nuner_embed.cache import cached
from nuner_embed.errors import ModelError, NunerEmbedError, OutOfMemory
from nuner_embed.files import hash_of, read_json, write_json
from nuner_embed.metadata import convert
from nuner_embed.models.resolver import Model
from nuner_embed.printable import one_line
from nuner_embed.runtimes.base import FLOAT32_ROWS, Pass, Precision, RowFormat, WindowBatch, ignore_pass

Ints = NDArray[np.int64]
PaddedIds = tuple[Ints, Ints]  # token ids and attention mask, (batch, length) each
States = Callable[[Ints, Ints], NDArray[np.float32]]
_T = TypeVar("_T")

_SCHEMA_VERSION = 1
_SHORT = 7  # tokens
# How far a vector may move, as a share of its length. For float32 this is far above the effect of another order of
# summation (a cosine of 1 - 5e-7); padding moves the vectors of ConvBERT by 0.15 (cosine 0.988), those of MobileBERT by
# 0.02 (0.9997). int8 has no entry: in graphs of other programs its scales are those of the whole batch, so a vector
# moves with its neighbours.
NOISE = {"f32": 1e-3, "bf16": 0.05, "fp16": 0.05}


ONE_LENGTH = ", texts of one length at a time"  # in the description of a runtime that pads nothing


class PaddedRuntime(ABC):
    """A `Runtime` over a network that takes one padded matrix of token ids at a time.

    A subclass implements `states`; on a device it may run batches in its own way, see `results`. Hidden states of a
    padded matrix are no part of the contract `Runtime`, since a runtime may pack its windows; here they are the output
    of the network, show whether padding changes the results, and are compared in tests.

    Attributes:
        streams: number of batches, and threads that call `states`, at a time.
        padding: whether windows of different lengths may share a matrix.
        packed: whether windows run one after the other in one row of tokens, without padding.
        pad_id: token id used for padding.
        The others: see `Runtime`.
    """

    name: str
    device: str
    precision: Precision
    dim: int
    batch_tokens: int
    description: str
    numerics: dict[str, Any]
    streams: int = 1
    padding: bool = True
    packed: bool = False
    pad_id: int = 0

    @abstractmethod
    def states(self, input_ids: Ints, attention_mask: Ints) -> NDArray[np.float32]:
        """Token embeddings (batch, length, dim) of padded ids (batch, length); the rows of padding have no meaning.

        Raises:
            OutOfMemory: the matrix does not fit into memory.
        """

    def pooled(self, batch: WindowBatch, form: RowFormat) -> NDArray[np.floating[Any]]:
        """The rows of a batch, (m, dim), whose windows are padded to one matrix.

        A runtime on a device may override this method to make the rows on the device.
        """
        states = self.states(*padded(batch, self.pad_id))
        return form.apply(pool(states, batch.window, batch.first, batch.last))

    def results(
        self, batches: Iterable[WindowBatch], form: RowFormat, streams: int
    ) -> Iterator[NDArray[np.floating[Any]]]:
        """The rows of each batch, in order; an array may change once the next one is asked for.

        Args:
            batches: of windows that run together, the longest first.
            form: of the rows.
            streams: most batches to run at a time.

        Raises:
            OutOfMemory: from the first batch that raised it, after the rows of all batches before.
        """
        return in_order((partial(self.pooled, batch, form) for batch in batches), streams)

    def rows(
        self,
        batch: WindowBatch,
        batch_tokens: int,
        on_pass: Callable[[Pass], None] = ignore_pass,
        form: RowFormat = FLOAT32_ROWS,
    ) -> NDArray[Any]:
        """See `Runtime.rows`; the longest windows run first, so that memory runs out at the beginning if at all."""
        vectors = np.empty((len(batch.window), self.dim), form.dtype)
        windows = _LongestFirst(batch)
        lengths, streams, begin = windows.lengths, self.streams, 0
        while begin < len(lengths):
            cuts = self._cuts(lengths, begin, batch_tokens)
            parts = deque[Ints]()  # the rows of batches that are being run

            def take(first: int, end: int, parts: deque[Ints] = parts) -> WindowBatch:
                rows, taken = windows.take(first, end)
                parts.append(rows)
                return taken

            try:
                results = self.results((take(first, end) for first, end in cuts), form, streams)
                for (first, end), found in zip(cuts, results, strict=True):
                    vectors[parts.popleft()] = found
                    tokens = int(lengths[first:end].sum())
                    padding = 0 if self.packed else int(lengths[first]) * (end - first) - tokens
                    on_pass(Pass(tokens, padding, batch_tokens))
                    begin = end
            except OutOfMemory as error:
                size = next(end for first, end in cuts if first == begin) - begin
                if size > 1:
                    batch_tokens = max(1, min(batch_tokens, size * int(lengths[begin])) // 2)
                elif streams > 1:  # the window may fit where no other batch runs beside it
                    streams = 1
                else:
                    raise OutOfMemory(
                        f"one window of {lengths[begin]} tokens does not fit into memory ({error}); "
                        "use a smaller --max-length, fewer layers or another device"
                    ) from error
        return vectors

    def _cuts(self, lengths: Ints, begin: int, batch_tokens: int) -> list[tuple[int, int]]:
        if self.packed:
            return cut_packed(lengths, begin, batch_tokens)
        cuts = cut_batches(lengths, begin, batch_tokens)
        if self.padding:
            return cuts
        edges = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
        ends = sorted({*(edge for edge in edges if edge > begin), *(end for _, end in cuts)})
        return list(zip([begin, *ends[:-1]], ends, strict=True))


class _LongestFirst:
    """The windows of a batch in the order in which they run, and the rows of each.

    Attributes:
        lengths: of the windows, in falling order, (w,).
    """

    def __init__(self, batch: WindowBatch) -> None:
        lengths = np.diff(batch.bounds)
        self._batch = batch
        self._order = np.argsort(-lengths, kind="stable")
        self.lengths: Ints = lengths[self._order]
        rank = np.empty_like(self._order)
        rank[self._order] = np.arange(len(self._order))
        self._rank = rank[batch.window]
        self._by_rank = np.argsort(self._rank, kind="stable")
        self._row_rank = self._rank[self._by_rank]

    def take(self, first: int, end: int) -> tuple[Ints, WindowBatch]:
        """The windows `first` to `end` - 1 in the order of `lengths`: the numbers of their rows, and a batch."""
        batch, bounds = self._batch, self._batch.bounds
        rows = self._by_rank[slice(*np.searchsorted(self._row_rank, [first, end]))]
        ids = np.concatenate([batch.ids[bounds[w] : bounds[w + 1]] for w in self._order[first:end].tolist()])
        ends = np.concatenate([[0], np.cumsum(self.lengths[first:end])])
        return rows, WindowBatch(ids, ends, self._rank[rows] - first, batch.first[rows], batch.last[rows])


def padded(batch: WindowBatch, pad_id: int) -> PaddedIds:
    """Token ids and attention mask of the windows of a batch, (w, longest) each."""
    return pad([batch.ids[a:b] for a, b in zip(batch.bounds[:-1], batch.bounds[1:], strict=True)], pad_id)


def pad(rows: Sequence[Sequence[int] | NDArray[np.integer[Any]]], pad_id: int) -> PaddedIds:
    """Token ids and attention mask of some windows, (batch, longest) each."""
    ids = np.full((len(rows), max(map(len, rows))), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


def cut_batches(lengths: Ints, begin: int, batch_tokens: int) -> list[tuple[int, int]]:
    """Cuts windows, longest first, into batches; returns each batch's first window and one past its last.

    Args:
        lengths: of the windows in falling order, (n,).
        begin: the first window to take.
        batch_tokens: most tokens of a batch, padding included; a single window may have more.
    """
    cuts = []
    while begin < len(lengths):
        end = min(len(lengths), begin + max(1, batch_tokens // int(lengths[begin])))
        cuts.append((begin, end))
        begin = end
    return cuts


def cut_packed(lengths: Ints, begin: int, batch_tokens: int) -> list[tuple[int, int]]:
    """As `cut_batches`, for windows that run without padding."""
    ends = np.cumsum(lengths)
    cuts = []
    while begin < len(lengths):
        before = ends[begin] - lengths[begin]
        end = max(begin + 1, int(np.searchsorted(ends, before + batch_tokens, side="right")))
        cuts.append((begin, end))
        begin = end
    return cuts


def in_order(calls: Iterable[Callable[[], _T]], streams: int) -> Iterator[_T]:
    """The results of the calls, in order; `streams` calls run at a time.

    Raises:
        OutOfMemory: from the first call that raised it; results of later calls are lost.
    """
    if streams == 1:
        yield from (call() for call in calls)
        return
    pending: deque[Future[_T]] = deque()
    with ThreadPoolExecutor(streams) as threads:
        try:
            for call in calls:
                pending.append(threads.submit(call))
                if len(pending) > streams:  # one call waits, so that no stream is idle
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def pool(states: NDArray[np.float32], window: Ints, first: Ints, last: Ints) -> NDArray[np.float32]:
    """The mean of each row's tokens, (m, dim).

    Args:
        states: token embeddings of a batch, (batch, length, dim).
        window: the window of each row within the batch, (m,).
        first: the row's first token within the window, (m,).
        last: one past the row's last token, greater than `first`, (m,).
    """
    sizes = last - first
    tokens = states.reshape(-1, states.shape[-1])
    first = first + window * states.shape[1]
    pooled = tokens.take(first, axis=0)
    several = np.flatnonzero(sizes > 1)
    if len(several):
        several = several[np.argsort(-sizes[several], kind="stable")]  # so that those with an n-th token come first
        begins, sizes = first[several], sizes[several]
        others = tokens.take(begins + 1, axis=0)
        for step in range(2, int(sizes[0])):
            longer = int(np.searchsorted(-sizes, -step))
            others[:longer] += tokens.take(begins[:longer] + step, axis=0)
        pooled[several] = (pooled[several] + others) / sizes[:, None].astype(np.float32)
    return pooled


def takes_padding(
    model: Model, states: States, longest: int, key: dict[str, Any], noise: float | None = NOISE["f32"]
) -> bool:
    """Whether texts of different lengths may share a batch; tried once and remembered in the user's cache folder.

    Args:
        model: its weights and configuration are the key of the remembered result.
        states: the network; see `PaddedRuntime.states`.
        longest: tokens of the longest window that will be run, to include what the network does only above some length.
        key: other values that decide, as JSON values: layers, versions, device.
        noise: how far a vector may move, as a share of its length; None to skip the trial and allow padding.

    Raises:
        ModelError: the network does not run, or gives different vectors when the same text is run again.
        OutOfMemory: a window of the longest length does not fit into memory.
    """
    if noise is None:
        return True
    path = _memory(model, {**key, "longest": longest})
    with contextlib.suppress(OSError, ValueError):  # not tried yet, or the file is damaged
        return convert(read_json(path), _Remembered).padding
    padding = _find_out(model, states, longest, noise)
    with contextlib.suppress(OSError):  # then it is tried again the next time
        write_json(path, {"padding": padding})
    return padding


@dataclass(frozen=True, slots=True)
class _Remembered:
    padding: bool


def _memory(model: Model, key: dict[str, Any]) -> Path:
    whose = {"schema_version": _SCHEMA_VERSION, "weights": model.weights_sha256, "config": model.config.sha256}
    return cached("padding", f"{hash_of({**whose, **key})}.json")


def _find_out(model: Model, states: States, longest: int, noise: float) -> bool:
    def close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
        moved = np.linalg.norm(found - expected, axis=-1)
        return bool((moved <= noise * np.linalg.norm(expected, axis=-1)).all())  # NaN counts as moved

    random = np.random.default_rng(0)
    vocabulary, pad_id = model.config.vocabulary, model.config.pad_id
    texts = [random.integers(vocabulary, size=length) for length in (longest, min(_SHORT, longest), longest - 1)]
    long, short, other = (np.where(ids == pad_id, (pad_id + 1) % vocabulary, ids) for ids in texts)
    other = other[: len(short)]
    first_long = _first_states(model, states, long)  # first: some networks change for good once they see a shorter one
    first_short = _first_states(model, states, short)
    together = states(*pad([long, short], pad_id))
    abreast = states(*pad([short, other], pad_id))[0] if len(other) == len(short) else first_short
    again_short, again_long = states(*pad([short], pad_id))[0], states(*pad([long], pad_id))[0]
    same = close(again_short, first_short) and close(again_long, first_long)
    if not same or not close(abreast, first_short):
        raise ModelError(
            f"{model.name} is a {model.config.model_type} whose vectors for a text differ between two runs, or "
            "depend on the other texts of a batch; such vectors cannot be compared"
        )
    return close(together[0], first_long) and close(together[1, : len(short)], first_short)


def _first_states(model: Model, states: States, ids: Ints) -> NDArray[np.float32]:
    try:
        found: NDArray[np.float32] = states(*pad([ids], model.config.pad_id))[0]
    except NunerEmbedError:
        raise
    except Exception as error:  # each architecture raises its own
        raise ModelError(
            f"{model.name} is a {model.config.model_type} that does not run as a text encoder on {len(ids)} tokens "
            f"({one_line(error, 200)})"
        ) from None
    return found
