import warnings

import numpy as np
import pytest
from fakes import HashSpec

from nuner_embed import Store, nearest
from nuner_embed.corpora import Corpus
from nuner_embed.encoding.job import run_job
from nuner_embed.encoding.options import JobOptions
from nuner_embed.errors import StoreMismatch
from nuner_embed.indexes import NumericsDiffer


def make(folder, name, **spec):
    corpus = folder / f"{name}.txt"
    words = ["the", "ferry", "left", "at", "seven", "Zürich", "prescribed", "x", "y", "z", "."]
    corpus.write_text("\n".join(" ".join(words[(i * k) % 11] for k in range(1, 9)) for i in range(40)) + "\n")
    with Corpus([corpus]) as source:
        run_job(source, folder / name, HashSpec(**spec), JobOptions(shard_rows=50, dtype="float32"))
    return Store.open(folder / name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exact")


@pytest.fixture(scope="module")
def store(folder):
    return make(folder, "a")


@pytest.mark.parametrize("k", [1, 7, 10_000])
def test_values_are_those_of_brute_force(store, k):
    vectors = store.vectors(np.arange(len(store)))
    queries = np.random.default_rng(0).normal(size=(5, store.dim)).astype(np.float32)
    found = nearest(store, queries, k)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ unit.T
    k = min(k, len(store))
    assert found.scores.shape == found.rows.shape == (5, k)
    np.testing.assert_allclose(found.scores, -np.sort(-scores, axis=1)[:, :k], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(scores, found.rows, axis=1), found.scores, atol=1e-5)
    assert all(len(set(rows)) == k for rows in found.rows.tolist())


def test_several_stores_are_searched_as_one(store):
    found = nearest([store, store], store.vectors([3]), k=40)
    assert set(found.stores[0]) == {0, 1}
    both = set(zip(found.stores[0].tolist(), found.rows[0].tolist(), strict=True))
    assert {(0, 3), (1, 3)} <= both


def test_stores_of_two_meanings_are_refused(store, folder):
    with pytest.raises(StoreMismatch, match="different encoders or recipes"):
        nearest([store, make(folder, "b", max_length=30)], store.vectors([0]))


def test_stores_of_two_numerics_are_searched_with_a_warning(store, folder):
    other = make(folder, "c", batch_tokens=64)
    with pytest.warns(NumericsDiffer, match="computed differently"):
        nearest([store, other], store.vectors([0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nearest([store, store], store.vectors([0]))


@pytest.mark.parametrize("query", [np.zeros(3), np.full(8, np.nan)])
def test_queries_that_make_no_sense(store, query):
    with pytest.raises(ValueError, match="finite and"):
        nearest(store, query)
    with pytest.raises(ValueError, match="k must be at least 1"):
        nearest(store, np.zeros(8), k=0)
