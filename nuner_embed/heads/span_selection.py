"""The choice among spans that overlap."""

import numpy as np

from nuner_embed.heads.span_scorer import Floats
from nuner_embed.tables import Ints


def disjoint(first: Ints, last: Ints, probability: Floats) -> Ints:
    """The spans that overlap no other and together have the largest sum of probability times length.

    The length keeps one long mention from losing against two halves of it.

    Args:
        first: first word of each span, (s,).
        last: one past its last word, (s,).
        probability: of each span, (s,).

    Returns:
        Numbers of the chosen spans, in the order of the text.
    """
    order = np.argsort(last, kind="stable")
    ends, worth = last[order], ((last - first) * probability)[order]
    before = np.searchsorted(ends, first[order], side="right").tolist()  # spans that end where this one begins
    best = np.zeros(len(order) + 1)
    for place, (earlier, value) in enumerate(zip(before, worth.tolist(), strict=True)):
        best[place + 1] = max(best[place], best[earlier] + value)
    chosen, place = [], len(order)
    while place:
        if best[place] > best[place - 1]:
            chosen.append(order[place - 1])
            place = before[place - 1]
        else:
            place -= 1
    return np.array(chosen[::-1], np.int64)


def nested(first: Ints, last: Ints, probability: Floats) -> Ints:
    """The spans that cross no more probable one; a span may lie within another.

    Args and returns as in `disjoint`; an outer span comes before the spans in it.
    """
    order = np.argsort(-probability, kind="stable")
    chosen: list[int] = []
    for number in order.tolist():
        a, b = first[number], last[number]
        kept = np.array(chosen, np.int64)
        c, d = first[kept], last[kept]
        crosses = (a < d) & (c < b) & ~((a >= c) & (b <= d)) & ~((c >= a) & (d <= b))
        if not crosses.any():
            chosen.append(number)
    found = np.array(chosen, np.int64)
    return found[np.lexsort((-last[found], first[found]))]
