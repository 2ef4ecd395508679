"""Every support set keeps its bounds; where there is none, there is none."""

import itertools

import numpy as np
import pytest
from fakes import SHARED_DATA
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nuner_embed import Corpus
from nuner_embed.heads import support_set
from nuner_embed.heads.labelled_words import count_matrix, count_mentions
from nuner_embed.heads.support_set import draw, draw_k, draw_words, short_types

SETS = {
    "mit-movie": "mit-movie/train.txt",
    "mit-restaurant": "mit-restaurant/train.txt",
    "bionlp2004": "bionlp2004/train.tsv",
    "ai": "crossner/ai/train.txt",
    "politics": "crossner/politics/train.txt",
    "science": "crossner/science/train.txt",
    "few-nerd": "few-nerd-inter/dev.txt.gz",
}
small = arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 3)), elements=st.integers(0, 4))


def within(counts, chosen, low, high):
    have = counts[chosen].sum(axis=0)
    return (have >= low).all() and (have <= high).all()


@given(counts=small, k=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_a_draw_is_found_exactly_where_there_is_one(counts, k, seed):
    low, high = np.full(counts.shape[1], k), np.full(counts.shape[1], 2 * k)
    chosen = draw(counts, low, high, [seed])
    subsets = itertools.chain.from_iterable(
        itertools.combinations(range(len(counts)), size) for size in range(len(counts) + 1)
    )
    exists = any(within(counts, list(subset), low, high) for subset in subsets)
    assert (chosen is not None) == exists
    if chosen is not None:
        assert within(counts, chosen, low, high)
        assert (np.diff(chosen) > 0).all()


@given(counts=small, k=st.integers(1, 5), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_exactly_k_words(counts, k, seed):
    chosen = draw_words(counts, k, [seed])
    if chosen is not None:
        assert (counts[chosen].sum(axis=0) == np.minimum(k, counts.sum(axis=0))).all()


def test_the_integer_program_finds_what_luck_does_not(monkeypatch):
    """One choice in thousands, which adding at random hardly ever meets."""
    random = np.random.default_rng(3)
    counts = random.integers(0, 6, (40, 5))
    target = counts[random.choice(40, 6, replace=False)].sum(axis=0)
    monkeypatch.setattr(support_set, "_greedy", lambda *_: None)
    found = [draw(counts, target, target, [seed]) for seed in range(3)]
    for chosen in found:
        assert chosen is not None
        assert (counts[chosen].sum(axis=0) == target).all()


def test_the_seed_decides():
    counts = np.random.default_rng(0).integers(0, 2, (300, 4))
    draws = [tuple(draw_k(counts, 4, [seed])) for seed in (1, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_short_types_are_named_with_their_counts():
    counts = np.array([[1, 0, 3], [1, 1, 0]])
    assert [str(short) for short in short_types(counts, ["a", "b", "c"], 3)] == ["a has 2 of 3", "b has 1 of 3"]
    chosen = draw_k(counts, 3, [0])
    assert chosen.tolist() == [0, 1]  # what there is of a and b, and three of c


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "few-nerd")) for name in SETS])
def test_on_real_sets(name):
    path = SHARED_DATA / "typed" / SETS[name]
    if not path.exists():
        pytest.skip(f"{path} is not there")
    documents = list(Corpus([path], format="conll"))
    types = sorted(count_mentions(documents))
    mentions = count_matrix(documents, types)
    words = count_matrix(documents, types, "words")
    drawn = 0
    for k, seed in itertools.product((1, 2, 4, 8, 16, 32, 64), range(3)):
        lacking = short_types(mentions, types, k)
        assert {short.type for short in lacking} == {
            name for name, total in zip(types, mentions.sum(axis=0), strict=True) if total < k
        }
        chosen = draw_k(mentions, k, [seed, k])
        if chosen is not None:
            drawn += 1
            assert within(mentions, chosen, np.minimum(mentions.sum(axis=0), k), 2 * k)
        if k <= 8 and len(documents) > 1000:
            exact = draw_words(words, k, [seed, k])
            assert exact is not None or k == 1  # a type whose mentions all have two words has no choice of one
            if exact is not None:
                assert (words[exact].sum(axis=0) == k).all()
    assert drawn >= 12
