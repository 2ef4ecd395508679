"""FAISS's factory strings: each is built and searched, or refused in one line before anything is written."""

import faiss
import numpy as np
import pytest
from oracle import all_scores, best_scores
from stores import make_store

from nuner_embed.indexes import Index
from nuner_embed.indexes.faiss import backend
from nuner_embed.indexes.faiss.factory import is_exact, make

# Of every family that FAISS's factory knows; 4-bit quantisers, which train quickly.
COSINE = [
    "Flat", "HNSW8", "HNSW8,SQ8", "IVF8,Flat", "IVF8,SQ4", "IVF8,SQfp16",
    "IVF8,PQ4x4", "IVF8,PQ4x4fs", "IVF8,PQ4x4fsr", "IVF8,RQ2x4", "IVF8,LSQ2x4", "IVF8,PRQ2x1x4", "IVF8,PLSQ2x1x4",
    "IVF8,RQ2x4fs", "IVF8,RaBitQ", "IVF8,RaBitQfs", "IVF8_HNSW8,Flat", "IVF8(IVF2,Flat),Flat", "IVF8,FlatPanorama4",
    "PQ4x4", "PQ4x4fs", "SQ8", "SQ4", "SQbf16", "RaBitQ", "RaBitQfs", "RQ2x4", "RQ2x4fs", "LSQ2x4", "LSQ2x4fs",
    "PRQ2x1x4", "PRQ2x1x4fs", "PLSQ2x1x4", "PLSQ2x1x4fs", "PCA8,Flat", "PCA16,Flat", "PCAR8,Flat", "PCAW8,Flat",
    "RR8,Flat", "RR16,Flat", "RR24,Flat", "OPQ4_8,Flat", "L2norm,Flat", "ITQ8,Flat", "Pad24,Flat", "PCA8,RR4,Flat",
    "PCA8,HNSW8", "PCA8,IVF8,Flat", "PCA8,PQ4x4", "RR8,SQ8", "OPQ4_8,IVF8,PQ4x4",
]  # fmt: skip
L2 = [
    "LSH",
    "LSHrt",
    "ITQ8,LSH",
    "IMI2x2,Flat",
    "FlatL2Panorama4",
    "HNSW8_FlatPanorama4",
    "HNSW8,PQ4x4",
    "PCA8,Flat",
    "PQ4x4",
]
BUILT = [(factory, "cosine") for factory in COSINE] + [(factory, "l2") for factory in L2]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Too few rows for recall to be measured: the searches try hardest."""
    store = make_store(tmp_path_factory.mktemp("kinds") / "a", 1, documents=6)
    assert 1000 < len(store) < 2000
    return store


@pytest.mark.parametrize(
    ("factory", "metric"),
    [*BUILT[::3], *(pytest.param(*one, marks=pytest.mark.slow) for one in BUILT[1::3] + BUILT[2::3])],
)
def test_what_is_built_is_searched_and_filtered(store, tmp_path, monkeypatch, factory, metric):
    monkeypatch.setattr(backend, "SCAN_ROWS", 0)  # filters go to FAISS wherever FAISS takes them
    index = Index.build(store, tmp_path / "index", kind=factory, metric=metric)
    vectors = store.vectors(np.arange(len(store)))
    queries = np.random.default_rng(0).standard_normal((20, 16)).astype(np.float32)
    for condition, allowed in ((None, np.ones(len(store), bool)), ("token % 2 = 0", None)):
        if allowed is None:
            allowed = store.table()["token"].to_numpy() % 2 == 0
        hits = index.search(queries, 10, filter=condition)
        scores = all_scores(vectors, queries, metric)
        truth = best_scores(vectors, queries, metric, 10, allowed)
        assert hits.ids.shape == (20, 10)
        assert allowed[hits.ids].all()
        np.testing.assert_allclose(np.take_along_axis(scores, hits.ids, axis=1), hits.scores, atol=1e-3)
        assert (hits.scores >= truth[:, -1:] - 1e-3).mean() > 0.6
    (built,) = index.bundle.segments
    assert (built.recall.recall == 1) == (factory in ("Flat", "FlatL2Panorama4"))  # exact is said only where it is
    assert Index.open(index.path).verify() == []


@pytest.mark.parametrize(
    ("factory", "metric", "message"),
    [
        ("IVF8,FlatDedup", "cosine", "IndexIVFFlatDedup cannot be added to, written to disk and searched"),
        ("NSG16", "cosine", "IndexNSGFlat cannot be added to, written to disk and searched"),
        ("NSG16,SQ8", "l2", "IndexNSGSQ cannot be"),
        ("NSG16,PQ4x4", "l2", "IndexNSGPQ cannot be"),
        ("PCA8,NSG16", "cosine", "IndexNSGFlat cannot be"),
        ("ZnLattice1x10_4", "l2", "IndexLattice cannot be"),
        ("Residual32,PQ4x4", "l2", "Index2Layer cannot be"),
        ("LSH", "cosine", "FAISS builds 'LSH' for the metric l2 alone; give another --metric"),
        ("ITQ8,LSH", "dot", "for the metric l2 alone"),
        ("HNSW8,PQ4x4", "cosine", "for the metric l2 alone"),
        ("PCA8,HNSW8_PQ4x4", "cosine", "for the metric l2 alone"),
        ("IMI2x3,Flat", "cosine", "for the metric l2 alone"),
        ("IVF8,RQ2x4fs", "l2", "for the metric cosine and dot alone"),
        ("PQ4x4,RFlat", "cosine", "leave out parts that re-rank or that map ids"),
        ("PCA8,PQ4x4,Refine(SQ8)", "cosine", "leave out parts that re-rank or that map ids"),
        ("IDMap,Flat", "cosine", "leave out parts that re-rank or that map ids"),
        ("PCA8,IDMap2,Flat", "cosine", "leave out parts that re-rank or that map ids|neither auto"),
        ("PQ5x4", "cosine", "nor a FAISS factory string for 16 dimensions: "),
        ("PCA64,Flat", "cosine", "cannot train|for 16 dimensions"),
        ("BHNSW32", "cosine", "nor a FAISS factory string"),
        ("NNDescent8", "cosine", "nor a FAISS factory string"),
        ("SVSVamana32", "cosine", "nor a FAISS factory string"),
        ("RFlat", "cosine", "nor a FAISS factory string|leave out"),
        ("", "cosine", "nor a FAISS factory string"),
        ("flat ", "cosine", "nor a FAISS factory string"),
        ("PCA8,", "cosine", "nor a FAISS factory string"),
        ("HNSW0", "cosine", "every number must be at least 1, and HNSW needs 2 links or more"),
        ("HNSW1", "cosine", "HNSW needs 2 links"),
        ("PCA8,IVF8(HNSW1),Flat", "cosine", "HNSW needs 2 links"),
        ("IVF0,Flat", "cosine", "every number"),
        ("RR0,Flat", "cosine", "every number"),
        ("PQ4x0", "cosine", "every number"),
        ("RQ0x4", "cosine", "every number"),
        ("PQ2x11", "cosine", "FAISS cannot train on 1,[0-9]{3} rows: .*; use --kind flat"),
        ("IVF5000,Flat", "cosine", "FAISS cannot train on 1,[0-9]{3} rows: .*; use --kind flat"),
    ],
)
def test_what_cannot_be_searched_is_refused(store, tmp_path, factory, metric, message):
    with pytest.raises(ValueError, match=message) as caught:
        Index.build(store, tmp_path / "index", kind=factory, metric=metric)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_exact_is_said_where_it_is():
    for factory, exact in (("IVF8,Flat", True), ("HNSW8", True), ("PCA8,IVF8,Flat", False), ("RR16,Flat", False)):
        assert is_exact(make(factory, 16, faiss.METRIC_INNER_PRODUCT), faiss.METRIC_INNER_PRODUCT) == exact


@pytest.mark.parametrize("factory", ["PCA8,Flat", "RR4,Flat", "PCA8,IVF16,Flat", "PQ4x4"])
def test_what_loses_something_is_ranked_again_and_measured(tmp_path, factory):
    """PCA64,Flat was called exact, and found 57% of the nearest rows."""
    store = make_store(tmp_path / "a", 3, documents=12)
    index = Index.build(store, tmp_path / "index", kind=factory, target_recall=0.9)
    (built,) = index.bundle.segments
    assert built.recall.queries >= 50
    assert built.parameters.k_factor > 1
    assert built.recall.recall < 1 or "held out" in built.recall.why
    exact = Index.build(store, tmp_path / "exact")
    queries = make_store(tmp_path / "b", 4, documents=1).vectors(np.arange(100)).astype(np.float32)
    truth = exact.search(queries, 10).scores[:, -1:]
    recall = (index.search(queries, 10).scores >= truth - 1e-5).mean()
    assert recall > built.recall.low - 0.05
    if built.recall.reached:
        assert recall > 0.85
