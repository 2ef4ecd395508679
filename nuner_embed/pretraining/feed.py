"""From the numbers of pieces to the input tensors of a network that is cut in two."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nuner_embed.pretraining.examples import Batch
from nuner_embed.pretraining.flat import Run
from nuner_embed.pretraining.halves import Flat, Halves, Padded
from nuner_embed.pretraining.states import FrozenStates
from nuner_embed.pretraining.teacher import TaughtStates
from nuner_embed.runtimes.padding import cut_batches, pad
from nuner_embed.tables import Ints

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


def contrastive_feed(texts: Source, concepts: Source, taught: TaughtStates | None = None) -> Feed:
    """A function that makes the arguments of `BiEncoder` from a batch, perhaps with the vectors of a teacher."""

    def feed(batch: Batch) -> tuple[object, ...]:
        groups, place = concepts.groups(batch.labels)
        token, column = (torch.from_numpy(one).to(texts.device) for one in (batch.token, place[batch.column]))
        weight = None if batch.weight is None else torch.from_numpy(batch.weight).to(texts.device)
        vectors = None if taught is None else torch.from_numpy(taught.vectors(batch.pieces)).to(texts.device)
        return texts.pieces(batch.pieces), groups, token, column, weight, vectors

    return feed


def classifier_feed(texts: Source) -> Feed:
    """A function that makes the arguments of `TokenClassifier` from a batch."""

    def feed(batch: Batch) -> tuple[object, ...]:
        token, tag = (torch.from_numpy(one).to(texts.device) for one in (batch.token, batch.labels[batch.column]))
        return texts.pieces(batch.pieces), token, tag

    return feed
