"""From numbers of pieces to the tensors that a half-network is given."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nuner_embed.encoding.tokens import Ints
from nuner_embed.pretraining.batches import Batch
from nuner_embed.pretraining.bi_encoder import Inputs
from nuner_embed.pretraining.halves import Halves
from nuner_embed.pretraining.states import FrozenStates
from nuner_embed.runtimes.base import cut_batches, pad

# Concepts are a few tokens long: encoded in groups of like length, they carry little padding.
_GROUP_TOKENS = 512


@dataclass
class Source:
    """Pieces of text, or concept names, on their way into a half-network.

    Attributes:
        halves: what they are for.
        ids: token ids of all pieces one after the other, (n,).
        bounds: of the pieces, (e + 1,).
        states: what the frozen bottom makes of them; None to compute it each time, or where nothing is frozen.
        pad_id: token id used for padding.
        device: where the tensors go.
    """

    halves: Halves
    ids: NDArray[np.int32]
    bounds: Ints
    states: FrozenStates | None
    pad_id: int
    device: torch.device

    def inputs(self, pieces: Ints) -> Inputs:
        """Some pieces, padded to the longest of them."""
        if self.states is None:
            rows = [self.ids[self.bounds[i] : self.bounds[i + 1]] for i in pieces]
            ids, mask = (torch.from_numpy(one).to(self.device) for one in pad(rows, self.pad_id))
            return Inputs(self.halves.bottom(ids, mask) if self.halves.cut else ids, mask)
        lengths = self.bounds[pieces + 1] - self.bounds[pieces]
        longest = int(lengths.max())
        given = np.zeros((len(pieces), longest, self.states.dim), np.float16)
        mask_ = np.zeros((len(pieces), longest), np.int64)
        for row, (piece, length) in enumerate(zip(pieces, lengths, strict=True)):
            given[row, :length] = self.states[piece]
            mask_[row, :length] = 1
        return Inputs(torch.from_numpy(given).to(self.device).float(), torch.from_numpy(mask_).to(self.device))

    def groups(self, pieces: Ints) -> tuple[list[Inputs], Ints]:
        """Pieces in groups of like length, and the place of each piece in the order of the groups."""
        lengths = self.bounds[pieces + 1] - self.bounds[pieces]
        order = np.argsort(-lengths, kind="stable")
        cuts = cut_batches(lengths[order], 0, _GROUP_TOKENS)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        return [self.inputs(pieces[order[a:b]]) for a, b in cuts], place


Feed = Callable[[Batch], tuple[object, ...]]


def contrastive_feed(texts: Source, concepts: Source) -> Feed:
    """Makes the arguments of `BiEncoder` from a batch."""

    def feed(batch: Batch) -> tuple[object, ...]:
        groups, place = concepts.groups(batch.labels)
        device = texts.device
        inner, token, column = (
            torch.from_numpy(one).to(device) for one in (batch.inner, batch.token, place[batch.column])
        )
        return texts.inputs(batch.pieces), inner, groups, token, column

    return feed


def classifier_feed(texts: Source) -> Feed:
    """Makes the arguments of `TokenClassifier` from a batch."""

    def feed(batch: Batch) -> tuple[object, ...]:
        inner, token, tag = (
            torch.from_numpy(one).to(texts.device) for one in (batch.inner, batch.token, batch.labels[batch.column])
        )
        return texts.inputs(batch.pieces), inner, token, tag

    return feed
