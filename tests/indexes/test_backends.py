"""The contract of `Backend`, for every backend, every kind of it, and some factory strings of FAISS."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from oracle import all_scores
from stores import make_store

from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes import Index, SearchParameters
from nuner_embed.indexes.base import BACKENDS, DEFAULT, KINDS, backend_of
from nuner_embed.indexes.exact import nearest
from nuner_embed.indexes.faiss import backend as faiss_backend
from nuner_embed.indexes.recall import recall_of, tune
from nuner_embed.indexes.vectors import Order, Vectors, prepared

ROWS, EARLY, DIM = 1200, 1100, 16
THOROUGH = SearchParameters(nprobe=10_000, ef_search=10_000, k_factor=10_000)
FACTORIES = ["IVF16,SQ8", "PCA8,IVF16,Flat", "PQ4x4", "RQ2x4fs"]  # also what cannot filter, or takes no parameters
METRICS = ["cosine", "dot", "l2"]
CASES = [(kind, metric) for kind in KINDS for metric in METRICS] + [(factory, "cosine") for factory in FACTORIES]
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def built(request):
    """A backend over all rows, the last of which were added last, and the vectors of queries."""
    kind, metric = request.param
    drawn = np.random.default_rng(0).standard_normal((ROWS + 60, DIM)).astype(np.float32)
    drawn[7] = drawn[3]  # rows that are alike are both found
    vectors = Vectors(prepared(drawn[:ROWS], metric).astype(np.float16), metric)
    class_ = backend_of(kind).load()
    spec = class_.spec_of(kind, ROWS, DIM)
    class_.require_buildable(spec, DIM, metric, gpu=False)
    backend = class_.new(spec, vectors)
    assert backend.size == 0
    backend.train(EARLY)
    backend.add(vectors.take(np.arange(EARLY)))
    assert backend.size == EARLY
    truth = nearest(vectors, drawn[-5:], 10, end=EARLY)[0]
    np.testing.assert_allclose(backend.search(drawn[-5:], 10, THOROUGH)[0], truth, atol=TOLERANCE)
    backend.add(vectors.take(np.arange(EARLY, ROWS)))
    assert (backend.size, backend.spec, backend.vectors) == (ROWS, spec, vectors)
    return backend, prepared(drawn[ROWS:], metric)


@pytest.fixture(params=[20_000, 0], ids=["scanned", "in FAISS"])
def scan_rows(request, monkeypatch):
    monkeypatch.setattr(faiss_backend, "SCAN_ROWS", request.param)


def check(backend, queries, k, keep=None):
    """What is found are the best rows, each once, with their own exact scores."""
    vectors, queries = backend.vectors, queries[:6]
    scores, places = backend.search(queries, k, THOROUGH, keep)
    expected = nearest(vectors, queries, k, keep)[0]
    assert (scores.dtype, places.dtype) == (np.float32, np.int64)
    assert scores.shape == places.shape == expected.shape
    np.testing.assert_allclose(scores, expected, atol=TOLERANCE)
    own = np.take_along_axis(all_scores(vectors.matrix, queries, vectors.metric), places, axis=1)
    np.testing.assert_allclose(scores, own, atol=TOLERANCE if vectors.metric != "cosine" else 5e-4)
    assert all(len(set(line)) == len(line) for line in places.tolist())
    if keep is not None:
        assert keep[places].all()


def test_a_thorough_search_is_exact(built):
    for k in (1, 10, ROWS, ROWS + 1, 10**6):
        check(*built, k)


@pytest.mark.parametrize("rows", [30, 53, 98])  # of which 32-bit floats give fewer than `rows` for rows / k * k
def test_where_all_rows_but_one_are_asked_for_every_row_is_a_candidate(rows):
    drawn = np.random.default_rng(0).standard_normal((rows + 50, DIM)).astype(np.float32)
    vectors = Vectors(prepared(drawn[:rows], "cosine"), "cosine")
    backend = DEFAULT.load().new("PQ2x2", vectors)
    backend.train(rows)
    backend.add(vectors.take(np.arange(rows)))
    queries = prepared(drawn[rows:], "cosine")
    expected = nearest(vectors, queries, rows - 1)[0]
    np.testing.assert_allclose(backend.search(queries, rows - 1, THOROUGH)[0], expected, atol=TOLERANCE)


@pytest.mark.usefixtures("scan_rows")
def test_only_what_is_kept_is_found(built):
    numbers = np.arange(ROWS)
    for keep in (numbers % 2 == 0, numbers % 50 == 7, numbers == ROWS - 1, numbers >= 0, numbers < 0):
        for k in (10, 5000):
            check(*built, k, keep)


def test_a_single_query_finds_what_a_batch_finds(built):
    backend, queries = built
    scores, places = backend.search(queries, 5, THOROUGH)
    for number in (0, len(queries) - 1):
        alone, _ = backend.search(queries[number : number + 1], 5, THOROUGH)
        np.testing.assert_allclose(alone[0], scores[number], atol=TOLERANCE)
    assert backend.search(queries[:0], 5, THOROUGH)[0].shape == (0, 5)


def test_every_setting_finds_k_rows(built):
    backend, queries = built
    families = list(backend.settings())
    assert families
    assert all(families)
    truth = nearest(backend.vectors, queries, 10)[0][:, -1]
    recalls = []
    for parameters in (families[0][0], families[-1][-1]):
        scores, places = backend.search(queries, 10, parameters)
        assert places.min() >= 0
        assert (np.diff(scores, axis=1) <= 0).all()
        recalls.append(recall_of(scores, truth).mean())
    assert recalls[0] <= recalls[1] > 0.9
    assert recalls[0] == 1 or not backend.is_exhaustive


@pytest.mark.parametrize("built", [(kind, "cosine") for kind in KINDS], indirect=True, ids=" ".join)
def test_recall_is_as_tuned(built):
    """Over the same rows, of which the last were held out."""
    whole, queries = built
    order = Order(ROWS, np.arange(EARLY, ROWS))
    backend = type(whole).new(whole.spec, whole.vectors)
    backend.train(EARLY)
    backend.add(whole.vectors.take(np.arange(EARLY)))
    parameters, recall = tune(backend, order, 0.9)
    truth = nearest(whole.vectors, queries, 10)[0][:, -1]
    found = recall_of(whole.search(queries, 10, parameters)[0], truth).mean()
    if backend.is_exhaustive:
        assert (found, recall.recall, recall.reached) == (1, 1, True)
    else:
        assert found > recall.low - 0.1
        assert recall.recall > 0.8 or not recall.reached


def test_threads_search_at_once(built):
    backend, queries = built
    keep = np.arange(ROWS) % 3 == 0
    alone = [backend.search(queries, 10, THOROUGH, mask)[0] for mask in (None, keep)]
    with type(backend).threads(1), ThreadPoolExecutor(4) as pool:
        together = [pool.submit(backend.search, queries, 10, THOROUGH, mask) for _ in range(4) for mask in (None, keep)]
        for number, done in enumerate(together):
            np.testing.assert_allclose(done.result()[0], alone[number % 2], atol=TOLERANCE)
    with type(backend).threads(0):
        np.testing.assert_allclose(backend.search(queries, 10, THOROUGH)[0], alone[0], atol=TOLERANCE)


def own_file(backend, folder):
    registered = next(entry for entry in BACKENDS.values() if entry.load() is type(backend))
    return folder / registered.file if registered.file else None


def test_what_is_opened_is_what_was_saved(built, tmp_path):
    backend, queries = built
    path = own_file(backend, tmp_path)
    bytes_before = backend.bytes_resident
    backend.save(path)
    assert list(tmp_path.iterdir()) == ([path] if path else [])
    assert backend.bytes_resident == bytes_before == (path.stat().st_size if path else 0)
    opened = type(backend).open(path, backend.spec, backend.vectors)
    assert (opened.size, opened.spec, opened.is_exhaustive) == (ROWS, backend.spec, backend.is_exhaustive)
    assert opened.bytes_resident == bytes_before
    assert list(opened.settings()) == list(backend.settings())
    easy = next(backend.settings())[0]
    for keep in (None, np.arange(ROWS) % 2 == 1):
        found = [each.search(queries, 10, easy, keep) for each in (opened, backend)]
        np.testing.assert_array_equal(found[0], found[1])


def test_a_damaged_file_is_one_line(built, tmp_path):
    backend, _ = built
    path = own_file(backend, tmp_path)
    backend.save(path)
    attempts = [(None, "another thing")]
    if path is not None:
        data = path.read_bytes()
        attempts += [(damaged, backend.spec) for damaged in (data[:-1], data[:20], b"", b"x" * 900)]
    for damaged, spec in attempts:
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(IndexBundleError, match="build (it|the index) again") as caught:
            type(backend).open(path, spec, backend.vectors)
        assert "\n" not in str(caught.value)


def test_what_cannot_be_built_is_refused_first(built):
    backend, _ = built
    with pytest.raises(IndexBundleError, match="--gpu") as caught:
        type(backend).require_buildable(backend.spec, DIM, backend.vectors.metric, gpu=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="metric must be cosine, dot, l2, not 'hamming'"):
        type(backend).require_buildable(backend.spec, DIM, "hamming", gpu=False)


def test_the_registry():
    assert len(set(KINDS)) == len(KINDS)
    for entry in BACKENDS.values():
        assert all(backend_of(kind) is entry for kind in entry.kinds)
        assert entry.exhaustive_kind in entry.kinds
        assert entry.help
    assert backend_of(None) is backend_of("auto") is backend_of("IVF8,SQ4") is DEFAULT
    assert not {"auto"} & set(KINDS)


IMPORTS = """
import sys
import nuner_embed.indexes.base
assert not {"numpy", "faiss", "pyarrow"} & set(sys.modules), "the choices of --kind"
import numpy as np
from nuner_embed.indexes import Index, find
for path in sys.argv[1:]:
    index = Index.open(path)
    assert index.search(np.ones(16), 3, filter="start >= 0").ids.shape == (1, 3)
    assert find(index, np.ones(16), 3, unique="surface").num_rows == 3
    assert index.verify() == []
    heavy = ("torch", "transformers", "tokenizers", "onnxruntime", "nuner_embed.encoders.text", "nuner_embed.heads")
    print([name for name in heavy if name in sys.modules], "faiss" in sys.modules)
"""


def test_a_search_by_vectors_imports_no_encoder(tmp_path):
    """And an index that NumPy searches needs no FAISS."""
    store = make_store(tmp_path / "store", 1, documents=1)
    for kind in ("numpy", "flat"):
        Index.build(store, tmp_path / kind, kind=kind)
    command = [sys.executable, "-c", IMPORTS, tmp_path / "numpy", tmp_path / "flat"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[] False\n[] True\n", "")
