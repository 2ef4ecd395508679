"""Windows over texts that are longer than the encoder's input."""

import numpy as np

from nuner_embed.tables import Ints, Placement, Windows


def count_windows(sizes: Ints, capacity: int, stride: int) -> Ints:
    """The number of windows for texts of the given sizes in tokens, (d,); 0 for a text without tokens."""
    return np.where(sizes > 0, 1 + np.maximum(0, -(-(sizes - capacity) // (capacity - stride))), 0)


def place(begins: Ints, sizes: Ints, document: Ints, first: Ints, last: Ints, capacity: int, stride: int) -> Placement:
    """Lays overlapping windows over every document and chooses one for each stretch.

    A stretch is taken from the window that contains it and in which it lies farthest from a cut edge (the ends of the
    text are no cut). A stretch that no regular window contains gets a window of its own, centred on the stretch.

    Args:
        begins: first token of each document, as an index into the token table, (d,).
        sizes: tokens of each document, (d,).
        document: document of each stretch, (m,).
        first: first token of each stretch, as an index into the token table, (m,).
        last: one past its last token, (m,).
        capacity: tokens of text in a window.
        stride: tokens that neighbouring windows share, at most half the capacity.
    """
    step = capacity - stride
    counts = count_windows(sizes, capacity, stride)
    firsts = np.cumsum(counts) - counts
    owner = np.repeat(np.arange(len(sizes)), counts)
    offset = (np.arange(len(owner)) - firsts[owner]) * step
    length = np.minimum(capacity, sizes[owner] - offset)

    a = first - begins[document]
    b = last - begins[document]
    later = np.minimum(a // step, counts[document] - 1)
    earlier = np.maximum(later - 1, 0)
    earlier_end = earlier * step + capacity
    # compares the margins to the edges where the two windows cut the text; the earlier window wins a tie
    choose_earlier = (later > 0) & (b <= earlier_end) & (earlier_end - b >= a - later * step)
    index = np.where(choose_earlier, earlier, later)
    window = firsts[document] + index
    start_in = a - index * step
    end_in = b - index * step

    start = begins[owner] + offset
    homeless = np.flatnonzero(end_in > capacity)
    cut = np.zeros(len(a), dtype=np.bool_)
    if len(homeless):
        size = np.minimum(b - a, capacity)[homeless]
        cut[homeless] = (b - a)[homeless] > capacity
        room = sizes[document[homeless]] - capacity
        own = np.clip(a[homeless] - (capacity - size) // 2, 0, room)
        own = np.where(cut[homeless], np.minimum(a[homeless], room), own)
        window[homeless] = len(start) + np.arange(len(homeless))
        start_in[homeless] = a[homeless] - own
        end_in[homeless] = np.minimum(start_in[homeless] + size, capacity)
        start = np.concatenate([start, begins[document[homeless]] + own])
        length = np.concatenate([length, np.full(len(homeless), capacity)])
    return Placement(Windows(start, length), counts, window, start_in, end_in, cut)
