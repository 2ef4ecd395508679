"""Exact search against the definitions of the metrics, in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuner_embed.indexes import exact
from nuner_embed.indexes.exact import nearest
from nuner_embed.indexes.vectors import Vectors, prepared

METRICS = ["cosine", "dot", "l2"]


def by_definition(stored, queries, metric):
    x, q = stored.astype(np.float64), queries.astype(np.float64)
    return -np.linalg.norm(q[:, None] - x[None], axis=2) if metric == "l2" else q @ x.T


@st.composite
def cases(draw):
    chance = np.random.default_rng(draw(st.integers(0, 10**6)))
    rows, queries, dim = draw(st.integers(1, 60)), draw(st.integers(1, 9)), draw(st.integers(1, 8))
    drawn = chance.integers(-2, 3, (rows + queries, dim))  # many rows are alike
    vectors = drawn + (chance.standard_normal(drawn.shape) if draw(st.booleans()) else 0)
    keep = draw(st.one_of(st.none(), st.lists(st.booleans(), min_size=rows, max_size=rows).map(np.array)))
    return vectors[:rows], vectors[rows:], draw(st.integers(1, 80)), keep


@given(
    metric=st.sampled_from(METRICS),
    dtype=st.sampled_from(["float16", "float32"]),
    case=cases(),
    block=st.sampled_from([1, 7, 1000]),
    end=st.none() | st.integers(0, 60),
)
@settings(max_examples=60)
def test_it_finds_what_a_loop_finds(metric, dtype, case, block, end):
    rows, queries, k, keep = case
    vectors = Vectors(prepared(rows, metric).astype(dtype), metric)
    wanted = prepared(queries, metric)
    end = None if end is None else min(end, len(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_block_rows", lambda queries: block)
        scores, places = nearest(vectors, wanted, k, keep, end)
    expected = by_definition(vectors.matrix, wanted, metric)
    allowed = np.ones(len(rows), bool) if keep is None else keep.copy()
    allowed[len(rows) if end is None else end :] = False
    assert scores.shape == places.shape == (len(queries), min(k, int(allowed.sum())))
    assert allowed[places].all()
    assert all(len(set(line)) == len(line) for line in places.tolist())
    best = -np.sort(-np.where(allowed, expected, -np.inf), axis=1)[:, : scores.shape[1]]
    np.testing.assert_allclose(scores, best, atol=2e-3 if metric == "l2" else 1e-5)
    np.testing.assert_allclose(np.take_along_axis(expected, places, axis=1), scores, rtol=1e-5, atol=1e-6)
    assert (np.diff(scores, axis=1) <= 0).all()
    tied = np.diff(scores, axis=1) == 0
    assert (np.diff(places, axis=1)[tied] > 0).all()


@pytest.mark.parametrize("metric", METRICS)
def test_a_score_depends_on_its_query_and_its_row_alone(metric):
    chance = np.random.default_rng(1)
    vectors = Vectors(prepared(chance.standard_normal((3000, 24)), metric).astype(np.float16), metric)
    queries = prepared(chance.standard_normal((70, 24)), metric)
    scores, places = nearest(vectors, queries, 10)
    for number in (0, 33, 69):
        alone = nearest(vectors, queries[number : number + 1], 5)
        np.testing.assert_array_equal(alone[0][0], scores[number, :5])
        np.testing.assert_array_equal(alone[1][0], places[number, :5])
    keep = np.zeros(3000, bool)
    keep[places[0]] = True
    np.testing.assert_array_equal(nearest(vectors, queries[:1], 10, keep)[0][0], scores[0])


def test_a_row_is_at_no_distance_from_itself():
    """Near 0, a distance that is computed from inner products has few digits."""
    vectors = Vectors(np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32) * 30, "l2")
    scores, places = nearest(vectors, vectors.matrix, 1)
    assert not scores.any()
    assert places[:, 0].tolist() == list(range(500))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("block", [1, 2, 1000])
def test_rows_that_are_damaged_come_last(metric, block, monkeypatch):
    """A bit that flipped in a stored vector may make NaN of the vector's scores."""
    rows = np.array([[1, 0], [np.nan, 0], [0.6, 0.8], [0, np.nan], [0, 1]], np.float32)
    monkeypatch.setattr(exact, "_block_rows", lambda queries: block)
    with np.errstate(invalid="ignore"):
        for k in range(1, 6):
            _, places = nearest(Vectors(rows, metric), np.array([[1, 0]], np.float32), k)
            assert places[0, :3].tolist() == [0, 2, 4][: min(k, 3)]
            assert len(set(places[0].tolist())) == k
            assert set(places[0].tolist()) <= set(range(5))
