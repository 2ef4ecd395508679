"""Packed windows give the rows of padded ones, whatever the layers; on a CPU here, as on a GPU."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from windows import batch_of, some_rows

from nuner_embed import Document, load_encoder
from nuner_embed.bundled import bundled_texts
from nuner_embed.runtimes import packed
from nuner_embed.runtimes.base import RowFormat
from nuner_embed.runtimes.packed import PackedNetwork, attention_for, has_bert_layers, is_packable
from nuner_embed.runtimes.padding import cut_packed
from nuner_embed.runtimes.parity import GATES

LENGTHS = [3, 17, 3, 1, 30, 9, 17, 2, 30, 5, 1, 12, 4, 16, 29]
BATCH = batch_of(LENGTHS, some_rows(LENGTHS))
LAYERS = [(-1,), (-2,), (-1, -2), (-3, -1)]


@pytest.fixture(scope="module", params=["bert", "roberta", "xlm-roberta"])
def source(request, tmp_path_factory):
    return tiny_model(request.param, tmp_path_factory.mktemp("models") / request.param)


def runtimes_of(source, layers=(-1,), **options):
    """The runtime with padded matrices, and the same with packed windows."""
    plain, other = (load_encoder(str(source), layers=layers, threads=1, **options).runtime for _ in range(2))
    other.make_rows_on_device()
    return plain, other


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("budget", [1, 60, 10_000])
def test_packed_rows_are_padded_rows(source, layers, budget):
    plain, other = runtimes_of(source, layers)
    assert other.packed
    np.testing.assert_allclose(other.rows(BATCH, budget), plain.rows(BATCH, 10_000), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [(-1,), (-1, -4)])
def test_packed_rows_of_the_default_model(layers):
    plain, other = (load_encoder("nuner-mini", layers=layers) for _ in range(2))
    other.runtime.make_rows_on_device()
    assert other.runtime.packed
    documents = [Document(str(i), text) for i, text in enumerate(bundled_texts()[::40])]
    table = plain.tokenize(documents, "word")
    expected, found = (encoder.encode_rows(table, "word").vectors for encoder in (plain, other))
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    assert (np.sum(expected * found, axis=1) / norms).min() > GATES["f32"].min_cosine
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_family_of_camembert(tmp_path):
    import transformers

    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.CamembertConfig(vocab_size=320, max_position_embeddings=42, pad_token_id=1, **shape)
    assert is_packable(transformers.AutoModel.from_config(config))


def test_a_text_may_hold_the_token_of_the_padding(source):
    plain, other = runtimes_of(source)
    ids = BATCH.ids.copy()
    ids[::3] = plain.pad_id
    batch = replace(BATCH, ids=ids)
    np.testing.assert_allclose(other.rows(batch, 10_000), plain.rows(batch, 10_000), atol=1e-5)


def test_a_window_alone_has_the_rows_that_it_has_among_others(source):
    _, other = runtimes_of(source)
    together = other.rows(BATCH, 10_000)
    for window, (begin, end) in enumerate(zip(BATCH.bounds[:-1], BATCH.bounds[1:], strict=True)):
        mine = BATCH.window == window
        alone = replace(
            batch_of([end - begin], [(0, a, b) for a, b in zip(BATCH.first[mine], BATCH.last[mine], strict=True)]),
            ids=BATCH.ids[begin:end],
        )
        np.testing.assert_allclose(other.rows(alone, 10_000), together[mine], atol=1e-6)


def test_every_run_gives_the_same_bits(source):
    _, other = runtimes_of(source)
    np.testing.assert_array_equal(other.rows(BATCH, 60), other.rows(BATCH, 60))
    _, again = runtimes_of(source)
    np.testing.assert_array_equal(other.rows(BATCH, 60), again.rows(BATCH, 60))


def test_bf16(source):
    exact, _ = runtimes_of(source)
    _, rough = runtimes_of(source, precision="bf16")
    found, expected = rough.rows(BATCH, 10_000), exact.rows(BATCH, 10_000)
    assert 0 < np.abs(found - expected).max() < 0.1


def test_rows_are_scaled_and_cast_where_they_are_made(source):
    plain, other = runtimes_of(source)
    expected = plain.rows(BATCH, 10_000)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = other.rows(BATCH, 60, form=RowFormat("float16", normalize=True))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_passes_hold_the_budget_without_padding(source):
    _, other = runtimes_of(source)
    done = []
    other.rows(BATCH, 40, on_pass=done.append)
    assert sum(one.tokens for one in done) == len(BATCH.ids)
    assert all(one.tokens <= 40 and one.padding == 0 for one in done)
    assert len(done) < len(LENGTHS)


def test_the_numerics_name_the_batches(source):
    plain, other = runtimes_of(source)
    assert "batches" not in plain.numerics  # the numeric hash of all stores so far
    assert other.numerics == {
        **plain.numerics,
        "batches": "packed with grouped attention, rows made on the device",
    }
    assert other.description == f"{plain.description}, packed with grouped attention"


@pytest.mark.parametrize("layers", [(-1,), (-1, -2)])
def test_flash_attention_gets_the_windows_as_they_lie(source, layers, monkeypatch):
    """The kernel runs on a GPU only: here is one that does as torch's documentation says, and is called as torch's."""
    signature = inspect.signature(packed.varlen_attn)
    calls = []

    def attend(*arguments, **keywords):
        given = signature.bind(*arguments, **keywords).arguments
        queries, keys, values, bounds = (given[name] for name in ("query", "key", "value", "cu_seq_q"))
        assert given["cu_seq_k"] is bounds
        assert bounds.dtype == torch.int32
        assert given["max_q"] == given["max_k"] == int(bounds.diff().max())
        assert all(one.stride(-1) == 1 for one in (queries, keys, values))
        assert len(given) == 7  # torch's own kernel refuses some of the options
        calls.append(bounds)
        parts = []
        for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            q, k, v = (one[a:b].transpose(0, 1) for one in (queries, keys, values))  # (heads, length, size)
            weights = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1)
            parts.append((weights @ v).transpose(0, 1))
        return torch.cat(parts)

    monkeypatch.setattr(packed, "varlen_attn", attend)
    monkeypatch.setattr("nuner_embed.runtimes.torch.attention_for", lambda *given: "varlen")
    plain, other = runtimes_of(source, layers)
    np.testing.assert_allclose(other.rows(BATCH, 60), plain.rows(BATCH, 10_000), atol=1e-5)
    assert calls
    assert other.description.endswith("packed with varlen attention")


@pytest.mark.parametrize(
    ("device", "dtype", "head_size", "capability", "expected"),
    [
        ("cuda", torch.float16, 64, (9, 0), "varlen"),
        ("cuda", torch.bfloat16, 32, (8, 0), "varlen"),
        ("cuda", torch.float32, 64, (9, 0), "grouped"),
        ("cuda", torch.float16, 64, (7, 5), "grouped"),
        ("cuda", torch.float16, 12, (9, 0), "grouped"),
        ("cuda", torch.float16, 512, (9, 0), "grouped"),
        ("cpu", torch.bfloat16, 64, (9, 0), "grouped"),
    ],
)
def test_where_flash_attention_runs(device, dtype, head_size, capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(packed, "varlen_attn", object())
    assert attention_for(torch.device(device), dtype, head_size) == expected
    monkeypatch.setattr(packed, "varlen_attn", None)  # an older torch
    assert attention_for(torch.device(device), dtype, head_size) == "grouped"


@pytest.mark.parametrize("family", ["distilbert", "deberta-v2", "modernbert", "mpnet"])
def test_other_networks_run_padded_and_make_their_rows_on_the_device(family, tmp_path):
    plain, other = runtimes_of(tiny_model(family, tmp_path / family))
    assert not other.packed
    assert not is_packable(other.network.network)
    assert other.numerics["batches"] == "padded, rows made on the device"
    other.states = None  # no matrix of hidden states goes to the host
    np.testing.assert_allclose(other.rows(BATCH, 60), plain.rows(BATCH, 10_000), atol=1e-5)


def test_relative_positions_and_decoders_are_not_packed(tmp_path):
    network = load_encoder(str(tiny_model("bert", tmp_path / "bert"))).runtime.network.network
    assert is_packable(network)
    network.config.is_decoder = True
    assert not is_packable(network)
    network.config.is_decoder = False
    network.encoder.layer[1].attention.self.position_embedding_type = "relative_key"
    assert not has_bert_layers(network.encoder.layer)
    assert not is_packable(network)


def test_layers_above_the_chosen_ones_do_not_run(tmp_path):
    network = load_encoder(str(tiny_model("bert", tmp_path / "bert"))).runtime.network.network
    network.encoder.layer[1] = torch.nn.Module()  # which cannot run
    with torch.inference_mode():
        (states,) = PackedNetwork(network, (-2,), "grouped").states(BATCH)
    assert states.shape == (sum(LENGTHS), 16)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_groups_hold_every_window_once_and_only_similar_ones(lengths):
    bounds = np.cumsum([0, *lengths])
    groups = packed._groups(bounds)
    assert [w for group in groups for w in range(group.first, group.last)] == list(range(len(lengths)))
    for group in groups:
        inside = lengths[group.first : group.last]
        assert (group.begin, group.end) == (bounds[group.first], bounds[group.last])
        assert group.length == max(inside) <= 1.25 * min(inside)
        assert group.even == (len(set(inside)) == 1)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 200), st.integers(0, 29))
def test_packed_batches_hold_the_budget_and_could_hold_no_more(lengths, budget, begin):
    falling = np.array(sorted(lengths, reverse=True))
    cuts = cut_packed(falling, begin, budget)
    assert [n for first, end in cuts for n in range(first, end)] == list(range(begin, len(falling)))
    for first, end in cuts:
        assert falling[first:end].sum() <= budget or end - first == 1
        assert end == len(falling) or falling[first : end + 1].sum() > budget
