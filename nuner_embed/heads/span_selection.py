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
    firsts, lasts = first.tolist(), last.tolist()
    # the end of the longest chosen span that begins at a word, and the beginning of the longest that ends there
    reaches: dict[int, int] = {}
    comes_from: dict[int, int] = {}
    chosen: list[int] = []
    for number in np.argsort(-probability, kind="stable").tolist():
        a, b = firsts[number], lasts[number]
        inner = range(a + 1, b)  # a chosen span crosses this one if it begins or ends in it, and reaches beyond it
        if any(reaches.get(place, b) > b or comes_from.get(place, a) < a for place in inner):
            continue
        chosen.append(number)
        reaches[a] = max(b, reaches.get(a, b))
        comes_from[b] = min(a, comes_from.get(b, a))
    found = np.array(chosen, np.int64)
    return found[np.lexsort((-last[found], first[found]))]
