"""Support sets: sentences that hold between k and 2k mentions of every type, or exactly k words of it.

`k ~ 2k` follows Ding et al. (2021) and section 4.1 of the paper; `k_w` follows section 6. Adding random sentences until
every type has enough ends in a dead end where types stand close together: by the time a rare type is looked for, the
frequent ones that stand beside it have reached their limit. So the rarest type goes first, a draw that fails begins
again, and where that fails too often an integer program says whether there is any such set at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Unit = Literal["mentions", "words"]
_RESTARTS = 200
_SEARCH_NODES = 20_000  # of the integer program's tree


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


def short_types(counts: Counts, types: Sequence[str], k: int) -> list[Short]:
    """The types that the sentences hold fewer than k times; `counts` is (sentences, types)."""
    totals = counts.sum(axis=0)
    return [Short(name, int(total), k) for name, total in zip(types, totals, strict=True) if total < k]


def draw(counts: Counts, low: Counts, high: Counts, seed: Sequence[int]) -> NDArray[np.intp] | None:
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


def draw_k(counts: Counts, k: int, seed: Sequence[int]) -> NDArray[np.intp] | None:
    """Between k and 2k mentions of each type; a type with fewer than k is taken as often as it occurs. See `draw`."""
    low = np.minimum(counts.sum(axis=0), k)
    return draw(counts, low, np.full_like(low, 2 * k), seed)


def draw_words(counts: Counts, k: int, seed: Sequence[int]) -> NDArray[np.intp] | None:
    """Exactly k words of each type, as in section 6 of the paper; `counts` counts words. See `draw`."""
    low = np.minimum(counts.sum(axis=0), k)
    return draw(counts, low, low, seed)


def _greedy(
    counts: Counts, low: Counts, high: Counts, order: NDArray[np.intp], random: np.random.Generator
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


def _by_integer_program(
    counts: Counts, low: Counts, high: Counts, random: np.random.Generator
) -> NDArray[np.intp] | None:
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
