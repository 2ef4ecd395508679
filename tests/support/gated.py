"""A runtime that waits until a test lets it go on."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from fakes import HashRuntime
from numpy.typing import NDArray


class Gated(HashRuntime):
    """Waits in every pass until `gate` is set; `entered` is set by the first pass."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gate = threading.Event()
        self.entered = threading.Event()

    def states(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        self.entered.set()
        assert self.gate.wait(30)
        return super().states(input_ids, attention_mask)


def wait_until(true: Callable[[], bool]) -> None:
    """Waits until something is true; fails after about half a minute."""
    for _ in range(30_000):
        if true():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not happen within half a minute")
