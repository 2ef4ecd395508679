"""Arrays in `.npy` files."""

import io
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# NumPy parses a file's header with Python's `ast`, and Python 3.11's parser fails where two threads are in it
# (python/cpython#106905): readers of one index refresh it from as many threads as they like.
_ONE_AT_A_TIME = threading.Lock()


def map_array(path: Path, mode: Literal["r", "r+"] = "r") -> "np.memmap[Any, Any]":
    """Maps the array of a `.npy` file into memory.

    Raises:
        OSError, ValueError, EOFError: the file cannot be read, or holds no array of plain numbers.
    """
    with _ONE_AT_A_TIME:
        array: np.memmap[Any, Any] = np.load(path, mmap_mode=mode, allow_pickle=False)
    return array


def parse_array(data: bytes) -> NDArray[Any]:
    """The array that the bytes of a `.npy` file hold.

    Raises:
        ValueError, EOFError: they hold no array of plain numbers.
    """
    with _ONE_AT_A_TIME:
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return array
