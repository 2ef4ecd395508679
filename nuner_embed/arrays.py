"""Arrays in `.npy` files, and a check of their numbers."""

import io
import math
import os
import stat
import threading
from pathlib import Path
from typing import IO, Any, Literal, overload

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy
from numpy.typing import NDArray

from nuner_embed.files import opened_at_once

# NumPy parses a file's header with Python's `ast`, and the parser of Python 3.11 fails when two threads use it at once
# (python/cpython#106905); any number of threads may refresh one index.
_ONE_AT_A_TIME = threading.Lock()
_PLAIN_NUMBERS = "biuf"
_WRITTEN_AT_ONCE = 1 << 24
_CHECKED_AT_ONCE = 1 << 17  # numbers; so few stay in the processor's cache
_EXPONENT, _MAGNITUDE = np.uint16(0x7C00), np.uint16(0x7FFF)  # bits of a float16


@overload
def map_array(path: Path, mode: Literal["r"] = "r") -> NDArray[Any]: ...


@overload
def map_array(path: Path, mode: Literal["r+"]) -> "np.memmap[Any, Any]": ...


def map_array(path: Path, mode: Literal["r", "r+"] = "r") -> "NDArray[Any] | np.memmap[Any, Any]":
    """Maps the array of a `.npy` file into memory; for reading, no descriptor stays open.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file holds no array of plain numbers, or has another length than its header says.
    """
    with open(path, "rb", opener=opened_at_once) as stream:
        facts = os.fstat(stream.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is not a regular file")
        shape, order, dtype = _read_header(stream, facts.st_size)
        begin = stream.tell()
    if mode == "r+":
        array: np.memmap[Any, Any] = np.memmap(path, dtype, mode, begin, shape, order)
        return array
    with pa.memory_map(os.fspath(path)) as file:  # NumPy's own map keeps the file open, one descriptor an array
        flat: NDArray[Any] = np.frombuffer(file.read_buffer(), dtype, math.prod(shape), begin)
    return flat.reshape(shape, order=order)


def parse_array(data: bytes) -> NDArray[Any]:
    """The array that the bytes of a `.npy` file hold.

    Raises:
        ValueError: the bytes hold no array of plain numbers, or more or fewer numbers than the header says.
    """
    stream = io.BytesIO(data)
    shape, order, dtype = _read_header(stream, len(data))
    return np.frombuffer(data, dtype, math.prod(shape), stream.tell()).reshape(shape, order=order).copy(order)


def _read_header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype[Any]]:
    """Shape, order and type of an array; leaves the stream where its numbers begin."""
    try:
        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"its format version is {version}")
        with _ONE_AT_A_TIME:
            shape, is_fortran, dtype = read(stream)
    except OSError:
        raise
    except Exception as error:  # NumPy lets errors of Python's parser through
        raise ValueError(f"it is not an array in NumPy's format ({error})") from None
    if dtype.kind not in _PLAIN_NUMBERS or any(length < 0 for length in shape):
        raise ValueError(f"it holds {dtype} of shape {shape}, not plain numbers")
    bytes_of_numbers = math.prod(shape) * dtype.itemsize
    if stream.tell() + bytes_of_numbers != size:
        raise ValueError(f"it has {size - stream.tell():,} bytes of numbers, its header says {bytes_of_numbers:,}")
    return shape, "F" if is_fortran else "C", dtype


def write_array(stream: IO[bytes], array: NDArray[Any]) -> None:
    """Writes an array as a `.npy` file.

    Raises:
        OSError: the file cannot be written, with the error number that `numpy.save` leaves out.
    """
    write_header(stream, array.shape, array.dtype)
    write_numbers(stream, array)


def write_header(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Writes the header of a `.npy` file whose numbers follow row by row."""
    facts = {"shape": shape, "fortran_order": False, "descr": npy.dtype_to_descr(dtype)}
    npy.write_array_header_1_0(stream, facts)


def write_numbers(stream: IO[bytes], array: NDArray[Any]) -> None:
    """Writes the numbers of an array, row by row, without a header."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for first in range(0, len(flat), _WRITTEN_AT_ONCE):
        stream.write(flat[first : first + _WRITTEN_AT_ONCE].data)


def all_finite(vectors: NDArray[np.floating[Any]]) -> bool:
    """Whether a matrix (n, dim) holds neither an infinity nor a NaN; for float16 in an eighth of NumPy's time."""
    step = max(1, _CHECKED_AT_ONCE // max(1, vectors.shape[1]))
    parts = (vectors[begin : begin + step] for begin in range(0, len(vectors) if vectors.size else 0, step))
    if vectors.dtype != np.float16:
        return all(bool(np.isfinite(part).all()) for part in parts)
    return all(bool((part.view(np.uint16) & _MAGNITUDE).max() < _EXPONENT) for part in parts)
