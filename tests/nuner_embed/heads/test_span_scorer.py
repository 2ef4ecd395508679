"""The span scorer against its definition, span by span, and the choice among spans that overlap."""

import itertools

import numpy as np
import pytest

from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.heads.span_scorer import PARTS, WIDTH, SpanScorer, gelu
from nuner_embed.heads.span_selection import disjoint, nested

DIM, HIDDEN = 6, 10


def scorer(seed=0, metric="cosine"):
    random = np.random.default_rng(seed)

    def array(*shape):
        return random.normal(size=shape).astype(np.float32)

    shapes = (DIM, PARTS * HIDDEN), (WIDTH, HIDDEN), (HIDDEN, DIM + 1), (DIM + 1,)
    return SpanScorer(*(array(*shape) for shape in shapes), 1.5, -0.5, metric)


def words(*counts, seed=1):
    bounds = np.cumsum([0, *counts])
    start = np.arange(bounds[-1]) * 2
    vectors = np.random.default_rng(seed).normal(size=(bounds[-1], DIM)).astype(np.float32)
    return WordFeatures(bounds, start, start + 1, vectors)


def one_by_one(made, features):
    """What the docstring of the module says, for every span."""
    size, none = HIDDEN, np.zeros(DIM)
    parts = [made.words[:, i * size : (i + 1) * size] for i in range(PARTS)]
    for begin, end in itertools.pairwise(features.bounds.tolist()):
        for first in range(begin, end):
            for last in range(first + 1, min(end, first + WIDTH) + 1):
                inner = features.vectors[first:last].astype(np.float64)
                before = features.vectors[first - 1] if first > begin else none
                after = features.vectors[last] if last < end else none
                seen = (inner[0], inner[-1], before, after, inner.mean(axis=0))
                hidden = gelu(
                    sum(one @ part for one, part in zip(seen, parts, strict=True)) + made.widths[last - first - 1]
                )
                output = hidden @ made.output + made.bias
                mean = inner.mean(axis=0)
                if made.metric == "cosine":
                    mean = mean / np.linalg.norm(mean)
                yield (first, last), output[-1], output[:-1] + made.agreement * mean


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("counts", [(1,), (3, 0, 12, 1), (700, 2, 40)])
def test_every_span_is_scored_as_defined(counts, metric):
    made, features = scorer(metric=metric), words(*counts)
    found = {}
    for part in made.score(features):
        for first, last, mention, vector in zip(part.first, part.last, part.mention, part.vectors, strict=True):
            found[int(first), int(last)] = mention, vector
    expected = list(one_by_one(made, features))
    assert found.keys() == {span for span, _, _ in expected}
    for span, mention, vector in expected:
        np.testing.assert_allclose(found[span][0], mention, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found[span][1], vector, rtol=1e-3, atol=1e-3)


def test_no_words():
    assert [len(part.first) for part in scorer().score(words(0, 0))] in ([], [0])
    assert list(scorer().score(words())) == []


def test_improbable_spans_are_left_out():
    made, features = scorer(), words(9, 4)
    (every,), (some,) = made.score(features), made.score(features, 1.0)
    kept = every.mention >= 1.0
    assert 0 < np.count_nonzero(kept) < len(kept)
    np.testing.assert_array_equal(some.first, every.first[kept])
    np.testing.assert_allclose(some.vectors, every.vectors[kept], rtol=1e-5)


def test_the_network_that_is_trained_computes_the_same():
    torch = pytest.importorskip("torch")
    from nuner_embed.heads.span_scorer import Rows
    from nuner_embed.pretraining.span_network import SpanBatch, SpanNetwork

    torch.manual_seed(0)
    network = SpanNetwork(DIM, 3.0, -1.0, "cosine", 0.1)
    torch.nn.init.normal_(network.widths)
    network.set_training(False)
    features = words(5, 1, 11)
    rows = Rows.of(features.vectors, features.bounds)
    first, length = rows.spans()
    spans = (length - 1) * len(rows.room) + first
    given = (rows.vectors, spans, np.arange(len(first)), first, length, np.zeros((1, DIM), np.float32))
    holds = np.zeros((len(first), 1), np.float32)
    with torch.no_grad():
        mention, vectors = network.score(SpanBatch(*map(torch.from_numpy, (*given, holds))))
    (found,) = network.scorer().score(features)
    np.testing.assert_allclose(found.mention, mention.numpy(), rtol=1e-2, atol=1e-2)  # rounded to 16 bits
    np.testing.assert_allclose(found.vectors, vectors.numpy(), rtol=1e-2, atol=1e-2)


def test_weights_that_do_not_fit():
    made = scorer()
    with pytest.raises(ValueError, match="shapes"):
        SpanScorer(made.words[:, 1:], made.widths, made.output, made.bias, 1.0, 0.0, "dot")
    with pytest.raises(ValueError, match="finite"):
        SpanScorer(made.words, made.widths, made.output, made.bias, float("nan"), 0.0, "dot")


def spans(seed, count=9, words=7):
    random = np.random.default_rng(seed)
    first = random.integers(0, words, count)
    last = first + random.integers(1, 4, count)
    found = np.unique(np.stack([first, last]), axis=1)
    return *found, random.uniform(0.1, 1, found.shape[1])


@pytest.mark.parametrize("seed", range(20))
def test_disjoint_spans_are_the_best_of_all_choices(seed):
    first, last, probability = spans(seed)

    def overlap(some):
        return any(first[a] < last[b] and first[b] < last[a] for a, b in itertools.combinations(some, 2))

    worth = (last - first) * probability
    choices = (some for size in range(len(first) + 1) for some in itertools.combinations(range(len(first)), size))
    best = max(worth[list(some)].sum() for some in choices if not overlap(some))
    chosen = disjoint(first, last, probability)
    assert not overlap(chosen)
    assert worth[chosen].sum() == pytest.approx(best)
    assert list(first[chosen]) == sorted(first[chosen])


@pytest.mark.parametrize("seed", range(20))
def test_nested_spans_do_not_cross(seed):
    first, last, probability = spans(seed)
    chosen = nested(first, last, probability).tolist()
    for a, b in itertools.combinations(range(len(first)), 2):
        crosses = first[a] < first[b] < last[a] < last[b] or first[b] < first[a] < last[b] < last[a]
        assert not (crosses and a in chosen and b in chosen)
    expected: list[int] = []
    for one in np.argsort(-probability, kind="stable").tolist():
        a, b = first[one], last[one]
        if not any(a < first[c] < b < last[c] or first[c] < a < last[c] < b for c in expected):
            expected.append(one)
    assert sorted(chosen) == sorted(expected)
    places = [(first[i], -last[i]) for i in chosen]
    assert places == sorted(places)


def test_no_span_to_choose_from():
    none = np.empty(0, np.int64)
    assert disjoint(none, none, none.astype(float)).tolist() == nested(none, none, none.astype(float)).tolist() == []
