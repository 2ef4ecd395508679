"""The contract of a runtime: ragged windows of tokens in, pooled rows out."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nuner_embed.errors import OutOfMemory
from nuner_embed.machine import cores
from nuner_embed.tables import Dtype

RuntimeName = str  # a key of `registry.RUNTIMES`, or "auto"
Precision = Literal["auto", "f32", "bf16", "fp16", "int8"]
# Measured by benchmarks/gpu.py on an H200: smaller batches are no faster, larger ones slower.
CUDA_BATCH_TOKENS = 16384
# Words in the errors of torch, ONNX Runtime and OpenVINO when memory has run out.
_MEMORY_WORDS = (
    "can't allocate memory", "not enough memory", "out of memory", "failed to allocate", "bad allocation", "bad_alloc",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Options of a runtime.

    Attributes:
        device: "auto", "cpu" or "cuda".
        precision: of the arithmetic; "auto" is the precision of the file, f32 for a Hugging Face directory. (What is
            fastest is chosen before a runtime is constructed; see `selection` and `weights_selection`.)
        threads: number of threads; 0 means one for each core that this process may use.
        streams: batches to run at a time, which share the threads; 0 for the runtime's own number. Runtimes that do not
            leave the choice have their own number.
        graph: SHA-256 of the file to run, where an exported directory holds a fused copy of its graph too; None for
            the copy, if there is one.

    Raises:
        ValueError: an unknown device or precision.
    """

    device: str = "auto"
    precision: Precision = "auto"
    threads: int = 0
    streams: int = 0
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
class RowFormat:
    """The numbers that a runtime gives as rows.

    A number too large for float16 becomes infinite there, and an infinite one NaN, so that a caller knows them apart.

    Attributes:
        dtype: of the rows; they are averaged and scaled in float32.
        normalize: whether rows are scaled to length 1.
    """

    dtype: Dtype = "float32"
    normalize: bool = False
    SHORTEST: ClassVar[float] = 1e-12  # a shorter row is divided by this

    def apply(self, rows: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """Rows (m, dim) in this format; the ones given may change."""
        if self.normalize:
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), self.SHORTEST)
        if self.dtype == "float32":
            return rows
        with np.errstate(over="ignore"):
            cast = rows.astype(self.dtype)
        infinite = np.isinf(rows)
        if infinite.any():
            cast[infinite] = np.nan
        return cast


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of some windows through the network.

    Attributes:
        tokens: of the windows, special tokens included.
        padding: padding tokens besides.
        batch_tokens: the budget of the pass; reduced once memory has run out.
    """

    tokens: int
    padding: int
    batch_tokens: int


FLOAT32_ROWS = RowFormat()


def ignore_pass(done: Pass) -> None:
    """The `on_pass` of callers who need no progress."""


@runtime_checkable
class Runtime(Protocol):
    """A text encoder that is loaded and ready to run.

    Attributes:
        name: its key in the registry.
        device: where the runtime really runs, "cpu" or "cuda".
        precision: of its arithmetic, never "auto".
        dim: width of the token embeddings, selected layers concatenated.
        batch_tokens: the default budget for the device, in tokens.
        streams: number of batches that run at a time.
        description: one line with version, provider, precision and threads.
        numerics: everything that decides the bits of its results, as JSON values; part of the numeric hash.
    """

    name: str
    device: str
    precision: Precision
    dim: int
    batch_tokens: int
    streams: int
    description: str
    numerics: dict[str, Any]

    def rows(
        self,
        batch: WindowBatch,
        batch_tokens: int,
        on_pass: Callable[[Pass], None] = ignore_pass,
        form: RowFormat = FLOAT32_ROWS,
    ) -> NDArray[Any]:
        """The mean of the token embeddings of each row, (m, dim), in the order of the batch's rows.

        The runtime decides in which order and how many windows run at a time, whether they are padded, and where rows
        are pooled, scaled and cast. The rows of a window do not depend on the other windows, except for rounding. Where
        memory runs out, the runtime continues with a smaller budget.

        Args:
            batch: the windows and the rows.
            batch_tokens: tokens in one pass through the network, padding included; a single window may have more.
            on_pass: called after each pass, in the order of the passes.
            form: of the rows.

        Raises:
            OutOfMemory: one window alone does not fit.
        """
        ...


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turns the errors that libraries raise when memory runs out into a one-line OutOfMemory."""
    try:
        yield
    except Exception as error:  # each library has its own errors, without a common base
        if isinstance(error, MemoryError) or any(word in str(error).lower() for word in _MEMORY_WORDS):
            raise OutOfMemory((str(error).splitlines() or ["out of memory"])[0]) from error
        raise
