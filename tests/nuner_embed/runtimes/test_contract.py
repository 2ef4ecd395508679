"""What every runtime promises, whichever computes: ragged windows in, pooled rows out."""

import json
import sys
import threading
import time
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from fakes import HashRuntime, tiny_model
from hypothesis import given
from hypothesis import strategies as st
from windows import batch_of, some_rows

from nuner_embed import export_onnx, load_encoder
from nuner_embed.doctor import diagnose
from nuner_embed.errors import OutOfMemory, RuntimeUnavailable
from nuner_embed.models.resolver import locate
from nuner_embed.runtimes.base import RowFormat, Runtime, RuntimeOptions, WindowBatch, memory_errors
from nuner_embed.runtimes.padding import cut_batches, in_order, pad, pool
from nuner_embed.runtimes.registry import CHOICES, RUNTIMES, Entry, load_runtime, require_fitting
from nuner_embed.runtimes.selection import choose, measure


class OneLength(HashRuntime):
    """A runtime whose numbers would change with padding: each is told how long the matrix is."""

    padding = False

    def states(self, input_ids, attention_mask):
        return super().states(input_ids, attention_mask) + np.float32(input_ids.shape[1])


FAKES = {"one stream": HashRuntime, "three streams": lambda: HashRuntime(streams=3), "one length": OneLength}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny_model("bert", folder / "weights")
    export_onnx(str(folder / "weights"), folder / "graph")
    return folder


# Those that make rows on a GPU do so here on the CPU, by the same code.
ON_DEVICE = ("onnx", "torch")


@pytest.fixture(scope="module", params=[*FAKES, *RUNTIMES, *(f"{name}, rows on the device" for name in ON_DEVICE)])
def runtime(request, folder):
    if request.param in FAKES:
        return FAKES[request.param]()
    name, _, on_device = request.param.partition(", ")
    entry = RUNTIMES[name]
    if not entry.installed:
        pytest.skip(f"{name} is not installed")
    model = locate(str(folder / entry.runs))
    loaded = load_runtime(model, model.recipe, name, RuntimeOptions(device="cpu", precision="f32", threads=1))
    if on_device:
        loaded.make_rows_on_device()
    return loaded


def meddle(runtime, monkeypatch, before):
    """Has `before` called with the number of tokens, padding included, before each pass through the network."""
    owner, name = next(
        (owner, name)
        for owner, name in (
            (getattr(runtime, "_packed_network", None), "states"),
            (runtime if getattr(runtime, "_pooling", None) else None, "_bound"),
            (runtime, "states"),
        )
        if owner is not None
    )
    run = getattr(owner, name)

    def meddled(*given):
        before(len(given[0].ids) if isinstance(given[0], WindowBatch) else given[0].size)
        return run(*given)

    monkeypatch.setattr(owner, name, meddled)


LENGTHS = [3, 17, 3, 1, 30, 9, 17, 2, 30, 5, 1, 12]
BATCH = batch_of(LENGTHS, some_rows(LENGTHS))


@pytest.fixture(scope="module")
def expected(runtime):
    """The mean of each row's tokens, of its window alone."""
    tokens = []
    for first, end in zip(BATCH.bounds[:-1], BATCH.bounds[1:], strict=True):
        rows = [(0, place, place + 1) for place in range(end - first)]
        tokens.append(runtime.rows(replace(batch_of([end - first], rows), ids=BATCH.ids[first:end]), 1))
    rows = zip(BATCH.window, BATCH.first, BATCH.last, strict=True)
    return np.array([tokens[window][first:last].mean(axis=0) for window, first, last in rows])


def test_it_is_a_runtime(runtime):
    assert isinstance(runtime, Runtime)
    assert runtime.device == "cpu"
    assert runtime.precision == "f32" == runtime.numerics["precision"]
    assert json.loads(json.dumps(runtime.numerics)) == runtime.numerics
    assert runtime.batch_tokens > 0
    assert "\n" not in runtime.description


@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_rows_are_means_whatever_the_budget(runtime, expected, budget):
    vectors = runtime.rows(BATCH, budget)
    assert (vectors.shape, vectors.dtype) == ((len(BATCH.window), runtime.dim), np.float32)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_rows_agree_with_one_padded_matrix(runtime):
    """The plain way: all windows padded to the longest, their states pooled by NumPy."""
    if not runtime.padding:
        pytest.skip("a network that feels its padding")
    windows = [BATCH.ids[a:b] for a, b in zip(BATCH.bounds[:-1], BATCH.bounds[1:], strict=True)]
    pooled = pool(runtime.states(*pad(windows, runtime.pad_id)), BATCH.window, BATCH.first, BATCH.last)
    np.testing.assert_allclose(runtime.rows(BATCH, 10_000), pooled, atol=1e-5)


def test_the_order_of_windows_and_rows_changes_nothing(runtime):
    chance = np.random.default_rng(3)
    order, rows = chance.permutation(len(LENGTHS)), chance.permutation(len(BATCH.window))
    windows = [BATCH.ids[BATCH.bounds[w] : BATCH.bounds[w + 1]] for w in order]
    shuffled = WindowBatch(
        np.concatenate(windows),
        np.cumsum([0, *map(len, windows)]),
        np.argsort(order)[BATCH.window[rows]],
        BATCH.first[rows],
        BATCH.last[rows],
    )
    np.testing.assert_allclose(runtime.rows(shuffled, 64), runtime.rows(BATCH, 64)[rows], atol=1e-5)


def test_the_same_call_gives_the_same_bits(runtime):
    np.testing.assert_array_equal(runtime.rows(BATCH, 64), runtime.rows(BATCH, 64))


def test_without_rows_and_without_windows(runtime):
    assert runtime.rows(batch_of([4, 2], []), 64).shape == (0, runtime.dim)
    assert runtime.rows(batch_of([], []), 64).shape == (0, runtime.dim)


def test_every_pass_is_told(runtime):
    done = []
    runtime.rows(BATCH, 40, done.append)
    assert sum(one.tokens for one in done) == len(BATCH.ids)
    assert {one.batch_tokens for one in done} == {40}
    assert all(one.tokens + one.padding <= 40 for one in done)
    assert any(one.padding for one in done) == (runtime.padding and not runtime.packed)
    assert len(done) > 3


def test_where_memory_runs_out_the_budget_halves_and_the_rows_stay(runtime, monkeypatch):
    expected = runtime.rows(BATCH, 10_000)

    def scarce(tokens):
        if tokens > 60:
            raise OutOfMemory(f"{tokens} tokens")

    meddle(runtime, monkeypatch, scarce)
    done = []
    np.testing.assert_allclose(runtime.rows(BATCH, 10_000, done.append), expected, atol=1e-5)
    assert sum(one.tokens for one in done) == len(BATCH.ids)
    assert all(one.tokens + one.padding <= 60 for one in done)
    if runtime.padding:  # one that pads nothing may never have held more than fits
        assert done[-1].batch_tokens <= 60
    with pytest.raises(OutOfMemory, match=r"one window of 70 tokens does not fit into memory \(70 tokens\); use a sm"):
        runtime.rows(batch_of([2, 70], [(1, 0, 1)]), 10_000)


def test_what_fails_otherwise_is_raised_as_it_is(runtime, monkeypatch):
    def fail(tokens):
        raise ZeroDivisionError

    meddle(runtime, monkeypatch, fail)
    with pytest.raises(ZeroDivisionError):
        runtime.rows(BATCH, 64)


def test_a_window_that_fits_only_alone(runtime, monkeypatch):
    """Where several batches run at a time, another one may have taken the memory."""
    expected, alone = runtime.rows(BATCH, 1), []

    def scarce(tokens):
        if not alone:
            alone.append(True)
            raise OutOfMemory("for now")

    meddle(runtime, monkeypatch, scarce)
    if runtime.streams == 1:
        with pytest.raises(OutOfMemory, match="one window of 30 tokens does not fit into memory"):
            runtime.rows(BATCH, 1)
    else:
        done = []
        np.testing.assert_allclose(runtime.rows(BATCH, 1, done.append), expected, atol=1e-6)
        assert sum(one.tokens for one in done) == len(BATCH.ids)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_are_scaled_in_float32_and_cast(runtime, expected, dtype, normalize):
    form = RowFormat(dtype, normalize)
    found = runtime.rows(BATCH, 40, form=form)
    scaled = expected / np.linalg.norm(expected, axis=1, keepdims=True) if normalize else expected
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == "float32" else 1e-3
    np.testing.assert_allclose(found, scaled, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(found, runtime.rows(BATCH, 40, form=form))
    if "batches" not in runtime.numerics:  # rows that NumPy makes: batch by batch they have the bits of all at once
        whole = runtime.rows(BATCH, 40)
        if normalize:
            whole /= np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-12)
        np.testing.assert_array_equal(found, whole.astype(dtype))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 200))
def test_batches_hold_the_budget_and_miss_nothing(lengths, budget):
    falling = np.array(sorted(lengths, reverse=True))
    cuts = cut_batches(falling, 0, budget)
    assert [n for first, end in cuts for n in range(first, end)] == list(range(len(falling)))
    assert all((end - first) * falling[first] <= budget or end - first == 1 for first, end in cuts)


@pytest.mark.parametrize("streams", [1, 3])
def test_results_come_in_order(streams):
    threads = set()

    def call(number):
        def wait():
            threads.add(threading.current_thread())
            time.sleep(0.001 * (number % 3))
            return number

        return wait

    assert list(in_order(map(call, range(20)), streams)) == list(range(20))
    assert (threading.main_thread() in threads) == (streams == 1)


def test_on_a_device_no_matrix_of_states_reaches_the_host(folder, monkeypatch):
    for name in ON_DEVICE:
        model = locate(str(folder / RUNTIMES[name].runs))
        runtime = load_runtime(model, model.recipe, name, RuntimeOptions(device="cpu"))
        expected = runtime.rows(BATCH, 64)
        runtime.make_rows_on_device()
        monkeypatch.setattr(runtime, "states", None)
        np.testing.assert_allclose(runtime.rows(BATCH, 64), expected, atol=1e-6)

        def fail(tokens):
            raise torch.OutOfMemoryError("CUDA out of memory.\nmore lines")

        meddle(runtime, monkeypatch, fail)
        with pytest.raises(OutOfMemory, match=r"does not fit into memory \(CUDA out of memory\.\); use"):
            runtime.rows(BATCH, 64)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory"),
        (MemoryError("std::bad_alloc"), "std::bad_alloc"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
            "CUDA out of memory. Tried to",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "[enforce fail] Default",
        ),
        (RuntimeError("Failed to allocate memory for requested buffer of size 9"), "Failed to allocate memory"),
    ],
)
def test_whatever_tells_that_memory_ran_out_is_one_error_of_one_line(error, said):
    with pytest.raises(OutOfMemory) as caught, memory_errors():
        raise error
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error
    with pytest.raises(RuntimeError, match="a broken wheel"), memory_errors():
        raise RuntimeError("a broken wheel")


def test_entries_are_what_they_say():
    assert CHOICES == ("auto", "onnx", "openvino", "torch")
    for name, entry in RUNTIMES.items():
        if entry.installed:
            found = entry.load()
            assert found.name == name
            assert entry.runs == "weights" or callable(found.precisions)
            assert entry.runs == "weights" or "cuda" not in entry.devices or found.has_cuda() in (True, False)


def test_an_unknown_runtime(folder):
    with pytest.raises(ValueError, match="runtime must be auto, onnx, openvino, torch, not 'tpu'"):
        load_encoder(str(folder / "graph"), runtime="tpu")
    with pytest.raises(RuntimeUnavailable, match="an exported directory; the torch runtime needs the other kind: name"):
        require_fitting(locate(str(folder / "graph")), "torch")


def test_a_new_runtime_is_a_class_and_a_line(folder, monkeypatch, tmp_path):
    """It is chosen, measured, loaded and counted by the doctor without a change anywhere else."""
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path))
    onnx = RUNTIMES["onnx"].load()
    module = ModuleType("made_for_a_test")

    class Mine(onnx):
        name = "mine"

    module.Mine = Mine
    monkeypatch.setitem(sys.modules, "made_for_a_test", module)
    entry = Entry("made_for_a_test:Mine", "graph", {"made_for_a_test": "cpu"}, ("cpu",))
    module.__spec__ = sys.modules[__name__].__spec__  # by which it is taken to be installed
    for name, other in list(RUNTIMES.items()):  # the others stay in their places, as if they were not installed
        monkeypatch.setitem(RUNTIMES, name, replace(other, modules={"not_installed_here": "cpu"}))
    monkeypatch.setitem(RUNTIMES, "mine", entry)
    model = locate(str(folder / "graph"))
    assert [(row.runtime, row.passed) for row in measure(model, RuntimeOptions())] == [("mine", True)]
    assert choose(model, "auto", RuntimeOptions(), None).runtime == "mine"
    assert load_encoder(str(folder / "graph")).runtime.name == "mine"
    assert not any("no runtime" in problem for problem in diagnose().problems)
    with pytest.raises(RuntimeUnavailable, match="the mine runtime runs on the CPU, not on cuda; use --device cpu"):
        load_encoder(str(folder / "graph"), runtime="mine", device="cuda")
