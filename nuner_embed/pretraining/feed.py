"""From the numbers of pieces to the input tensors of a network that is cut in two.

The output of the frozen bottom half for every piece is computed once and kept in a memory-mapped file.
"""

import hashlib
import io
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nuner_embed.arrays import map_array
from nuner_embed.errors import PretrainingError
from nuner_embed.files import hash_of, read_json, write_json
from nuner_embed.metadata import Count, Sha256, convert
from nuner_embed.pretraining.examples import Batch
from nuner_embed.pretraining.flat import Run
from nuner_embed.pretraining.halves import Flat, Halves, Padded
from nuner_embed.runtimes.padding import cut_batches, pad
from nuner_embed.tables import Ints

_PIECES_AT_ONCE = 4096
_BATCH_TOKENS = {"cpu": 2048, "cuda": 32_768}
_ROOM = 1.05  # times the size of the file must be free on the disk
_ZEROS_AT_ONCE = 1 << 20
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

    def fill(self, halves: Halves, weights_sha256: str, pad_id: int, device: torch.device, progress: Progress) -> None:
        """Computes the missing states; a killed process loses 4,096 pieces at most."""
        dim = halves.network.config.hidden_size
        shape = (len(self._ids), dim)
        content = hashlib.sha256(self._ids.tobytes() + self._bounds.tobytes()).hexdigest()
        key = hash_of([weights_sha256, halves.cut, str(torch.__version__), content, shape])
        mark = self._path.with_suffix(".json")
        done = self._done(mark, key, shape)
        if done is None:
            self._make(shape)
            done = 0
        states = map_array(self._path, "r+")
        pieces = len(self._bounds) - 1
        for first in range(done, pieces, _PIECES_AT_ONCE):
            last = min(first + _PIECES_AT_ONCE, pieces)
            self._fill(states, np.arange(first, last), halves, pad_id, device)
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

    def _make(self, shape: tuple[int, int]) -> None:
        needed = shape[0] * shape[1] * 2 * _ROOM
        free = shutil.disk_usage(self._path.parent).free
        if needed > free:
            raise PretrainingError(
                f"the output of the frozen layers takes {needed / 1e9:.1f} GB, "
                f"{free / 1e9:.1f} GB are free in {self._path.parent}; free some space, or use --no-cache to "
                "compute it in every epoch"
            )
        self._path.with_suffix(".json").unlink(missing_ok=True)  # first, since it may describe another file
        self._path.unlink(missing_ok=True)
        try:
            _allocate(self._path, shape)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            raise PretrainingError(
                f"{self._path} cannot be written: {error.strerror}; free {needed / 1e9:.1f} GB there, or use "
                "--no-cache to compute it in every epoch"
            ) from None

    def _fill(
        self, states: NDArray[np.float16], pieces: Ints, halves: Halves, pad_id: int, device: torch.device
    ) -> None:
        lengths = np.diff(self._bounds)[pieces]
        order = np.argsort(-lengths, kind="stable")
        pieces, lengths = pieces[order], lengths[order]
        for first, last in cut_batches(lengths, 0, _BATCH_TOKENS[device.type if device.type == "cuda" else "cpu"]):
            some = pieces[first:last]
            rows = [self._ids[self._bounds[i] : self._bounds[i + 1]] for i in some]
            ids, mask = (torch.from_numpy(one).to(device) for one in pad(rows, pad_id))
            found = halves.bottom(ids, mask).float().cpu().numpy()
            for i, row in zip(some, found, strict=True):
                kept = row[: self._bounds[i + 1] - self._bounds[i]]
                if np.abs(kept).max() > np.finfo(np.float16).max:
                    raise PretrainingError(
                        "the output of the frozen layers exceeds the range of float16; use --no-cache"
                    )
                states[self._bounds[i] : self._bounds[i + 1]] = kept


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


# Tokens in a group of concept names: names are a few tokens long, and groups of similar length need little padding.
_GROUP_TOKENS = 512


@dataclass
class Source:
    """Pieces of texts, or concept names, as inputs of a network that is cut in two.

    Attributes:
        halves: the network.
        ids: token ids of all pieces one after the other, (n,).
        bounds: of the pieces, (e + 1,).
        specials: special tokens before and after each piece.
        states: output of the frozen bottom; None if it is computed each time, or if nothing is frozen.
        pad_id: token id used for padding.
        device: of the tensors.
    """

    halves: Halves
    ids: NDArray[np.int32]
    bounds: Ints
    specials: tuple[int, int]
    states: FrozenStates | None
    pad_id: int
    device: torch.device

    def pieces(self, numbers: Ints) -> Padded | Flat:
        """Some pieces, the shortest first."""
        lengths = self.bounds[numbers + 1] - self.bounds[numbers]
        if self.states is not None and self.halves.takes_flat:
            return self._flat(numbers, lengths)
        longest = int(lengths.max())
        position = np.arange(longest)
        before, after = self.specials
        inner = np.flatnonzero((position >= before) & (position < (lengths - after)[:, None]))
        if self.states is None:
            rows = [self.ids[self.bounds[i] : self.bounds[i + 1]] for i in numbers]
            ids, mask = (self._tensor(one) for one in pad(rows, self.pad_id))
            return Padded(self.halves.bottom(ids, mask) if self.halves.cut else ids, mask, self._tensor(inner))
        given = np.zeros((len(numbers), longest, self.states.dim), np.float16)
        for row, (number, length) in enumerate(zip(numbers, lengths, strict=True)):
            given[row, :length] = self.states[number]
        mask = self._tensor((position < lengths[:, None]).astype(np.int64))
        return Padded(self._tensor(given).float(), mask, self._tensor(inner))

    def _flat(self, numbers: Ints, lengths: Ints) -> Flat:
        assert self.states is not None
        given = np.concatenate([self.states[number] for number in numbers])
        before, after = self.specials
        different, counts = np.unique(lengths, return_counts=True)
        runs = (
            Run(int(n), int(length), before, int(length) - after) for length, n in zip(different, counts, strict=True)
        )
        return Flat(self._tensor(given).float(), tuple(runs))

    def groups(self, numbers: Ints) -> tuple[list[Padded | Flat], Ints]:
        """Pieces in groups of similar length, and the place of each piece in the order of the groups."""
        lengths = self.bounds[numbers + 1] - self.bounds[numbers]
        order = np.argsort(lengths, kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        if self.states is not None and self.halves.takes_flat:
            return [self.pieces(numbers[order])], place
        longest_first = cut_batches(lengths[order[::-1]], 0, _GROUP_TOKENS)
        cuts = [(len(order) - b, len(order) - a) for a, b in reversed(longest_first)]
        return [self.pieces(numbers[order[a:b]]) for a, b in cuts], place

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


Feed = Callable[[Batch], tuple[object, ...]]


def contrastive_feed(texts: Source, concepts: Source) -> Feed:
    """A function that makes the arguments of `BiEncoder` from a batch."""

    def feed(batch: Batch) -> tuple[object, ...]:
        groups, place = concepts.groups(batch.labels)
        token, column = (torch.from_numpy(one).to(texts.device) for one in (batch.token, place[batch.column]))
        weight = None if batch.weight is None else torch.from_numpy(batch.weight).to(texts.device)
        return texts.pieces(batch.pieces), groups, token, column, weight

    return feed


def classifier_feed(texts: Source) -> Feed:
    """A function that makes the arguments of `TokenClassifier` from a batch."""

    def feed(batch: Batch) -> tuple[object, ...]:
        token, tag = (torch.from_numpy(one).to(texts.device) for one in (batch.token, batch.labels[batch.column]))
        return texts.pieces(batch.pieces), token, tag

    return feed
