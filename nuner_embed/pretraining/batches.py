"""Batches: which pieces go together, and what the loss needs to know of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nuner_embed.encoding.tokens import Ints
from nuner_embed.pretraining.examples import Examples

# Batches among which pieces are sorted by length: enough that padding is a few percent, too few to order an epoch.
_POOL_BATCHES = 50


@dataclass(frozen=True)
class Batch:
    """Some pieces and their labels.

    Attributes:
        pieces: numbers of the pieces, (b,).
        lengths: tokens of each, special ones included, (b,).
        inner: which of the (b * longest) padded tokens are neither special nor padding, (t,).
        labels: labels of the batch, each once, (c,).
        token: of each (token, label) pair that holds, the token as an index into `inner`, (p,).
        column: its label as an index into `labels`, (p,).
    """

    pieces: Ints
    lengths: Ints
    inner: Ints
    labels: Ints
    token: Ints
    column: Ints


def plan_epoch(lengths: Ints, pieces: Ints, batch_size: int, seed: Sequence[int]) -> list[Ints]:
    """Cuts an epoch into batches of pieces of like length, in a random order that the seed decides.

    Args:
        lengths: of all pieces.
        pieces: numbers of those that take part.
        batch_size: pieces to a batch; the last ones may be fewer.
        seed: of this epoch.
    """
    random = np.random.default_rng(seed)
    shuffled = random.permutation(pieces)
    batches = []
    for first in range(0, len(shuffled), batch_size * _POOL_BATCHES):
        pool = shuffled[first : first + batch_size * _POOL_BATCHES]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def make_batch(examples: Examples, pieces: Ints) -> Batch:
    """Collects the labels exemplified in some pieces, and which of their tokens carry them (section 3.2)."""
    lengths = examples.lengths[pieces]
    longest = int(lengths.max())
    before, after = examples.specials
    position = np.arange(longest)
    is_inner = (position >= before) & (position < (lengths - after)[:, None])
    place = np.cumsum(is_inner) - 1  # number of each inner token among the inner ones, flat over (b, longest)
    ranges = _ranges(examples, pieces)
    row, first, last, label = ranges
    count = last - first
    flat = np.repeat(row * longest + first, count) + _within(count)
    labels, column = np.unique(label, return_inverse=True)
    pairs = np.unique(np.stack([place[flat], np.repeat(column, count)]), axis=1)  # overlapping mentions of a concept
    return Batch(pieces, lengths, np.flatnonzero(is_inner), labels, pairs[0], pairs[1])


def _ranges(examples: Examples, pieces: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Row in the batch, first token, one past the last, and label of every range in the pieces."""
    begin = np.searchsorted(examples.piece, pieces)
    count = np.searchsorted(examples.piece, pieces + 1) - begin
    at = np.repeat(begin, count) + _within(count)
    row = np.repeat(np.arange(len(pieces)), count)
    return row, examples.first[at], examples.last[at], examples.label[at]


def _within(count: Ints) -> Ints:
    """0, 1, ... for each count, one after the other."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - count, count)


def positive_share(examples: Examples, batches: Sequence[Ints]) -> float:
    """How many of all (token, label) pairs of some batches hold: the prior of a positive."""
    positive = pairs = 0
    for pieces in batches:
        batch = make_batch(examples, pieces)
        positive += len(batch.token)
        pairs += len(batch.inner) * len(batch.labels)
    return positive / pairs if pairs else 0.0
