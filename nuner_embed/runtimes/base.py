"""What every runtime is: token ids in, hidden states out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nuner_embed.machine import cores

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]
RuntimeName = Literal["auto", "onnx", "torch"]
Precision = Literal["f32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What was asked for.

    Attributes:
        device: "auto", "cpu" or "cuda".
        precision: of the arithmetic.
        threads: within one operation; 0 means one for each core this process may use.
    """

    device: str = "auto"
    precision: Precision = "f32"
    threads: int = 0

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


@runtime_checkable
class Runtime(Protocol):
    """A text encoder that is loaded and ready to run.

    Attributes:
        name: "torch", "onnx".
        device: where it really runs, "cpu" or "cuda".
        dim: width of the token embeddings, selected layers concatenated.
        description: one line for people, naming version, provider, precision and threads.
        numerics: all that decides the bits of its results, as JSON values; part of the numeric hash.
    """

    name: str
    device: str
    dim: int
    description: str
    numerics: dict[str, Any]

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Token embeddings (batch, length, dim) of padded ids (batch, length); padding's rows mean nothing.

        Raises:
            OutOfMemory: the batch does not fit; a smaller one may.
        """
        ...
