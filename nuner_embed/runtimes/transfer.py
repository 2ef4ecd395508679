"""Copies between the host and a device that compute and copy at the same time; on a CPU the same code copies in order.

A batch has a slot: a CUDA stream and a pinned buffer. The host prepares and launches the next batch, and takes the rows
of the last one away, while the device computes.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nuner_embed.errors import OutOfMemory


def to_device(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """The array on the device; to a GPU from pinned memory, so that the host does not wait for the copy."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()  # torch reuses this memory only once the copy is done
    return tensor.to(device, non_blocking=True)


def upload(arrays: Sequence[NDArray[np.integer[Any]]], device: torch.device) -> list[torch.Tensor]:
    """Arrays of integers (n,) on the device as int32, in one copy."""
    together = np.concatenate([array.astype(np.int32, copy=False) for array in arrays])
    return list(to_device(together, device).split([len(array) for array in arrays]))


def in_flight(
    batches: Iterable[Callable[[], torch.Tensor]], device: torch.device, slots: int
) -> Iterator[NDArray[np.floating[Any]]]:
    """The rows of batches, in order; up to `slots` batches are on the device at a time.

    Args:
        batches: functions that queue the operations of a batch and return its rows, on the device.
        device: where they run.
        slots: number of batches.

    Yields:
        The rows (m, dim) of each batch; their memory is overwritten once the next ones are asked for.

    Raises:
        OutOfMemory: from the first batch that raised it, after the rows of all batches before.
    """
    free = deque(_Slot(device) for _ in range(slots))
    launched: deque[_Slot] = deque()
    for batch in batches:
        if not free:
            slot = launched.popleft()
            yield slot.landed()
            free.append(slot)
        try:
            free[0].launch(batch)
        except OutOfMemory:
            yield from (slot.landed() for slot in launched)
            raise
        launched.append(free.popleft())
    yield from (slot.landed() for slot in launched)


class _Slot:
    """A stream, and memory of the host where the rows of one batch land at a time."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        if self._cuda:
            self._stream = torch.cuda.Stream(device)
            self._event = torch.cuda.Event(blocking=True)  # waiting costs no core, which the tokenizer needs
        self._buffer = torch.empty(0)
        self._rows = self._buffer

    def launch(self, batch: Callable[[], torch.Tensor]) -> None:
        """Queues a batch and the copy of its rows; the rows of the last batch must have been taken away."""
        with torch.inference_mode(), self._queue():
            rows = batch()
            self._rows = self._room(rows)
            self._rows.copy_(rows, non_blocking=True)
            if self._cuda:
                self._event.record()

    def landed(self) -> NDArray[np.floating[Any]]:
        """The rows (m, dim) of the batch, once the copy is done."""
        if self._cuda:
            self._event.synchronize()
        rows: NDArray[np.floating[Any]] = self._rows.numpy()
        return rows

    def _queue(self) -> AbstractContextManager[Any]:
        if not self._cuda:
            return contextlib.nullcontext()
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))  # the weights may still be copied
        queue: AbstractContextManager[Any] = torch.cuda.stream(self._stream)
        return queue

    def _room(self, rows: torch.Tensor) -> torch.Tensor:
        """A part of the buffer with the shape and dtype of the rows; the buffer grows where it is too small."""
        if self._buffer.dtype != rows.dtype or self._buffer.numel() < rows.numel():
            self._buffer = torch.empty(rows.numel(), dtype=rows.dtype, pin_memory=self._cuda)
        return self._buffer[: rows.numel()].view(rows.shape)
