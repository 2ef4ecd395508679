"""The contract of a runtime: ragged windows of tokens in, pooled rows out."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nuner_embed.errors import OutOfMemory
from nuner_embed.machine import cores

RuntimeName = str  # of `registry.RUNTIMES`, or "auto"
Precision = Literal["auto", "f32", "bf16", "fp16", "int8"]
# Measured by benchmarks/gpu.py on an H200: smaller batches are no faster, larger ones slower.
CUDA_BATCH_TOKENS = 16384
# By which the errors of torch, ONNX Runtime and OpenVINO tell that memory has run out.
_MEMORY_WORDS = (
    "can't allocate memory", "not enough memory", "out of memory", "failed to allocate", "bad allocation", "bad_alloc",
)  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Windows of tokens, and the rows to take from them.

    Attributes:
        ids: token ids of all windows one after the other, special tokens included, (t,).
        bounds: window i has the tokens `bounds[i]` to `bounds[i + 1]`, at least one, (w + 1,).
        window: the window of each row, (m,).
        first: the row's first token within its window, (m,).
        last: one past the row's last token, at least one token after `first`, (m,).
    """

    ids: NDArray[np.integer[Any]]
    bounds: NDArray[np.int64]
    window: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of some windows through the network.

    Attributes:
        tokens: that the windows hold, special tokens included.
        padding: padding tokens that went with them.
        batch_tokens: the budget that the pass kept to; smaller than the one asked for once memory has run out.
    """

    tokens: int
    padding: int
    batch_tokens: int


def ignore_pass(done: Pass) -> None:
    """For those who do not ask how far a runtime is."""


@runtime_checkable
class Runtime(Protocol):
    """A text encoder that is loaded and ready to run.

    Attributes:
        name: by which the registry knows it.
        device: where it really runs, "cpu" or "cuda".
        precision: of its arithmetic, never "auto".
        dim: width of the token embeddings, selected layers concatenated.
        batch_tokens: the budget that suits its device where nobody measured a better one.
        description: one line for people, naming version, provider, precision and threads.
        numerics: all that decides the bits of its results, as JSON values; part of the numeric hash.
    """

    name: str
    device: str
    precision: Precision
    dim: int
    batch_tokens: int
    description: str
    numerics: dict[str, Any]

    def rows(
        self, batch: WindowBatch, batch_tokens: int, on_pass: Callable[[Pass], None] = ignore_pass
    ) -> NDArray[np.float32]:
        """The mean of the token embeddings of each row, (m, dim), in the order of the batch's rows.

        In which order the windows run, how many at a time, whether they are padded and where rows are pooled is the
        runtime's business. A window alone gives the numbers it has among others, but for rounding. Where memory runs
        out, the runtime goes on with a smaller budget.

        Args:
            batch: the windows and the rows.
            batch_tokens: tokens that may go through the network at a time, padding included; a single window may
                hold more.
            on_pass: called after each pass, in the order of the passes.

        Raises:
            OutOfMemory: one window alone does not fit.
        """
        ...


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Raises OutOfMemory, in one line, for whatever a library raises where memory has run out."""
    try:
        yield
    except Exception as error:  # each library has kinds of its own, which share no base but this
        if isinstance(error, MemoryError) or any(word in str(error).lower() for word in _MEMORY_WORDS):
            raise OutOfMemory((str(error).splitlines() or ["out of memory"])[0]) from error
        raise
