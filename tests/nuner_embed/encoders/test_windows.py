import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuner_embed.encoders.windows import place


def run(sizes, stretches, capacity, stride):
    """Places stretches given as (document, first, last) with token numbers within the document."""
    sizes = np.array(sizes)
    begins = np.cumsum(sizes) - sizes
    document = np.array([d for d, _, _ in stretches], dtype=np.int64)
    first = np.array([begins[d] + a for d, a, _ in stretches], dtype=np.int64)
    last = np.array([begins[d] + b for d, _, b in stretches], dtype=np.int64)
    return begins, place(begins, sizes, document, first, last, capacity, stride)


@st.composite
def cases(draw):
    capacity = draw(st.integers(2, 12))
    stride = draw(st.integers(0, capacity // 2))
    sizes = draw(st.lists(st.integers(0, 40), min_size=1, max_size=4))
    stretches = []
    for d, size in enumerate(sizes):
        for a in sorted(draw(st.lists(st.integers(0, max(0, size - 1)), max_size=5)) if size else []):
            stretches.append((d, a, draw(st.integers(a + 1, size))))
    return sizes, stretches, capacity, stride


@given(cases())
def test_every_token_is_covered_and_every_stretch_found_in_one_window(case):
    sizes, stretches, capacity, stride = case
    begins, placed = run(*case)
    starts, lengths = placed.windows.start, placed.windows.length
    regular = int(placed.counts.sum())
    covered = np.zeros(sum(sizes), dtype=int)
    for start, length in zip(starts[:regular], lengths[:regular], strict=True):
        assert 0 < length <= capacity
        covered[start : start + length] += 1
    assert (covered >= 1).all()
    assert covered.max(initial=0) <= 2
    for i, (d, a, b) in enumerate(stretches):
        window = placed.window[i]
        assert 0 <= placed.first[i] < placed.last[i] <= lengths[window]
        assert starts[window] + placed.first[i] == begins[d] + a
        assert begins[d] <= starts[window]
        assert starts[window] + lengths[window] <= begins[d] + sizes[d]
        assert placed.cut[i] == (b - a > capacity)
        assert placed.last[i] - placed.first[i] == min(b - a, lengths[window] - placed.first[i])
        if not placed.cut[i]:
            assert placed.last[i] - placed.first[i] == b - a


@given(cases())
def test_a_token_comes_from_the_window_where_it_stands_most_central(case):
    sizes, _, capacity, stride = case
    tokens = [(d, t, t + 1) for d, size in enumerate(sizes) for t in range(size)]
    begins, placed = run(sizes, tokens, capacity, stride)

    def margin(w, d, t):
        """Distance to the nearest edge that cuts the text, or None if the token is not in the window."""
        start = placed.windows.start[w] - begins[d]
        end = start + placed.windows.length[w]
        if not start <= t < end:
            return None
        left = t - start if start > 0 else 10**6
        right = end - 1 - t if end < sizes[d] else 10**6
        return min(left, right)

    window_first = np.cumsum(placed.counts) - placed.counts
    for i, (d, t, _) in enumerate(tokens):
        mine = range(window_first[d], window_first[d] + placed.counts[d])
        best = max(m for w in mine if (m := margin(w, d, t)) is not None)
        assert margin(placed.window[i], d, t) == best


def test_a_mention_that_no_window_holds_gets_one_of_its_own():
    _, placed = run([20], [(0, 4, 10)], 8, 2)
    assert placed.counts.tolist() == [3]
    assert placed.window.tolist() == [3]
    assert placed.windows.start[3] == 3
    assert (placed.first[0], placed.last[0]) == (1, 7)


def test_a_mention_longer_than_a_window_is_cut_and_said_to_be():
    _, placed = run([30], [(0, 5, 25)], 8, 2)
    assert placed.cut.tolist() == [True]
    assert placed.windows.start[placed.window[0]] == 5
    assert (placed.first[0], placed.last[0]) == (0, 8)


@pytest.mark.parametrize(("size", "windows"), [(0, 0), (1, 1), (8, 1), (9, 2), (14, 2), (15, 3)])
def test_number_of_windows(size, windows):
    _, placed = run([size], [], 8, 2)
    assert placed.counts.tolist() == [windows]
