"""Hidden states that do not change during a training, computed once and kept in a memory-mapped file."""

import hashlib
import io
import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from nuner_embed.arrays import map_array
from nuner_embed.errors import PretrainingError
from nuner_embed.files import hash_of, read_json, write_json
from nuner_embed.metadata import Count, Sha256, convert
from nuner_embed.pretraining.halves import Halves
from nuner_embed.runtimes.padding import cut_batches, pad
from nuner_embed.tables import Ints

_PIECES_AT_ONCE = 4096
_BATCH_TOKENS = {"cpu": 2048, "cuda": 32_768}
_ROOM = 1.05  # times the size of the file must be free on the disk
_ZEROS_AT_ONCE = 1 << 20
_WITHOUT_FILE = "; use --no-cache"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Mark:
    """How much of a file of states is computed.

    Attributes:
        key: hash of the inputs of the states.
        pieces: number of pieces whose states are on the disk.
    """

    key: Sha256
    pieces: Count


class StateSource(Protocol):
    """Computes hidden states of pieces."""

    @property
    def what(self) -> str:
        """Who computes them, for messages."""
        ...

    @property
    def dim(self) -> int:
        """Width of a state."""
        ...

    @property
    def key(self) -> list[Any]:
        """What decides the states besides the pieces, as JSON values."""
        ...

    @property
    def is_optional(self) -> bool:
        """Whether a run can do without the file, with --no-cache."""
        ...

    def states(self, rows: list[NDArray[np.int32]]) -> Iterator[tuple[int, NDArray[np.floating[Any]]]]:
        """Of each piece, given by its token ids, in any order: its number and its states, (length, dim)."""
        ...


@dataclass(frozen=True, slots=True)
class BottomStates:
    """The states below the cut of a network; see `StateSource`.

    Attributes:
        halves: the network.
        weights_sha256: of its model.
        pad_id: token id used for padding.
        device: of the network.
    """

    halves: Halves
    weights_sha256: str
    pad_id: int
    device: torch.device
    what: ClassVar[str] = "the frozen layers"
    is_optional: ClassVar[bool] = True

    @property
    def dim(self) -> int:
        """Width of a state."""
        return int(self.halves.network.config.hidden_size)

    @property
    def key(self) -> list[Any]:
        """See `StateSource`."""
        return [self.weights_sha256, self.halves.cut]

    def states(self, rows: list[NDArray[np.int32]]) -> Iterator[tuple[int, NDArray[np.floating[Any]]]]:
        """See `StateSource`."""
        lengths = np.array([len(row) for row in rows], np.int64)
        order = np.argsort(-lengths, kind="stable")
        batch_tokens = _BATCH_TOKENS[self.device.type if self.device.type == "cuda" else "cpu"]
        for first, last in cut_batches(lengths[order], 0, batch_tokens):
            some = order[first:last]
            ids, mask = (torch.from_numpy(one).to(self.device) for one in pad([rows[i] for i in some], self.pad_id))
            found = self.halves.bottom(ids, mask).float().cpu().numpy()
            for i, states in zip(some.tolist(), found, strict=True):
                yield i, states[: lengths[i]]


class FrozenStates:
    """Hidden states below the cut, a row for each token, in float16, whose rounding is far below dropout's noise.

    Args:
        path: of the `.npy` file; a `.json` beside it says how much of it is computed.
        ids: token ids of all pieces one after the other, (n,).
        bounds: of the pieces, (e + 1,).

    Raises:
        PretrainingError: the disk has no room for the states, or a state exceeds the range of float16.
    """

    def __init__(self, path: Path, ids: NDArray[np.int32], bounds: Ints) -> None:
        self._path, self._ids, self._bounds = path, ids, bounds
        self._states: NDArray[np.float16] | None = None

    def __getitem__(self, piece: int) -> NDArray[np.float16]:
        assert self._states is not None
        return self._states[self._bounds[piece] : self._bounds[piece + 1]]

    @property
    def dim(self) -> int:
        """Width of a state."""
        assert self._states is not None
        return int(self._states.shape[1])

    def open(self) -> None:
        """Maps the finished file."""
        self._states = map_array(self._path)

    def fill(self, source: StateSource, progress: Progress) -> None:
        """Computes the missing states; a killed process loses 4,096 pieces at most."""
        shape = (len(self._ids), source.dim)
        content = hashlib.sha256(self._ids.tobytes() + self._bounds.tobytes()).hexdigest()
        key = hash_of([*source.key, str(torch.__version__), content, shape])
        mark = self._path.with_suffix(".json")
        done = self._done(mark, key, shape)
        if done is None:
            self._make(shape, source)
            done = 0
        states = map_array(self._path, "r+")
        pieces = len(self._bounds) - 1
        for first in range(done, pieces, _PIECES_AT_ONCE):
            last = min(first + _PIECES_AT_ONCE, pieces)
            self._fill(states, np.arange(first, last), source)
            states.flush()
            write_json(mark, asdict(Mark(key, last)))
            progress(last, pieces)
        del states
        self.open()

    def _done(self, mark: Path, key: str, shape: tuple[int, int]) -> int | None:
        """The number of pieces in the files; None if the files are damaged, or belong to other pieces."""
        try:
            kept = convert(read_json(mark), Mark)
            array = map_array(self._path)
        except (OSError, ValueError, EOFError):
            return None
        whole = array.shape == shape and array.dtype == np.float16 and kept.pieces <= len(self._bounds) - 1
        return kept.pieces if whole and kept.key == key else None

    def _make(self, shape: tuple[int, int], source: StateSource) -> None:
        needed = shape[0] * shape[1] * 2 * _ROOM
        free = shutil.disk_usage(self._path.parent).free
        without = ", or use --no-cache to compute it in every epoch" * source.is_optional
        if needed > free:
            raise PretrainingError(
                f"the output of {source.what} takes {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free in "
                f"{self._path.parent}; free some space{without}"
            )
        self._path.with_suffix(".json").unlink(missing_ok=True)  # first, since it may describe another file
        self._path.unlink(missing_ok=True)
        try:
            _allocate(self._path, shape)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            raise PretrainingError(
                f"{self._path} cannot be written: {error.strerror}; free {needed / 1e9:.1f} GB there{without}"
            ) from None

    def _fill(self, states: NDArray[np.float16], pieces: Ints, source: StateSource) -> None:
        rows = [self._ids[self._bounds[i] : self._bounds[i + 1]] for i in pieces]
        for row, found in source.states(rows):
            if np.abs(found).max() > np.finfo(np.float16).max:
                raise PretrainingError(
                    f"the output of {source.what} exceeds the range of float16" + _WITHOUT_FILE * source.is_optional
                )
            i = pieces[row]
            states[self._bounds[i] : self._bounds[i + 1]] = found


def _allocate(path: Path, shape: tuple[int, int]) -> None:
    """Creates the file of a float16 array of zeros, with disk space allocated for the whole file.

    A sparse file could be mapped too, but a disk that fills up later would end the process with SIGBUS.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": shape})
    size = len(header.getvalue()) + 2 * math.prod(shape)
    with path.open("xb") as stream:
        stream.write(header.getvalue())
        stream.flush()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
        else:
            for first in range(stream.tell(), size, _ZEROS_AT_ONCE):
                stream.write(bytes(min(_ZEROS_AT_ONCE, size - first)))
