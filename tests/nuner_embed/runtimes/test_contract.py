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
from hypothesis import given, settings
from hypothesis import strategies as st

from nuner_embed import export_onnx, load_encoder
from nuner_embed.doctor import diagnose
from nuner_embed.errors import OutOfMemory, RuntimeUnavailable
from nuner_embed.models.resolver import locate
from nuner_embed.runtimes.base import Runtime, RuntimeOptions, WindowBatch, memory_errors
from nuner_embed.runtimes.padding import cut_batches, in_order, pad, pool
from nuner_embed.runtimes.registry import CHOICES, RUNTIMES, Entry, load_runtime, require_fitting
from nuner_embed.runtimes.selection import choose, measure
from nuner_embed.runtimes.torch import pool_on_device


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


@pytest.fixture(scope="module", params=[*FAKES, *RUNTIMES])
def runtime(request, folder):
    if request.param in FAKES:
        return FAKES[request.param]()
    entry = RUNTIMES[request.param]
    if not entry.installed:
        pytest.skip(f"{request.param} is not installed")
    model = locate(str(folder / entry.runs))
    return load_runtime(model, model.recipe, request.param, RuntimeOptions(device="cpu", precision="f32", threads=1))


def batch_of(lengths, rows):
    """Windows of made-up tokens, and rows given as window, first token and one past the last."""
    ids = np.random.default_rng(len(lengths)).integers(5, 300, sum(lengths)).astype(np.int32)
    window, first, last = np.array(rows, np.int64).reshape(-1, 3).T
    return WindowBatch(ids, np.cumsum([0, *lengths]), window, first, last)


def some_rows(lengths, seed=0):
    """Rows of every length in no order, nested ones and equal ones among them."""
    chance, rows = np.random.default_rng(seed), []
    for window, length in enumerate(lengths):
        for _ in range(4):
            first, last = sorted(chance.choice(length + 1, 2, replace=False).tolist())
            rows.append((window, first, last))
        rows.append((window, 0, length))
    return [rows[i] for i in chance.permutation(len(rows))]


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
    assert any(one.padding for one in done) == runtime.padding
    assert len(done) > 3


def test_where_memory_runs_out_the_budget_halves_and_the_rows_stay(runtime, monkeypatch):
    expected, states = runtime.rows(BATCH, 10_000), runtime.states

    def scarce(input_ids, attention_mask):
        if input_ids.size > 60:
            raise OutOfMemory(f"{input_ids.size} tokens")
        return states(input_ids, attention_mask)

    monkeypatch.setattr(runtime, "states", scarce)
    done = []
    np.testing.assert_allclose(runtime.rows(BATCH, 10_000, done.append), expected, atol=1e-5)
    assert sum(one.tokens for one in done) == len(BATCH.ids)
    assert all(one.tokens + one.padding <= 60 for one in done)
    if runtime.padding:  # one that pads nothing may never have held more than fits
        assert done[-1].batch_tokens <= 60
    with pytest.raises(OutOfMemory, match=r"one window of 70 tokens does not fit into memory \(70 tokens\); use a sm"):
        runtime.rows(batch_of([2, 70], [(1, 0, 1)]), 10_000)


def test_what_fails_otherwise_is_raised_as_it_is(runtime, monkeypatch):
    def fail(input_ids, attention_mask):
        raise ZeroDivisionError

    monkeypatch.setattr(runtime, "states", fail)
    with pytest.raises(ZeroDivisionError):
        runtime.rows(BATCH, 64)


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


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 39), st.integers(1, 40)), max_size=12))
def test_pooling_where_the_states_are_gives_the_same_means(drawn):
    states = np.random.default_rng(0).normal(size=(3, 40, 4)).astype(np.float32)
    window, first, last = np.array([(w, a, max(a + 1, b)) for w, a, b in drawn], np.int64).reshape(-1, 3).T
    pooled = pool_on_device(torch.from_numpy(states), window, first, last)
    np.testing.assert_allclose(pooled, pool(states, window, first, last), rtol=1e-5, atol=1e-6)
    rough = torch.from_numpy(states).bfloat16()  # added up in float32, as on the host
    expected = pool(rough.float().numpy(), window, first, last)
    np.testing.assert_allclose(pool_on_device(rough, window, first, last), expected, rtol=1e-5, atol=1e-6)


def test_torch_pools_on_its_device(folder, monkeypatch):
    """A device that is not called "cpu" is taken for a GPU: no matrix of states may reach the host."""
    model = locate(str(folder / "weights"))
    runtime = load_runtime(model, model.recipe, "torch", RuntimeOptions(device="cpu"))
    expected = runtime.rows(BATCH, 64)
    monkeypatch.setattr(runtime, "device", torch.device("cpu"))
    monkeypatch.setattr(runtime, "states", None)
    np.testing.assert_allclose(runtime.rows(BATCH, 64), expected, atol=1e-6)

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore lines")

    monkeypatch.setattr(runtime, "_run", fail)
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
