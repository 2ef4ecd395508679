"""Arrays in `.npy` files."""

import contextlib
import io
import math
import os
import stat
import threading
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# NumPy parses a file's header with Python's `ast`, and Python 3.11's parser fails where two threads are in it
# (python/cpython#106905): readers of one index refresh it from as many threads as they like.
_ONE_AT_A_TIME = threading.Lock()
_WRITTEN_AT_ONCE = 1 << 24


@overload
def map_array(path: Path, mode: Literal["r"] = "r") -> NDArray[Any]: ...


@overload
def map_array(path: Path, mode: Literal["r+"]) -> "np.memmap[Any, Any]": ...


def map_array(path: Path, mode: Literal["r", "r+"] = "r") -> "NDArray[Any] | np.memmap[Any, Any]":
    """Maps the array of a `.npy` file into memory; for reading, no descriptor stays open.

    Raises:
        OSError, ValueError, EOFError: the file cannot be read, or holds no array of plain numbers.
    """
    if mode == "r+":
        with _ONE_AT_A_TIME:
            array: np.memmap[Any, Any] = np.load(path, mmap_mode=mode, allow_pickle=False)
        return array
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise ValueError("it is no regular file")
        shape, fortran, dtype = _read_header(stream)
        begin, size = stream.tell(), os.fstat(stream.fileno()).st_size
    count = math.prod(shape)
    if dtype.hasobject or dtype.itemsize == 0 or min(shape, default=0) < 0:
        raise ValueError("it holds no plain numbers")
    if size - begin < count * dtype.itemsize:
        raise ValueError(f"its header promises {count * dtype.itemsize:,} bytes, {size - begin:,} are there")
    with pa.memory_map(os.fspath(path)) as file:  # NumPy's own map keeps the file open, one descriptor an array
        flat: NDArray[Any] = np.frombuffer(file.read_buffer(), dtype, count, begin)
    return flat.reshape(shape, order="F" if fortran else "C")


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with _ONE_AT_A_TIME, _no_other_errors():
        version = np.lib.format.read_magic(stream)
        if version not in readers:
            raise ValueError(f"it is a .npy file of version {version}")
        shape, fortran, dtype = readers[version](stream)
    return shape, fortran, dtype


@contextlib.contextmanager
def _no_other_errors() -> Iterator[None]:
    """What Python's parser, which NumPy gives a file's header to, may say besides of a damaged one."""
    try:
        yield
    except (SyntaxError, TypeError, KeyError, OverflowError, RecursionError, tokenize.TokenError) as error:
        raise ValueError(f"its header is damaged: {error}") from None


def parse_array(data: bytes) -> NDArray[Any]:
    """The array that the bytes of a `.npy` file hold.

    Raises:
        ValueError, EOFError: they hold no array of plain numbers.
    """
    with _ONE_AT_A_TIME, _no_other_errors():
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return array


def write_array(stream: IO[bytes], array: NDArray[Any]) -> None:
    """Writes an array as a `.npy` file.

    Raises:
        OSError: the disk is full, say: with its number, which `numpy.save` leaves out.
    """
    write_header(stream, array.shape, array.dtype)
    write_numbers(stream, array)


def write_header(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Writes the head of a `.npy` file, whose numbers come row by row."""
    facts = {"shape": shape, "fortran_order": False, "descr": np.lib.format.dtype_to_descr(dtype)}
    np.lib.format.write_array_header_1_0(stream, facts)


def write_numbers(stream: IO[bytes], array: NDArray[Any]) -> None:
    """Writes the numbers of an array, row by row, without a head."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for first in range(0, len(flat), _WRITTEN_AT_ONCE):
        stream.write(flat[first : first + _WRITTEN_AT_ONCE].data)
