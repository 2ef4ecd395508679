"""Rows made where the hidden states are: pooled, scaled, cast and copied as on a GPU, here with tensors of the CPU."""

from itertools import product

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nuner_embed.errors import OutOfMemory
from nuner_embed.runtimes import graph_pooling, transfer
from nuner_embed.runtimes.base import RowFormat, WindowBatch
from nuner_embed.runtimes.device_pooling import finished, pool_on_device
from nuner_embed.runtimes.graph_pooling import GraphPooling, graph_path
from nuner_embed.runtimes.onnx import open_session
from nuner_embed.runtimes.padding import pool
from nuner_embed.runtimes.transfer import in_flight, to_device, upload

CPU = torch.device("cpu")
FORMATS = [RowFormat(dtype, normalize) for dtype, normalize in product(("float16", "float32"), (False, True))]
LENGTH = 40
SOME_ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, LENGTH - 1), st.integers(1, LENGTH)), max_size=12)


def rows_of(drawn):
    """Window, first token and one past the last of each row, (m,) each."""
    return np.array([(w, a, max(a + 1, b)) for w, a, b in drawn], np.int64).reshape(-1, 3).T


def some_states(dtype=np.float32, dim=4):
    return np.random.default_rng(0).normal(size=(3, LENGTH, dim)).astype(dtype)


@settings(max_examples=30)
@given(SOME_ROWS)
def test_torch_gives_the_means_of_numpy(drawn):
    window, first, last = rows_of(drawn)
    flat = window * LENGTH
    for dtype in (torch.float32, torch.bfloat16):  # added up in float32, as on the host
        states = torch.from_numpy(some_states()).to(dtype)
        pooled = pool_on_device([states.flatten(0, 1)], flat + first, flat + last)
        assert pooled.dtype == torch.float32
        expected = pool(states.float().numpy(), window, first, last)
        np.testing.assert_allclose(pooled.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_torch_lays_layers_side_by_side():
    window, first, last = rows_of([(0, 3, 9), (2, 0, 1), (1, 5, 6)])
    lower, upper = (torch.from_numpy(some_states(dim=dim)) for dim in (4, 6))
    flat = window * LENGTH
    pooled = pool_on_device([upper.flatten(0, 1), lower.flatten(0, 1)], flat + first, flat + last)
    expected = [pool(one.numpy(), window, first, last) for one in (upper, lower)]
    np.testing.assert_allclose(pooled.numpy(), np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module", params=["float16", "float32"])
def graph(request):
    """The dtype of the states, and the small graph for it in a session on the CPU."""
    return np.dtype(request.param), GraphPooling(open_session(graph_path(request.param).read_bytes(), "cpu", 1))


@settings(max_examples=30)
@given(SOME_ROWS, st.sampled_from(FORMATS), st.sampled_from([1, 50, 65536]))
def test_the_graph_gives_the_means_of_numpy(graph, drawn, form, at_once):
    dtype, pooling = graph
    states = some_states(dtype)
    window, first, last = rows_of(drawn)
    batch = WindowBatch(np.empty(0, np.int32), np.empty(0, np.int64), window, first, last)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_pooling, "_PLACES_AT_ONCE", at_once)
        found = pooling.rows(ort.OrtValue.ortvalue_from_numpy(states), batch, form)
    expected = form.apply(pool(states.astype(np.float32), window, first, last))
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-3 if form.dtype == "float16" else 1e-5, atol=1e-6)


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 400))
def test_parts_hold_every_row_once_and_few_places_in_vain(sizes, at_once):
    sizes = np.array(sizes, np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_pooling, "_PLACES_AT_ONCE", at_once)
        parts = list(graph_pooling._parts(sizes))
    assert sorted(row for part in parts for row in part.tolist()) == list(range(len(sizes)))
    for part in parts:
        largest = sizes[part].max()
        assert len(part) == 1 or largest * len(part) <= at_once
        assert largest <= 2 * sizes[part].min()


def test_the_shipped_graphs_are_those_that_the_code_makes():
    pytest.importorskip("onnx")
    from nuner_embed.export.pooling_graph import pooling_graph

    for states in ("float16", "float32"):
        made = pooling_graph(states)
        assert graph_path(states).read_bytes() == made, "python -m nuner_embed.export.pooling_graph writes them again"


EXTREMES = np.array([[1.0, -2.0], [7e4, 1.0], [-7e4, 0.0], [np.inf, 1.0], [1.0, -np.inf], [np.nan, 1.0], [0, -0.0]])


def by_torch(rows, form):
    return finished(torch.from_numpy(rows), form).numpy()


def by_graph(rows, form):
    pooling = GraphPooling(open_session(graph_path("float32").read_bytes(), "cpu", 1))
    number = np.arange(len(rows))
    batch = WindowBatch(np.empty(0, np.int32), np.empty(0, np.int64), number, 0 * number, 0 * number + 1)
    return pooling.rows(ort.OrtValue.ortvalue_from_numpy(rows[:, None]), batch, form)


def by_numpy(rows, form):
    return form.apply(rows)


@pytest.mark.parametrize("cast", [by_numpy, by_torch, by_graph])
def test_too_large_is_infinite_and_infinite_is_nan(cast):
    inf, nan = np.inf, np.nan
    half = cast(EXTREMES.astype(np.float32), RowFormat("float16"))
    assert half.dtype == np.float16
    expected = [[1, -2], [inf, 1], [-inf, 0], [nan, 1], [1, nan], [nan, 1], [0, 0]]
    np.testing.assert_array_equal(half, np.array(expected))
    np.testing.assert_array_equal(cast(EXTREMES.astype(np.float32), RowFormat()), EXTREMES.astype(np.float32))


@pytest.mark.parametrize("cast", [by_numpy, by_torch, by_graph])
def test_rows_are_scaled_before_they_are_cast(cast):
    rows = np.array([[7e5, 0.0], [3.0, 4.0], [0.0, 0.0]], np.float32)
    found = cast(rows, RowFormat("float16", normalize=True))
    np.testing.assert_allclose(found, [[1, 0], [0.6, 0.8], [0, 0]], atol=1e-3)


def test_numpy_scales_batch_by_batch_to_the_bits_of_all_at_once():
    """The stores of before were scaled whole."""
    for dim in (1, 3, 16, 384, 1536):
        rows = np.random.default_rng(dim).normal(size=(257, dim)).astype(np.float32)
        whole = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        for size in (1, 2, 7, 64):
            parts = [RowFormat(normalize=True).apply(rows[i : i + size].copy()) for i in range(0, len(rows), size)]
            np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_integers_go_to_the_device_in_one_copy(monkeypatch):
    copies = []
    monkeypatch.setattr(transfer, "to_device", lambda array, device: copies.append(array) or to_device(array, device))
    arrays = [np.arange(3), np.empty(0, np.int64), np.array([7], np.int32)]
    tensors = upload(arrays, CPU)
    assert len(copies) == 1
    assert [tensor.tolist() for tensor in tensors] == [[0, 1, 2], [], [7]]
    assert {tensor.dtype for tensor in tensors} == {torch.int32}


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_rows_come_in_order_and_few_batches_are_on_the_device(slots):
    launched = []

    def batch(number):
        def make():
            launched.append(number)
            dtype = torch.float16 if number > 6 else torch.float32  # a buffer of another dtype
            return torch.full((number % 4, 3), float(number), dtype=dtype)

        return make

    for number, rows in enumerate(in_flight(map(batch, range(10)), CPU, slots)):
        assert len(launched) <= number + slots
        assert rows.shape == (number % 4, 3)
        assert (rows == number).all()
    assert launched == list(range(10))


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_batches_before_the_one_that_does_not_fit_are_whole(slots):
    def batch(number):
        def make():
            if number == 4:
                raise OutOfMemory("no room")
            return torch.full((2, 3), float(number))

        return make

    results = in_flight(map(batch, range(10)), CPU, slots)
    assert [next(results)[0, 0] for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(OutOfMemory, match="no room"):
        next(results)
