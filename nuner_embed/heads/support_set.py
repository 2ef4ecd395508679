"""Support sets: the sentences from which a probe learns, all of a corpus or drawn from it.

A drawn support set holds between k and 2k mentions of every type, or exactly k words of it. `k ~ 2k` follows Ding et
al. (2021) and section 4.1 of the paper; `k_w` follows section 6. Adding random sentences until every type has enough
ends in a dead end where types stand close together: by the time a rare type is looked for, the frequent types that
stand beside it have reached their limit. So the rarest type goes first, a draw that fails begins again, and where that
fails too often an integer program says whether there is any such set at all.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import Texts, as_documents, as_names
from nuner_embed.documents import Document
from nuner_embed.errors import ProbeError
from nuner_embed.heads.labelled_words import comma_hint, count_matrix, count_mentions, shortened, types_among
from nuner_embed.tables import Ints

ShortTypes = Literal["fail", "drop", "keep"]
_RESTARTS = 200
_SEARCH_NODES = 20_000  # of the integer program's tree


@dataclass(frozen=True, slots=True)
class SupportSet:
    """The sentences from which a probe learns.

    Attributes:
        documents: annotated.
        types: to tell apart, sorted.
        left_out: other types of the data, with their mentions.
        k: the set was drawn with between k and 2k mentions of each type; None if all the data was taken.
        seed: of the draw; None if nothing was drawn.
        what: the data's name in messages.
    """

    documents: tuple[Document, ...] = field(repr=False)
    types: tuple[str, ...]
    left_out: dict[str, int]
    k: int | None
    seed: int | None
    what: str


def choose_support(
    documents: Texts,
    *,
    types: str | Collection[str] | None = None,
    k: int | None = None,
    seed: int = 0,
    short: ShortTypes = "fail",
    what: str = "the data",
) -> SupportSet:
    """Chooses types, and draws a support set if `k` is given; the arguments are `train_probe`'s.

    Raises:
        ProbeError: no mention, a type that is wanted and does not occur or is short of k, or no sentences within the
            bounds.
    """
    documents = as_documents(documents)
    types = None if types is None else as_names(types)
    counts = count_mentions(documents)
    known = types_among(counts)
    if not known:
        raise ProbeError(f"{what} holds no annotated mention; a probe learns from spans or from BIO tags")
    missing = sorted(set(types or ()) - set(known))
    if missing:
        raise ProbeError(
            f"{what} holds no mention of {shortened(missing)}; its types are {shortened(known)}{comma_hint(known)}"
        )
    names = sorted(types or known)
    chosen = tuple(documents)
    if k is not None:
        names, held = _long_enough(documents, names, k, short, what)
        drawn = draw_k(held, k, [seed, k])
        if drawn is None:
            raise ProbeError(
                f"{what}: no choice of its sentences holds between {k} and {2 * k} mentions of every type; take "
                "another k, or fewer --types"
            )
        chosen = tuple(documents[i] for i in drawn)
    wanted = set(names)
    left_out = {name: count for name, count in sorted(counts.items()) if name not in wanted}
    return SupportSet(chosen, tuple(names), left_out, k, None if k is None else seed, what)


def _long_enough(
    documents: Sequence[Document], types: list[str], k: int, short: ShortTypes, what: str
) -> tuple[list[str], Ints]:
    """The types that remain where some have fewer than k mentions, and how often each document holds them."""
    counts = count_matrix(documents, types)
    lacking = short_types(counts, types, k)
    if lacking and short == "fail":
        raise ProbeError(
            f"{what}: too few mentions for k = {k}: {shortened([str(one) for one in lacking])}; take a smaller k, or "
            "--short-types drop (without these types) or keep (with as many as there are)"
        )
    if lacking and short == "drop":
        short_ones = {one.type for one in lacking}
        types = [name for name in types if name not in short_ones]
        if not types:
            raise ProbeError(f"{what}: no type has {k} mentions; take a smaller k")
        counts = count_matrix(documents, types)  # without the others fewer mentions overlap an earlier one
    return types, counts


@dataclass(frozen=True, slots=True)
class Short:
    """A type of which a set holds fewer than k.

    Attributes:
        type: its name.
        count: how many there are.
        k: how many were asked for.
    """

    type: str
    count: int
    k: int

    def __str__(self) -> str:
        return f"{self.type} has {self.count} of {self.k}"


def short_types(counts: Ints, types: Sequence[str], k: int) -> list[Short]:
    """The types that the sentences hold fewer than k times; `counts` is (sentences, types)."""
    totals = counts.sum(axis=0)
    return [Short(name, int(total), k) for name, total in zip(types, totals, strict=True) if total < k]


def draw(counts: Ints, low: Ints, high: Ints, seed: Sequence[int]) -> NDArray[np.intp] | None:
    """Draws sentences that together hold at least `low` and at most `high` of each type.

    Args:
        counts: how often each sentence holds each type, (sentences, types).
        low, high: bounds of each type, (types,).
        seed: the same seed draws the same sentences; any whole numbers.

    Returns:
        The sentences, in the order of the corpus, or None where there is no such set (or none was found by
        an integer program that gave up after 20,000 nodes).
    """
    random = np.random.default_rng(list(seed))
    rarest_first = np.argsort(counts.sum(axis=0), kind="stable")
    for _ in range(_RESTARTS):
        chosen = _greedy(counts, low, high, rarest_first, random)
        if chosen is not None:
            return chosen
    return _by_integer_program(counts, low, high, random)


def draw_k(counts: Ints, k: int, seed: Sequence[int]) -> NDArray[np.intp] | None:
    """Between k and 2k mentions of each type; a type with fewer than k is taken as often as it occurs. See `draw`."""
    low = np.minimum(counts.sum(axis=0), k)
    return draw(counts, low, np.full_like(low, 2 * k), seed)


def draw_words(counts: Ints, k: int, seed: Sequence[int]) -> NDArray[np.intp] | None:
    """Exactly k words of each type, as in section 6 of the paper; `counts` counts words. See `draw`."""
    low = np.minimum(counts.sum(axis=0), k)
    return draw(counts, low, low, seed)


def _greedy(
    counts: Ints, low: Ints, high: Ints, order: NDArray[np.intp], random: np.random.Generator
) -> NDArray[np.intp] | None:
    have = np.zeros_like(low)
    used = np.zeros(len(counts), dtype=bool)
    for type_ in order:
        if have[type_] >= low[type_]:
            continue
        candidates = np.flatnonzero((counts[:, type_] > 0) & ~used)
        for sentence in random.permutation(candidates):
            after = have + counts[sentence]
            if (after <= high).all():
                have, used[sentence] = after, True
                if have[type_] >= low[type_]:
                    break
        else:
            return None
    return np.flatnonzero(used)


def _by_integer_program(counts: Ints, low: Ints, high: Ints, random: np.random.Generator) -> NDArray[np.intp] | None:
    """The cheapest set within the bounds at random prices, so that each seed finds another."""
    from scipy.optimize import Bounds, LinearConstraint, milp  # slow to import, and seldom needed

    useful = np.flatnonzero(counts.any(axis=1) & (counts <= high).all(axis=1))
    if not len(useful) or (counts[useful].sum(axis=0) < low).any():
        return None
    found = milp(
        random.random(len(useful)),
        integrality=np.ones(len(useful)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(counts[useful].T.astype(float), low, high),
        options={"node_limit": _SEARCH_NODES, "mip_rel_gap": 0.0},
    )
    if found.x is None:
        return None
    chosen = useful[found.x > 0.5]
    have = counts[chosen].sum(axis=0)
    return np.sort(chosen) if ((have >= low) & (have <= high)).all() else None
