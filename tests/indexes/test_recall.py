"""Measured recall is what an index really finds, and auto takes what fits."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from stores import make_store

from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes import Index, SearchParameters, builder
from nuner_embed.indexes.builder import Plan
from nuner_embed.indexes.faiss import backend
from nuner_embed.indexes.recall import hold_out
from nuner_embed.indexes.vectors import Order


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("tuning") / "a", 1, documents=25)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Vectors of other texts."""
    store = make_store(tmp_path_factory.mktemp("tuning") / "b", 2, documents=30)
    return store.vectors(np.arange(len(store))).astype(np.float32)


@given(st.integers(1, 300), st.data())
def test_rows_and_places_are_each_others_inverse(size, data):
    late = data.draw(st.sets(st.integers(0, size - 1), max_size=size))
    order = Order(size, np.array(sorted(late), np.int64))
    rows = np.arange(size)
    places = order.places(rows)
    assert sorted(places.tolist()) == rows.tolist()
    np.testing.assert_array_equal(order.rows(places.copy()), rows)
    assert set(places[sorted(late)].tolist()) == set(range(order.early, size))
    marks = np.array([data.draw(st.booleans()) for _ in range(size)])
    np.testing.assert_array_equal(order.marked(marks)[places], marks)


def test_what_is_held_out():
    assert len(hold_out(1999)) == 0
    for rows in (2000, 50_000, 10**7):
        held = hold_out(rows)
        assert 100 <= len(held) <= 1000
        assert len(np.unique(held)) == len(held)
        assert 0 <= held.min() <= held.max() < rows
        np.testing.assert_array_equal(held, np.sort(held))


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "ivf_pq", "IVF32,SQ8", "PCA8,IVF32,Flat"])
@pytest.mark.parametrize("target", [pytest.param(0.8, marks=pytest.mark.slow), 0.99])
def test_the_manifest_tells_the_recall(store, fresh, tmp_path, kind, target):
    """On queries that it was not tuned with: other rows of other texts."""
    index = Index.build(store, tmp_path / "index", kind=kind, target_recall=target)
    exact = Index.build(store, tmp_path / "exact", kind="flat")
    claimed = index.bundle.segments[0].recall
    truth = exact.search(fresh, 10).scores[:, -1:]
    recall = (index.search(fresh, 10).scores >= truth - 1e-5).mean()
    assert claimed.queries >= 100
    assert claimed.low <= claimed.recall <= claimed.high
    assert recall > claimed.low - 0.03
    if claimed.reached:
        assert claimed.recall > target - 0.03
    else:
        assert "no setting reaches the target" in claimed.why
    assert index.verify() == []


def test_a_harder_target_makes_it_try_harder(store, tmp_path):
    easy, hard = (
        Index.build(store, tmp_path / str(target), kind="ivf", target_recall=target).bundle.segments[0]
        for target in (0.5, 0.999)
    )
    assert easy.parameters.nprobe < hard.parameters.nprobe
    assert easy.recall.recall < hard.recall.recall


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_a_filter_costs_no_recall(store, fresh, tmp_path, monkeypatch, kind):
    """FAISS meets fewer rows that may be found, so it looks at more."""
    monkeypatch.setattr(backend, "SCAN_ROWS", 0)
    index = Index.build(store, tmp_path / "index", kind=kind)
    exact = Index.build(store, tmp_path / "exact", kind="flat")
    condition = "token % 20 = 3"
    truth = exact.search(fresh, 10, filter=condition).scores[:, -1:]
    recall = (index.search(fresh, 10, filter=condition).scores >= truth - 1e-5).mean()
    assert recall > index.bundle.segments[0].recall.low - 0.03


def test_too_few_rows_to_measure(tmp_path):
    store = make_store(tmp_path / "a", 3, documents=6)
    assert 1000 < len(store) < 2000
    (segment,) = Index.build(store, tmp_path / "index", kind="ivf").bundle.segments
    assert segment.recall.recall is None
    assert segment.parameters.nprobe == int(segment.factory.removeprefix("IVF").removesuffix(",Flat"))  # all of them
    (segment,) = Index.build(store, tmp_path / "flat").bundle.segments
    assert (segment.kind, segment.recall.recall) == ("flat", 1.0)


@pytest.fixture
def samples(monkeypatch):
    """Samples that leave something to extrapolate."""
    for name, value in (("SMALL", 1000), ("_SAMPLE", 4000), ("_SMALLER", 2000)):
        monkeypatch.setattr(builder, name, value)


@pytest.mark.usefixtures("samples")
def test_auto_measures_and_says_what_it_saw(store, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    index = Index.build(store, tmp_path / "index", kind="auto")
    (segment,) = index.bundle.segments
    assert [trial.kind for trial in segment.trials] == ["flat", "hnsw", "ivf", "ivf_pq"]
    fitting = [trial for trial in segment.trials if trial.fits]
    assert segment.kind == max(fitting, key=lambda trial: trial.expected_queries_per_second).kind
    assert all(trial.recall >= 0.92 for trial in fitting)
    assert all(trial.sample_rows == 4000 for trial in segment.trials)
    assert "measuring HNSW32 over 4,000 rows" in caplog.text
    # the expected memory is the memory
    trial = next(trial for trial in segment.trials if trial.kind == segment.kind)
    assert trial.expected_bytes == pytest.approx(segment.bytes_resident, rel=0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("samples")
def test_auto_keeps_to_the_memory(store, tmp_path):
    flat = len(store) * 16 * 4
    index = Index.build(store, tmp_path / "index", max_memory=flat // 2)
    assert index.bundle.bytes_resident <= flat // 2
    assert index.bundle.segments[0].kind == "ivf_pq"
    with pytest.raises(IndexBundleError, match=r"no kind fits into 0.0 MB: ivf_pq, the smallest, takes about 0.\d MB"):
        Index.build(store, tmp_path / "x", max_memory=10_000)
    with pytest.raises(IndexBundleError, match=r"takes \d.\d MB of memory, more than"):
        Index.build(store, tmp_path / "x", kind="hnsw", max_memory=flat)
    full = Index.build(store, tmp_path / "full", max_memory=index.bundle.bytes_resident * 3 // 2)
    with pytest.raises(IndexBundleError, match="no kind fits|of memory, more than"):
        full.add(store, again=True)  # what the first segment takes counts
    assert Index.open(full.path).ids().tolist() == index.ids().tolist()
    assert not (tmp_path / "x").exists()
    assert len(index) == len(store)


def test_a_gpu_that_is_not_there(store, tmp_path):
    with pytest.raises(
        IndexBundleError, match=r"no GPU that FAISS can use; .* pip install .*\[gpu\]'; or leave out --gpu"
    ):
        Index.build(store, tmp_path / "index", kind="ivf", gpu=True)


def test_a_gpu_finds_the_centres(store, tmp_path, monkeypatch):
    """With a GPU that is a CPU: it is asked to, and let go of. A real one has not been seen."""
    asked = []

    def to_gpu(index):
        asked.append(index)
        return index

    monkeypatch.setattr(backend._FAISS, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(backend._FAISS, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(backend._FAISS, "index_cpu_to_all_gpus", to_gpu, raising=False)
    index = Index.build(store, tmp_path / "index", kind="ivf_pq", gpu=True)
    assert len(asked) == 1
    assert asked[0].ntotal == int(index.bundle.segments[0].factory.split(",")[0].removeprefix("IVF"))
    assert index.bundle.segments[0].recall.recall > 0.9
    with pytest.raises(IndexBundleError, match="--gpu trains inverted lists, and this kind has none"):
        Index.build(store, tmp_path / "hnsw", kind="hnsw", gpu=True)


def test_verify_sees_lost_recall(store, tmp_path, monkeypatch):
    """A search that finds less than was measured, though every byte is right."""
    index = Index.build(store, tmp_path / "index", kind="ivf", target_recall=0.99)
    segment = index._state.segments[0]
    easy = SearchParameters(nprobe=1, ef_search=1, k_factor=1)
    monkeypatch.setattr(segment, "entry", replace(segment.entry, parameters=easy))
    (problem,) = index.verify()
    assert "of the nearest rows; 0.9" in problem


def test_few_rows_are_flat_unless_another_kind_is_asked_for(store, tmp_path, monkeypatch):
    """Auto took minutes over 24,324 rows, and lost the best hit."""
    index = Index.build(store, tmp_path / "index")
    (segment,) = index.bundle.segments
    assert (index.bundle.kind, segment.kind, segment.factory, segment.trials) == (None, "flat", "Flat", ())
    assert segment.recall.recall == 1
    assert segment.why == "fewer than 200,000 rows are looked at one by one; --kind auto measures other kinds"
    index.add(store, again=True)
    index.compact()  # twice as many rows are still few
    assert [segment.kind for segment in index.bundle.segments] == ["flat"]
    monkeypatch.setattr(builder, "FLAT_BELOW", len(store))
    vectors = index._state.segments[0].vectors
    assert (
        len(builder.choose(Plan(None, "cosine", 0.9), vectors)[2]) == 4
    )  # from so many rows on, all kinds are measured
    assert builder.choose(Plan("ivf", "cosine", 0.9), vectors) == ("ivf", "asked for", ())


def test_flat_that_does_not_fit_into_memory_is_measured_against_others(store, tmp_path, samples):
    index = Index.build(store, tmp_path / "index", max_memory=len(store) * 16 * 2)
    (segment,) = index.bundle.segments
    assert (segment.kind, len(segment.trials)) == ("ivf_pq", 4)
    few = make_store(tmp_path / "few", 4, documents=1)
    with pytest.raises(IndexBundleError, match="rows take 0.0 MB, and no kind takes less for so few rows"):
        Index.build(few, tmp_path / "x", max_memory=1000)
