"""Files of weights: reading and writing tensors, and what a file holds before any of it is loaded."""

import os
import re
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from nuner_embed.errors import ModelError
from nuner_embed.files import parse_json
from nuner_embed.limits import MIB, SAFETENSORS_HEADER_BYTES
from nuner_embed.metadata import Count, convert

Tensors = dict[str, NDArray[Any]]
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


@dataclass(frozen=True, slots=True)
class _Entry:
    shape: Annotated[tuple[Count, ...], msgspec.Meta(max_length=16)]
    data_offsets: tuple[Count, Count]


def read_tensors(path: Path) -> Tensors:
    """The tensors of a safetensors file, in memory.

    Raises:
        ModelError: it is missing, damaged, or does not fit into the memory.
    """
    read_shapes(path)
    try:
        tensors: Tensors = load_file(path)
    except (OSError, SafetensorError, ValueError, TypeError, MemoryError) as error:
        raise ModelError(f"{path} cannot be read as weights: {_one_line(error)}") from None
    return tensors


def write_tensors(tensors: Tensors, path: Path, names: dict[str, str] | None = None) -> None:
    """Writes a safetensors file where none is; who may read it, the umask says.

    Raises:
        OSError: it cannot be written; the error names the file.
    """
    with path.open("xb") as stream:
        mode = os.fstat(stream.fileno()).st_mode
    try:
        save_file(tensors, path, metadata=names)
    except SafetensorError as error:
        number = _OS_ERROR.search(str(error))
        if number is None:
            raise OSError(None, _one_line(error), os.fspath(path)) from None
        raise OSError(int(number[1]), os.strerror(int(number[1])), os.fspath(path)) from None
    path.chmod(mode & 0o777)  # the library lets nobody but the owner read it


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a safetensors file, from its header alone.

    Raises:
        ModelError: it is missing, or no such file; its header is larger than `limits.SAFETENSORS_HEADER_BYTES`, or
            promises more than the file holds.
    """
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size - 8, SAFETENSORS_HEADER_BYTES):
                raise ValueError(f"a header of {length / MIB:,.0f} MiB in a file of {size / MIB:,.0f}")
            header = parse_json(stream.read(length))
        if not isinstance(header, dict):
            raise ValueError("a header that is no object")
        header.pop("__metadata__", None)
        entries = convert(header, dict[str, _Entry])
        if any(entry.data_offsets[1] > size - 8 - length for entry in entries.values()):
            raise ValueError("a header that promises more than the file holds")
    except (OSError, ValueError, struct.error) as error:
        raise ModelError(f"{path} cannot be read as weights: {_one_line(error)}") from None
    return {name: entry.shape for name, entry in entries.items()}


def elements(shapes: dict[str, tuple[int, ...]]) -> int:
    """How many numbers tensors of these shapes hold in all."""
    return sum(map(prod, shapes.values()))


def changed(after: Tensors, before: Tensors) -> Tensors:
    """The tensors that are not what they were, in float16."""
    return {name: value.astype(np.float16) for name, value in after.items() if not np.array_equal(value, before[name])}


def _one_line(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return " ".join(str(reason or error).split())[:300] or type(error).__name__
