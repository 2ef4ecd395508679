"""Batches: which pieces go together, and what the loss needs to know of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nuner_embed.pretraining.examples import Examples
from nuner_embed.tables import Ints

# Batches among which pieces are sorted by length, where padding costs: a few percent are left of it.
_POOL_BATCHES = 50


@dataclass(frozen=True)
class Batch:
    """Some pieces and their labels.

    Attributes:
        pieces: numbers of the pieces, the shortest first, (b,).
        tokens: how many they have in all, special ones left out.
        labels: labels of the batch, each once, (c,).
        token: of each (token, label) pair that holds, the token, counted through all pieces without special ones, (p,).
        column: its label as an index into `labels`, (p,).
    """

    pieces: Ints
    tokens: int
    labels: Ints
    token: Ints
    column: Ints


def plan_epoch(
    lengths: Ints, pieces: Ints, batch_size: int, seed: Sequence[int], *, by_length: bool = True
) -> list[Ints]:
    """Cuts an epoch into batches in a random order that the seed decides.

    Args:
        lengths: of all pieces.
        pieces: numbers of those that take part.
        batch_size: pieces to a batch; the last ones may be fewer.
        seed: of this epoch.
        by_length: put pieces of like length together. That saves padding, and costs something: in a batch of short
            sentences each token weighs more than in one of long ones, and after five epochs of 1,080 sentences the
            held-out loss was 1.60 instead of 1.58. Where nothing is padded, batches are better left to chance.
    """
    random = np.random.default_rng(seed)
    shuffled = random.permutation(pieces)
    pool_size = batch_size * (_POOL_BATCHES if by_length else 1)
    batches = []
    for first in range(0, len(shuffled), pool_size):
        pool = shuffled[first : first + pool_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def make_batch(examples: Examples, pieces: Ints) -> Batch:
    """Collects the labels exemplified in some pieces, and which of their tokens carry them (section 3.2)."""
    pieces = pieces[np.argsort(examples.lengths[pieces], kind="stable")]
    before, after = examples.specials
    begin = np.cumsum(np.concatenate([[0], examples.lengths[pieces] - before - after]))
    row, first, last, label = _ranges(examples, pieces)
    count = last - first
    token = np.repeat(begin[row] + first - before, count) + _within(count)
    labels, column = np.unique(label, return_inverse=True)
    pairs = np.unique(np.stack([token, np.repeat(column, count)]), axis=1)  # overlapping mentions of a concept
    return Batch(pieces, int(begin[-1]), labels, pairs[0], pairs[1])


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
        pairs += batch.tokens * len(batch.labels)
    return positive / pairs if pairs else 0.0
