"""What every runtime is: token ids in, hidden states out."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nuner_embed.machine import cores

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]
RuntimeName = Literal["auto", "onnx", "openvino", "torch"]
Precision = Literal["auto", "f32", "bf16", "fp16", "int8"]


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What was asked for.

    Attributes:
        device: "auto", "cpu" or "cuda".
        precision: of the arithmetic; "auto" is the file's own, f32 for a Hugging Face directory.
        threads: in all; 0 means one for each core this process may use.
        graph: SHA-256 of the file to run, where an exported directory holds a fused copy of its graph too; None for
            the copy, if there is one.

    Raises:
        ValueError: an unknown device or precision.
    """

    device: str = "auto"
    precision: Precision = "auto"
    threads: int = 0
    graph: str | None = None

    def __post_init__(self) -> None:
        for name, values in (("device", ("auto", "cpu", "cuda")), ("precision", get_args(Precision))):
            if getattr(self, name) not in values:
                raise ValueError(f"{name} must be {', '.join(values)}, not {getattr(self, name)!r}")

    @property
    def thread_count(self) -> int:
        """The number of threads that `threads` stands for."""
        return self.threads or cores()


def pad(rows: Sequence[Sequence[int] | NDArray[np.integer[Any]]], pad_id: int) -> Batch:
    """Token ids and attention mask of some windows, (batch, longest) each."""
    ids = np.full((len(rows), max(map(len, rows))), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


def cut_batches(lengths: NDArray[np.int64], begin: int, batch_tokens: int) -> list[tuple[int, int]]:
    """Cuts windows, longest first, into batches of at most so many tokens: each batch's first and one past its last.

    Args:
        lengths: of the windows in falling order, (n,).
        begin: the first window to take.
        batch_tokens: padding included; one window is a batch in any case.
    """
    cuts = []
    while begin < len(lengths):
        end = min(len(lengths), begin + max(1, batch_tokens // int(lengths[begin])))
        cuts.append((begin, end))
        begin = end
    return cuts


@runtime_checkable
class Runtime(Protocol):
    """A text encoder that is loaded and ready to run.

    Attributes:
        name: "torch", "onnx", "openvino".
        device: where it really runs, "cpu" or "cuda".
        streams: how many batches it runs at a time; so many threads may call `run` at once.
        dim: width of the token embeddings, selected layers concatenated.
        description: one line for people, naming version, provider, precision and threads.
        numerics: all that decides the bits of its results, as JSON values; part of the numeric hash.
    """

    name: str
    device: str
    streams: int
    dim: int
    description: str
    numerics: dict[str, Any]

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Token embeddings (batch, length, dim) of padded ids (batch, length); padding's rows mean nothing.

        Raises:
            OutOfMemory: the batch does not fit; a smaller one may.
        """
        ...


def run_in_order(runtime: Runtime, batches: Iterable[Batch]) -> Iterator[NDArray[np.float32]]:
    """Token embeddings of each batch, in order; as many batches run at a time as the runtime has streams.

    Raises:
        OutOfMemory: the first batch without a result does not fit; later ones may have run for nothing.
    """
    if runtime.streams == 1:
        yield from (runtime.run(*batch) for batch in batches)
        return
    pending: deque[Future[NDArray[np.float32]]] = deque()
    with ThreadPoolExecutor(runtime.streams) as pool:
        try:
            for batch in batches:
                pending.append(pool.submit(runtime.run, *batch))
                if len(pending) > runtime.streams:  # one waits, so that no stream does
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
