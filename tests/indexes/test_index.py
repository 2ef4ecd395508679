"""Every kind x metric x filter against exact search, also after add, remove and compact."""

import json
import multiprocessing
import random
import signal
import time

import faiss
import numpy as np
import pytest
from oracle import all_scores, best_scores
from stores import make_store

from nuner_embed.artifacts import replacing
from nuner_embed.errors import IndexBundleError, IndexLocked, StoreError, StoreMismatch
from nuner_embed.files import hash_of
from nuner_embed.indexes.base import KINDS, SearchParameters
from nuner_embed.indexes.directory import KIND
from nuner_embed.indexes.faiss import backend
from nuner_embed.indexes.index import Index
from nuner_embed.store.reader import Store

CASES = [(kind, metric) for kind in (*KINDS, "IVF16,SQ8") for metric in ("cosine", "dot", "l2")]
TOLERANCE = 4e-4  # the index keeps unit vectors in float16
HARD = SearchParameters(nprobe=10_000, ef_search=2_000, k_factor=10_000)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return make_store(folder / "a", 1, documents=10), make_store(folder / "b", 2, documents=5)


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """Enough rows for two parts, and for rows that are held out."""
    return make_store(tmp_path_factory.mktemp("stores") / "c", 2, documents=16)


@pytest.fixture(scope="module", params=CASES, ids=str)
def built(request, stores, tmp_path_factory):
    kind, metric = request.param
    return Index.build(stores[0], tmp_path_factory.mktemp("index") / "i", kind=kind, metric=metric), stores[0]


@pytest.fixture(params=[20_000, 0], ids=["scanned", "in FAISS"])
def scan_rows(request, monkeypatch):
    """Filters that leave little are answered without FAISS; without that, FAISS's selectors are what is tested."""
    monkeypatch.setattr(backend, "SCAN_ROWS", request.param)


def check(index, vectors, ids, metric, k=10, among=None, removed=(), filter=None, matching=None):
    queries = np.random.default_rng(3).standard_normal((7, vectors.shape[1])).astype(np.float32)
    allowed = ~np.isin(ids, removed)
    if among is not None:
        allowed &= np.isin(ids, among)
    if matching is not None:
        allowed &= matching
    hits = index.search(queries, k, among=among, filter=filter, parameters=HARD)
    scores, expected = all_scores(vectors, queries, metric), best_scores(vectors, queries, metric, k, allowed)
    assert hits.scores.shape == hits.ids.shape == expected.shape
    np.testing.assert_allclose(hits.scores, expected, atol=TOLERANCE)
    place = np.searchsorted(ids, hits.ids)
    np.testing.assert_array_equal(ids[place], hits.ids)
    np.testing.assert_allclose(np.take_along_axis(scores, place, axis=1), hits.scores, atol=TOLERANCE)  # ids are theirs
    assert all(len(set(row)) == len(row) for row in hits.ids.tolist())


def all_vectors(store):
    return store.vectors(np.arange(len(store)))


@pytest.mark.usefixtures("scan_rows")
def test_it_finds_what_a_loop_finds(built):
    index, store = built
    metric, vectors, ids = index.bundle.metric, all_vectors(store), np.arange(len(store))
    check(index, vectors, ids, metric)
    check(index, vectors, ids, metric, k=1)
    check(index, vectors, ids, metric, among=ids[::7])
    check(index, vectors, ids, metric, k=50, among=ids[[5, 9, 1000]])  # fewer than k: all of them
    check(index, vectors, ids, metric, among=ids[:0])
    table = store.table()
    matching = (table["start"].to_numpy() < 90) & np.array([text > "m" for text in table["text"].to_pylist()])
    assert 0 < matching.sum() < len(ids)
    check(index, vectors, ids, metric, filter="start < 90 AND text > 'm'", matching=matching)
    check(index, vectors, ids, metric, filter="start < 90 AND text > 'm'", matching=matching, among=ids[:500])
    check(index, vectors, ids, metric, filter="false", matching=ids < 0)


@pytest.mark.usefixtures("scan_rows")
def test_it_lives(built, stores, tmp_path):
    """Also after add, remove and compact."""
    kind, metric = built[0].bundle.kind, built[0].bundle.metric
    index = Index.build(stores[0], tmp_path / "index", kind=kind, metric=metric)
    index.add(stores[1])
    vectors = np.concatenate([all_vectors(store) for store in stores])
    ids = np.arange(len(vectors))
    check(index, vectors, ids, metric)
    gone = ids[::3]
    assert index.remove(gone) == len(gone)
    assert index.remove(gone[:5]) == 0
    assert len(index) == len(ids) - len(gone)
    check(index, vectors, ids, metric, removed=gone)
    check(Index.open(index.path), vectors, ids, metric, among=ids[:400], removed=gone)
    assert index.compact()
    assert not index.compact()
    assert len(index.bundle.segments) == 1
    assert not list(index.path.glob("*tombstones*"))
    check(index, vectors, ids, metric, removed=gone)
    np.testing.assert_array_equal(index.ids(), np.setdiff1d(ids, gone))
    assert index.verify() == []
    with pytest.raises(IndexBundleError, match=r"b was added before; nothing was added. --again"):
        index.add(stores[1])
    index.add(stores[1], again=True)  # ids go on where they were
    assert index.ids()[-1] == len(ids) + len(stores[1]) - 1


def test_rows_say_what_was_found(stores, tmp_path):
    index = Index.build(stores, tmp_path / "index", kind="flat")
    table = stores[1].table()
    hits = index.search(stores[1].vectors([17]), k=3)
    first = index.rows(hits.ids[0]).to_pylist()[0]
    assert first["text"] == table["text"][17].as_py()
    assert index.rows([5, 3, 5000 % len(index)])["id"].to_pylist() == [5, 3, 5000 % len(index)]
    with pytest.raises(KeyError, match="no id 99999"):
        index.rows([3, 99999])
    index.remove([3])
    with pytest.raises(KeyError, match="id 3 was removed"):
        index.rows([3])


def test_to_the_last_row(stores, tmp_path):
    index = Index.build(stores[0], tmp_path / "index", kind="hnsw")
    assert index.search(np.ones(16), k=10**6).ids.shape == (1, len(index))
    index.remove(index.ids())
    assert len(index) == 0
    assert index.search(np.ones(16)).ids.shape == (1, 0)
    index.compact()
    assert index.search(np.ones((2, 16))).scores.shape == (2, 0)
    assert index.rows([]).num_rows == 0
    index.add(stores[0])
    assert index.search(np.ones(16)).ids.shape == (1, 10)


def test_an_easy_search_still_returns_k(stores, tmp_path):
    """Lists that hold too little are not the user's problem: FAISS's -1 never leaves."""
    easy = SearchParameters(nprobe=1, ef_search=1, k_factor=1)
    index = Index.build(stores[0], tmp_path / "index", kind="ivf")
    hits = index.search(np.random.default_rng(0).standard_normal((9, 16)), k=500, parameters=easy)
    assert hits.ids.shape == (9, 500)
    assert hits.ids.min() >= 0


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (np.ones((2, 7)), 10, r"\(q, 16\), not \(2, 7\)"),
        (np.full(16, np.nan), 10, "finite"),
        (np.ones(16), 0, "at least 1"),
        (np.ones((2, 3, 16)), 1, "not \\(2, 3, 16\\)"),
    ],
)
def test_bad_queries(stores, tmp_path, queries, k, message):
    index = Index.build(stores[1], tmp_path / "index")
    with pytest.raises(ValueError, match=message):
        index.search(queries, k)


def test_what_does_not_fit(stores, tmp_path):
    index = Index.build(stores[0], tmp_path / "index", kind="hnsw")
    other = make_store(tmp_path / "other", 3, documents=3, max_length=24)
    with pytest.raises(StoreMismatch, match="another encoder or recipe"):
        index.add(other)
    with pytest.raises(StoreMismatch, match="another encoder or recipe"):
        Index.build([stores[0], other], tmp_path / "both")
    assert not (tmp_path / "both").exists()
    with pytest.raises(IndexBundleError, match="holds an index; name another directory, or replace it with --force"):
        Index.build(stores[0], tmp_path / "index")
    with pytest.raises(ValueError, match="neither auto, flat, hnsw, ivf, ivf_pq, numpy nor a FAISS factory string"):
        Index.build(stores[0], tmp_path / "x", kind="nonsense")
    with pytest.raises(ValueError, match="metric must be cosine, dot, l2"):
        Index.build(stores[0], tmp_path / "x", metric="hamming")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "other", "other.txt"]


@pytest.mark.parametrize(
    "name", ["index.faiss", "ids.npy", "late.npy", "vectors.npy", "rows-00000.parquet", "documents-00001.parquet"]
)
def test_a_missing_or_damaged_piece_is_an_error(larger, tmp_path, name):
    index = Index.build(larger, tmp_path / "index", kind="flat")
    path = index.path / "segments" / "00000" / name
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(IndexBundleError, match=f"{name} is missing"):
        Index.open(index.path)
    path.write_bytes(data[:-1])
    with pytest.raises(IndexBundleError, match=f"{name} is missing or does not have the length"):
        Index.open(index.path)
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    path.write_bytes(changed)
    if name in ("ids.npy", "late.npy"):  # they rise no more
        with pytest.raises(IndexBundleError, match="npy holds numbers that do not increase"):
            Index.open(index.path)
    else:
        assert Index.open(index.path).verify() == [f"00000/{name} is not what was written (sha256 differs)"]


def test_a_header_that_claims_too_much(stores, tmp_path):
    """A hostile size is refused before memory is asked for."""
    index = Index.build(stores[0], tmp_path / "index", kind="hnsw")
    path = index.path / "segments" / "00000" / "index.faiss"
    data = bytearray(path.read_bytes())
    for place in range(4, 60, 4):
        hostile = data.copy()
        hostile[place : place + 8] = (1 << 44).to_bytes(8, "little")
        path.write_bytes(hostile)
        try:
            Index.open(index.path)
        except IndexBundleError:
            continue  # refused, or read as something harmless


def test_vectors_that_are_no_numbers(tmp_path):
    store = make_store(tmp_path / "s", 1, documents=1)
    path = tmp_path / "s" / "shard-00000.npy"
    vectors = np.load(path)
    vectors[5, 3] = np.nan
    np.save(path, vectors)
    with pytest.raises(StoreError, match=r"shard-00000.npy holds a number that is not finite; encode the corpus again"):
        Index.build(store, tmp_path / "index")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("kind", ["flat", "ivf_pq", "numpy"])
def test_a_store_of_float32(tmp_path, kind):
    """FAISS compares with float32 where it lies, too."""
    store = make_store(tmp_path / "s", 1, dtype="float32")
    index = Index.build(store, tmp_path / "index", kind=kind)
    found = index.search(all_vectors(store)[:50], 1, parameters=HARD)
    np.testing.assert_allclose(found.scores[:, 0], 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(index.vectors(index.ids()), axis=1), 1, atol=1e-6)
    assert index.vectors([3]).dtype == np.float32
    with pytest.raises(StoreMismatch, match="holds float16, the index float32; encode it with that --dtype"):
        index.add(make_store(tmp_path / "t", 2, documents=2))


def test_what_came_to_nothing_takes_no_room(stores, tmp_path, monkeypatch):
    index = Index.build(stores[1], tmp_path / "index", kind="flat")
    before = {path: path.stat().st_size for path in index.path.rglob("*") if path.name != ".lock"}

    def fail(*arguments):
        raise OSError("the disk is full")

    monkeypatch.setattr("nuner_embed.indexes.builder.tune", fail)
    for change in (lambda: index.add(stores[0]), lambda: index.remove([3]) and index.compact()):
        with pytest.raises(OSError, match="the disk is full"):
            change()
    index.remove([])
    after = {path: path.stat().st_size for path in index.path.rglob("*") if path.name != ".lock"}
    assert {path.name for path in after} - {path.name for path in before} == {"tombstones-000001.npy"}
    assert len(Index.open(index.path)) == len(stores[1]) - 1


def test_closed(stores, tmp_path):
    with Index.build(stores[1], tmp_path / "index") as index:
        assert len(index) > 0
    with pytest.raises(ValueError, match="is closed"):
        index.search(np.ones(16))
    assert "closed" in repr(index)


def test_built_by_two_at_once(stores, tmp_path):
    with replacing(tmp_path / "index", KIND), pytest.raises(IndexLocked, match="another process is writing"):
        Index.build(stores[1], tmp_path / "index")
    Index.build(stores[1], tmp_path / "index")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    again = Index.build(stores[0], tmp_path / "index", force=True, kind="flat")
    assert len(again) == len(stores[0])
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_reading_an_index_leaves_faiss_as_it_was(stores, tmp_path):
    """FAISS has one limit on what it reads for the whole process."""
    before = faiss.get_deserialization_vector_byte_limit()
    Index.build(stores[1], tmp_path / "index")
    assert faiss.get_deserialization_vector_byte_limit() == before


def test_manifests_that_are_none(larger, tmp_path):
    with pytest.raises(IndexBundleError, match="holds no index; nuner-embed index build"):
        Index.open(tmp_path)
    index = Index.build(larger, tmp_path / "index")
    path = index.path / "manifest.json"
    good = json.loads(path.read_text())
    path.write_text(json.dumps({**good, "target_recall": 0.1}))
    with pytest.raises(IndexBundleError, match=r"manifest.json is not what was written \(sha256 differs\)"):
        Index.open(index.path)
    segment = good["segments"][0]
    for change, said in (
        ({"schema_version": 9}, "has schema version 9, this program reads 1"),
        ({"segments": 5}, "segments: expected array, got int"),
        ({"segments": [{"name": "x"}]}, r"segments\[0\].name"),
        ({"segments": [{**segment, "name": "../x"}]}, r"segments\[0\].name"),
        ({"segments": [{**segment, "name": "00001"}]}, "their names do not increase, or reach next_segment"),
        ({"segments": [segment, segment]}, "their names do not increase"),
        (
            {"segments": [{**segment, "parts": 10**15}]},
            "does not consist of the files that 1000000000000000 parts make",
        ),
        ({"segments": [{**segment, "files": {}}]}, "does not consist of the files that 2 parts make"),
        ({"segments": [{**segment, "rows": 10**9}]}, "1000000000 rows with 0 removed ones and ids below"),
        ({"segments": [{**segment, "how": {"probes": 0}}]}, r"segments\[0\].how.probes"),
        ({"metric": "hamming"}, "metric: invalid enum value 'hamming'"),
        ({"granularity": "byte"}, "granularity: invalid enum value 'byte'"),
        ({"dtype": "int8"}, "dtype: invalid enum value"),
        ({"dim": 0}, "dim: expected int >= 1"),
        ({"dim": 16.5}, "dim: expected int, got float"),
        ({"target_recall": float("nan")}, "target_recall"),
        ({"recipe": {**good["recipe"], "pooling": "max"}}, "pooling: invalid enum value 'max'"),
        ({"recipe": {"layers": [-1]}}, "recipe: a value is missing"),
        ({"recipe": {**good["recipe"], "layers": 5}}, "layers: expected array, got int"),
        ({"semantic_hash": "0"}, "semantic_hash"),
        ({"next_id": -1}, "next_id"),
        ({"generation": "1"}, "generation: expected int, got str"),
        ({"removed": 3}, "removed contradict each other"),
        ({"tombstones": "../../x.npy", "tombstones_sha256": "0" * 64, "removed": 3}, "tombstones: "),
        ({"model": "\ud800"}, "surrogates"),
    ):
        values = {**{key: value for key, value in good.items() if key != "sha256"}, **change}
        path.write_text(json.dumps({**values, "sha256": "x" if said == "surrogates" else hash_of(values)}))
        with pytest.raises(IndexBundleError, match=f"manifest.json.*{said}.*; build the index again") as caught:
            Index.open(index.path)
        assert "\n" not in str(caught.value)
    path.write_text("[]")
    with pytest.raises(IndexBundleError, match="manifest.json is not the manifest of an index; build the index again"):
        Index.open(index.path)


def _hold(path, ready, done):
    index = Index.open(path)
    with index._change():
        ready.set()
        done.wait()


def test_one_writer_at_a_time(stores, tmp_path):
    index = Index.build(stores[1], tmp_path / "index")
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(index.path, ready, done))
    process.start()
    try:
        assert ready.wait(60)
        with pytest.raises(IndexLocked, match="another process is changing"):
            index.remove([1])
        assert index.search(np.ones(16)).ids.shape == (1, 10)
    finally:
        done.set()
        process.join()


def _write_for_ever(path, store, seed):
    chance = random.Random(seed)
    store = Store.open(store)
    while True:
        index = Index.open(path)
        what = chance.choice(["add", "remove", "compact"])
        if what == "add":
            index.add(store, again=True)
        elif what == "remove":
            index.remove(index.ids()[3:-3:2])
        else:
            index.compact()


@pytest.mark.parametrize(("seed", "kills"), [(0, 1), pytest.param(1, 10, marks=pytest.mark.slow)])
def test_writers_killed_at_random_moments(stores, tmp_path, seed, kills):
    """The index opens, searches and verifies whenever its writer dies, and searches go on meanwhile."""
    index = Index.build(stores[1], tmp_path / "index", kind="ivf")
    reader = Index.open(index.path)
    query = stores[1].vectors([0])
    context = multiprocessing.get_context("spawn")
    for round_ in range(kills):
        process = context.Process(target=_write_for_ever, args=(index.path, stores[1].path, seed * 10 + round_))
        process.start()
        try:
            until = time.monotonic() + 1.5 + random.Random(seed + round_).random()
            while time.monotonic() < until:
                assert reader.search(query, k=1).scores[0, 0] == pytest.approx(1, abs=1e-3)
                reader.refresh()
        finally:
            process.kill()
            process.join()
        assert process.exitcode == -signal.SIGKILL
        found = Index.open(index.path)
        assert found.verify() == []
        assert found.search(query, k=1).scores[0, 0] == pytest.approx(1, abs=1e-3)
        assert len(found.ids()) == len(found)
