"""Files of weights: those of a Hugging Face directory, whether its configuration fits them, and the tensors in them."""

import os
import re
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from nuner_embed.errors import ModelError
from nuner_embed.files import hash_of, parse_json, read_json, sha256_of
from nuner_embed.limits import MIB, SAFETENSORS_HEADER_BYTES
from nuner_embed.metadata import Count, FileName, convert
from nuner_embed.models.config import ModelConfig
from nuner_embed.printable import one_line

Tensors = dict[str, NDArray[Any]]
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_SINGLE: Final = ("model.safetensors", "pytorch_model.bin")
_INDEX: Final = ".index.json"  # beside weights in several files
_SHARED_LAYERS: Final = frozenset({"albert"})  # whose layers share weights
_MAX_SPARE = 4  # positions without weights may take at most this many times the memory of the weights


def has_weights(directory: Path) -> bool:
    """Whether a directory holds weights that transformers loads."""
    return any((directory / f"{single}{end}").is_file() for single in _SINGLE for end in ("", _INDEX))


def weight_files(name: str, directory: Path) -> list[Path]:
    """The weights of a Hugging Face directory: the files that transformers loads, in the order of their names.

    Raises:
        ModelError: there are none, or the index of several files names a file that is not in the directory.
    """
    for single in _SINGLE:
        index = directory / f"{single}{_INDEX}"
        if (directory / single).is_file():
            return [directory / single]
        if index.is_file():
            return [_shard(name, index, file) for file in sorted(_mapped(name, index))]
    raise ModelError(
        f"{name} holds no model.safetensors and no pytorch_model.bin; "
        "expected a Hugging Face directory or one made by nuner-embed export"
    )


def _mapped(name: str, index: Path) -> set[FileName]:
    try:
        values = read_json(index)
        files = convert(values.get("weight_map") if isinstance(values, dict) else None, dict[str, FileName])
    except (OSError, ValueError) as error:
        raise ModelError(f"{name}: {index.name} names no weights files of its own folder: {error}") from None
    if not files:
        raise ModelError(f"{name}: {index.name} names no weights")
    return set(files.values())


def _shard(name: str, index: Path, file: str) -> Path:
    """The path of a weights file, which must lie in the directory, or be a link into the hub's cache."""
    path, directory = index.parent / file, index.parent.resolve()
    if path.is_symlink():
        allowed = [directory, *([directory.parent.parent / "blobs"] if directory.parent.name == "snapshots" else [])]
        if path.resolve().parent not in allowed:
            raise ModelError(f"{name}: {file} is a symbolic link to elsewhere; put the file itself in its place")
    if not path.is_file():
        raise ModelError(f"{path} cannot be read: No such file, though {index.name} names it")
    return path


def hash_weights(files: list[Path]) -> str:
    """The SHA-256 of one weights file, or of the names and hashes of several.

    Raises:
        ModelError: a file cannot be read.
    """
    try:
        hashes = {file.name: sha256_of(file) for file in files}
    except OSError as error:
        raise ModelError(f"{error.filename} cannot be read: {error.strerror}") from None
    return next(iter(hashes.values())) if len(hashes) == 1 else hash_of(hashes)


def require_plausible(name: str, directory: Path, config: ModelConfig) -> None:
    """Refuses a configuration of a network that is too large for the weights, before memory is allocated for it.

    Raises:
        ModelError: naming the value that is too large; or the header of a safetensors file is damaged.
    """
    files = weight_files(name, directory)
    if files[0].suffix == ".safetensors":
        shapes = {f"{path.name}/{key}": shape for path in files for key, shape in read_shapes(path).items()}
        largest, tensors = max((max(s, default=1) for s in shapes.values()), default=0), len(shapes)
        numbers = sum(map(prod, shapes.values()))
    else:
        numbers = sum(path.stat().st_size for path in files)  # a number takes at least a byte
        largest = tensors = numbers
    promised = {"dimensions": (config.hidden_size, largest), "rows of vocabulary": (config.vocabulary, largest)}
    if config.model_type not in _SHARED_LAYERS:
        promised["layers"] = (config.layers, tensors)
    if config.positions > largest:
        promised["positions"] = (config.positions, _MAX_SPARE * numbers // max(1, config.hidden_size))
    for what, (asked, held) in promised.items():
        if asked > held:
            raise ModelError(
                f"{name}: config.json asks for {asked:,} {what}, the weights hold {held:,}; they do not belong together"
            )


@dataclass(frozen=True, slots=True)
class _Entry:
    shape: Annotated[tuple[Count, ...], msgspec.Meta(max_length=16)]
    data_offsets: tuple[Count, Count]


def read_tensors(path: Path) -> Tensors:
    """The tensors of a safetensors file, in memory.

    Raises:
        ModelError: the file is missing or damaged, or does not fit into memory.
    """
    read_shapes(path)
    try:
        tensors: Tensors = load_file(path)
    except (OSError, SafetensorError, ValueError, TypeError, MemoryError) as error:
        raise ModelError(f"{path} cannot be read as weights: {one_line(error)}") from None
    return tensors


def write_tensors(tensors: Tensors, path: Path, names: dict[str, str] | None = None) -> None:
    """Writes a new safetensors file, with the permissions that the umask gives.

    Raises:
        OSError: the file exists or cannot be written; the error names the file.
    """
    with path.open("xb") as stream:
        mode = os.fstat(stream.fileno()).st_mode
    try:
        save_file(tensors, path, metadata=names)
    except SafetensorError as error:
        number = _OS_ERROR.search(str(error))
        if number is None:
            raise OSError(None, one_line(error), os.fspath(path)) from None
        raise OSError(int(number[1]), os.strerror(int(number[1])), os.fspath(path)) from None
    path.chmod(mode & 0o777)  # the library makes the file readable for the owner only


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a safetensors file, from its header alone.

    Raises:
        ModelError: the file is missing or damaged, or its header is larger than `limits.SAFETENSORS_HEADER_BYTES` or
            describes more data than the file holds.
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
            raise ValueError("the header is not an object")
        header.pop("__metadata__", None)
        entries = convert(header, dict[str, _Entry])
        if any(entry.data_offsets[1] > size - 8 - length for entry in entries.values()):
            raise ValueError("the header describes more than the file holds")
    except (OSError, ValueError, struct.error) as error:
        raise ModelError(f"{path} cannot be read as weights: {one_line(error)}") from None
    return {name: entry.shape for name, entry in entries.items()}


def changed(after: Tensors, before: Tensors) -> Tensors:
    """The tensors that differ from those before, in float16."""
    return {name: value.astype(np.float16) for name, value in after.items() if not np.array_equal(value, before[name])}
