"""Which texts and concepts take part: samples, the most frequent concepts, the held-out part."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nuner_embed.pretraining.examples import Examples
from nuner_embed.tables import Ints

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads seeds over all bits


def draw_texts(examples: Examples, number: int, seed: int) -> Examples:
    """So many texts, drawn at random, as section 5.3 of the paper does; all of them where there are no more.

    A text that stands in the corpus twice is one text here.
    """
    order = _shuffled(examples.text, seed)
    kept = np.isin(examples.text, order[:number])
    return _of_pieces(examples, kept)


def keep_top_concepts(examples: Examples, number: int) -> Examples:
    """The same texts with the annotations of the most frequent concepts alone, as in section 5.2."""
    counts = np.bincount(examples.label, minlength=len(examples.labels))
    # the more frequent first; among equals, by name
    order = sorted(range(len(examples.labels)), key=lambda i: (-counts[i], examples.labels[i]))[:number]
    kept = np.isin(examples.label, order)
    place = np.zeros(len(examples.labels), np.int64)
    place[order] = np.arange(len(order))
    return replace(
        examples,
        piece=examples.piece[kept],
        first=examples.first[kept],
        last=examples.last[kept],
        label=place[examples.label[kept]],
        labels=tuple(examples.labels[i] for i in order),
    )


def merge_labels(examples: Examples, same: Sequence[Hashable]) -> Examples:
    """Makes one label of those that the concept encoder cannot tell apart, such as "Person" and "person" uncased.

    Apart, each would be the other's sure negative.

    Args:
        examples: with all labels.
        same: what the encoder sees of each label; the first label of equals stays.
    """
    place: dict[Hashable, int] = {}
    number = np.array([place.setdefault(one, len(place)) for one in same], np.int64)
    if len(place) == len(same):
        return examples
    names = [""] * len(place)
    for name, i in zip(reversed(examples.labels), reversed(number.tolist()), strict=True):
        names[i] = name
    return replace(examples, label=number[examples.label], labels=tuple(names))


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Ints, Ints]:
    """Splits pieces into a training and a held-out part by their texts, so that none stands in both.

    Returns:
        Numbers of the pieces of each part. With a share above 0 the second holds at least one text, if there are two.
    """
    order = _shuffled(examples.text, seed)
    number = min(max(1, round(share * len(order))), len(order) - 1) if share else 0
    out = np.isin(examples.text, order[:number])
    return np.flatnonzero(~out), np.flatnonzero(out)


def _shuffled(text: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Each text's number once, in an order that depends on the numbers and the seed alone."""
    unique = np.unique(text)
    with np.errstate(over="ignore"):
        mixed = (unique ^ (np.uint64(seed) * _MIX)) * _MIX
    mixed ^= mixed >> np.uint64(32)
    return unique[np.argsort(mixed, kind="stable")]


def _of_pieces(examples: Examples, kept: NDArray[np.bool_]) -> Examples:
    """The kept pieces with their ranges, and the labels that are still in use."""
    lengths = examples.lengths
    place = np.cumsum(kept) - 1
    ranges = kept[examples.piece]
    used, label = np.unique(examples.label[ranges], return_inverse=True)
    return replace(
        examples,
        ids=examples.ids[np.repeat(kept, lengths)],
        bounds=np.concatenate([[0], np.cumsum(lengths[kept])]),
        text=examples.text[kept],
        piece=place[examples.piece[ranges]],
        first=examples.first[ranges],
        last=examples.last[ranges],
        label=label.astype(np.int64),
        labels=tuple(examples.labels[i] for i in used),
        documents=len(np.unique(examples.text[kept])),
    )
