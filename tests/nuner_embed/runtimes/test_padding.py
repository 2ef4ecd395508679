"""What a text's vectors are must not depend on what else is in its batch, or on what ran before it."""

import json

import numpy as np
import pytest
import torch
import transformers
from fakes import FAMILIES, UNFUSED_FAMILIES, tiny_model, wordpiece

from nuner_embed import Document, export_onnx, load_encoder
from nuner_embed.errors import ExportError, ModelError
from nuner_embed.models.resolver import locate
from nuner_embed.runtimes import padding, registry

MAJOR = int(transformers.__version__.split(".")[0])
TRACED_BY_5 = pytest.mark.skipif(MAJOR != 4, reason="torch can trace them in transformers 5")
SHAPE = {
    "vocab_size": 320, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 80, "pad_token_id": 0,
}  # fmt: skip
NARROW = {"embedding_size": 16}
TEXTS = ["the ferry left", "at seven in an", "x", "the ferry left at seven in " * 30, "the left the left", "the ferry"]
DOCUMENTS = [Document(str(i), text) for i, text in enumerate(TEXTS)]


def config_of(name, **changes):
    return getattr(transformers, f"{name}Config")(**{**SHAPE, **changes})


# those whose padding reaches the vectors, and run texts of one length at a time
UNMASKED = {
    "convbert": ("ConvBert", NARROW),
    "yoso": ("Yoso", {}),
    "mobilebert": ("MobileBert", {**NARROW, "intra_bottleneck_size": 16}),
    "nystromformer": ("Nystromformer", {}),
    "fnet": ("FNet", {}),
}
MASKED = {
    "electra": ("Electra", NARROW),
    "mpnet": ("MPNet", {}),
    "albert": ("Albert", NARROW),
    "big_bird": ("BigBird", {"block_size": 4, "num_random_blocks": 1}),
    "longformer": ("Longformer", {"attention_window": 8}),
    "ernie_m": ("ErnieM", {}),
    "esm": ("Esm", {"mask_token_id": 4}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2}),
}


def make(directory, name, changes):
    """A network of random weights, the padding's among them, which a trained network does not leave at zero either."""
    if not hasattr(transformers, f"{name}Config"):
        pytest.skip(f"this transformers has no {name}")
    torch.manual_seed(0)
    network = transformers.AutoModel.from_config(config_of(name, **changes)).eval()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.3)
    network.save_pretrained(directory)
    (directory / "tokenizer.json").write_text(json.dumps(wordpiece().definition))
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return directory


def assert_same_vectors(found, expected):
    size = np.linalg.norm(expected.vectors, axis=1)
    cosines = (found.vectors * expected.vectors).sum(axis=1) / size / np.linalg.norm(found.vectors, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-5)
    assert (np.linalg.norm(found.vectors - expected.vectors, axis=1) < 1e-3 * size).all()


def assert_alone_equals_together(encoder):
    together = encoder.encode(DOCUMENTS)
    alone = [encoder.encode([document])[0] for document in DOCUMENTS]
    backwards = encoder.encode(DOCUMENTS[::-1])[::-1]
    for expected, *others in zip(alone, together, backwards, strict=True):
        for found in others:
            assert_same_vectors(found, expected)


def raw_padding_difference(encoder):
    """How far the first token's vector moves by padding in the network itself, 1 - cosine."""
    ids = np.array([[2, 9, 10, 11, 3]])
    padded, mask = np.pad(ids, ((0, 0), (0, 20))), np.pad(np.ones_like(ids), ((0, 0), (0, 20)))
    a, b = encoder.runtime.states(ids, np.ones_like(ids))[0], encoder.runtime.states(padded, mask)[0, :5]
    return float((1 - (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).max())


@pytest.mark.parametrize("family", UNMASKED)
def test_what_feels_its_padding_runs_texts_of_one_length(family, tmp_path):
    encoder = load_encoder(str(make(tmp_path / family, *UNMASKED[family])))
    assert not encoder.runtime.padding
    assert raw_padding_difference(encoder) > 1e-5  # which would be lost otherwise
    assert_alone_equals_together(encoder)


@pytest.mark.parametrize("family", MASKED)
def test_what_masks_its_padding_keeps_its_batches(family, tmp_path):
    encoder = load_encoder(str(make(tmp_path / family, *MASKED[family])))
    assert encoder.runtime.padding
    assert raw_padding_difference(encoder) < 1e-5
    assert_alone_equals_together(encoder)


@pytest.mark.parametrize("family", [*FAMILIES, *UNFUSED_FAMILIES])
def test_the_usual_families_keep_their_batches(family, tmp_path):
    encoder = load_encoder(str(tiny_model(family, tmp_path / family)))
    assert encoder.runtime.padding
    assert_alone_equals_together(encoder)


def test_a_text_in_bf16_is_judged_in_float32(tmp_path):
    """The noise of bf16 would hide what padding does, or be taken for it."""
    assert load_encoder(str(tiny_model("bert", tmp_path / "bert")), precision="bf16").runtime.padding
    padding_matters = make(tmp_path / "convbert", *UNMASKED["convbert"])
    assert not load_encoder(str(padding_matters), precision="bf16").runtime.padding


def test_big_bird_ends_where_it_would_attend_to_blocks(tmp_path):
    """Up to (5 + 2 * 1) * 4 = 28 tokens every token attends to all, whatever ran before."""
    directory = make(tmp_path / "big_bird", *MASKED["big_bird"])
    model = locate(str(directory))
    assert (model.config.positions, model.recipe.max_length) == (28, 28)
    with pytest.raises(ModelError, match="takes at most 28 tokens at a time, not 64"):
        load_encoder(str(directory), max_length=64, stride=8)
    ids = np.random.default_rng(0).integers(5, 300, (1, 28))
    network = transformers.AutoModel.from_pretrained(directory, add_pooling_layer=False).eval()
    with torch.inference_mode():
        right = network(torch.from_numpy(ids)).last_hidden_state.numpy()
    np.testing.assert_allclose(load_encoder(str(directory)).runtime.states(ids, np.ones_like(ids)), right, atol=1e-5)


def test_what_gives_other_vectors_the_second_time_is_refused(tmp_path):
    directory = make(tmp_path / "bert", "Bert", {})
    model, calls = locate(str(directory)), []

    def run(ids, mask):
        calls.append(ids.shape)
        return np.ones((*ids.shape, 4), np.float32) + len(calls) * np.arange(4, dtype=np.float32)

    with pytest.raises(ModelError, match="a bert whose vectors for a text differ between two runs") as caught:
        padding.takes_padding(model, run, 40, {})
    assert "\n" not in str(caught.value)
    assert max(shape[1] for shape in calls) == 40


@pytest.mark.parametrize("limit", [20, 39])
def test_a_switch_at_a_length_is_seen(limit, tmp_path):
    """As BigBird's, which remembers that it has seen a shorter text."""
    model, seen = locate(str(make(tmp_path / "bert", "Bert", {}))), []

    def run(ids, mask):
        if ids.shape[1] <= limit:
            seen.append(ids)
        return np.ones((*ids.shape, 4), np.float32) + bool(seen) * np.arange(4, dtype=np.float32)

    with pytest.raises(ModelError, match="differ between two runs"):
        padding.takes_padding(model, run, 40, {})


def test_it_is_found_out_once(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path / "cache"))
    directory = make(tmp_path / "convbert", *UNMASKED["convbert"])
    assert not load_encoder(str(directory)).runtime.padding
    monkeypatch.setattr(padding, "_find_out", lambda *_: pytest.fail("found out again"))
    assert not load_encoder(str(directory)).runtime.padding
    with pytest.raises(pytest.fail.Exception):
        load_encoder(str(directory), max_length=40, stride=8)  # longer windows are another question


def test_a_finding_that_cannot_be_read_is_found_out_again(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path / "cache"))
    model = str(make(tmp_path / "fnet", *UNMASKED["fnet"]))
    load_encoder(model)
    (found,) = (tmp_path / "cache" / "padding").iterdir()
    for broken in ("", "[1]", '{"padding"'):
        found.write_text(broken)
        assert not load_encoder(model).runtime.padding
    assert json.loads(found.read_text()) == {"padding": False}


@pytest.mark.parametrize("family", ["convbert", pytest.param("mobilebert", marks=pytest.mark.slow)])
def test_an_export_carries_what_was_found(family, tmp_path):
    source = make(tmp_path / family, *UNMASKED[family])
    export_onnx(str(source), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "export.json").read_text())["padding"] is False
    expected = load_encoder(str(source)).encode(DOCUMENTS)
    for runtime in ("onnx", "openvino"):
        if not registry.RUNTIMES[runtime].installed:
            continue
        encoder = load_encoder(str(tmp_path / "out"), runtime=runtime, precision="f32")
        assert_alone_equals_together(encoder)
        for a, b in zip(expected, encoder.encode(DOCUMENTS), strict=True):
            assert_same_vectors(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "by_length"), [("convbert", True), ("electra", False)])
def test_a_graph_that_does_not_say_is_tried(family, by_length, tmp_path):
    """As one that another program exported, or an earlier version of this one."""
    source = make(tmp_path / family, *{**UNMASKED, **MASKED}[family])
    export_onnx(str(source), tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    del facts["sha256"]  # as in an export of an earlier version
    assert facts.pop("padding") is not by_length
    (tmp_path / "out" / "export.json").write_text(json.dumps(facts))
    encoder = load_encoder(str(tmp_path / "out"), runtime="onnx")
    assert encoder.runtime.padding is not by_length
    assert_alone_equals_together(encoder)


@pytest.mark.slow
def test_big_bird_is_exported_as_it_runs(tmp_path):
    source = make(tmp_path / "big_bird", *MASKED["big_bird"])
    assert export_onnx(str(source), tmp_path / "out").passed
    encoder = load_encoder(str(tmp_path / "out"), runtime="onnx")
    assert_alone_equals_together(encoder)
    for a, b in zip(load_encoder(str(source)).encode(DOCUMENTS), encoder.encode(DOCUMENTS), strict=True):
        assert_same_vectors(a, b)


@pytest.mark.parametrize("length", [64, 80])
def test_a_network_for_one_length_alone_is_one_line(length, tmp_path):
    """Nyströmformer with landmarks takes windows of exactly `segment_means_seq_len` tokens; the longest here has 80."""
    changes = {"num_landmarks": 8, "segment_means_seq_len": length}
    with pytest.raises(ModelError, match="a nystromformer that does not run as a text encoder on") as caught:
        load_encoder(str(make(tmp_path / "model", "Nystromformer", changes)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "pad_id"), [("Bert", -1), ("Bert", None), ("Albert", -1)])
def test_padding_without_an_id_of_its_own(name, pad_id, tmp_path):
    directory = make(tmp_path / "model", name, NARROW if name == "Albert" else {})
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "pad_token_id": pad_id}))
    assert locate(str(directory)).config.pad_id == 0
    assert_alone_equals_together(load_encoder(str(directory)))


@pytest.mark.parametrize(
    ("name", "changes", "positions"),
    [
        ("Esm", {"mask_token_id": 4, "pad_token_id": 1}, 78),
        ("Esm", {"mask_token_id": 4, "pad_token_id": 1, "position_embedding_type": "rotary"}, 80),
        ("ErnieM", {"pad_token_id": 1}, 78),
        ("MPNet", {"pad_token_id": 3}, 78),
        ("MPNet", {"pad_token_id": 1}, 78),
    ],
)
def test_the_longest_window_of_those_that_number_positions_otherwise(name, changes, positions, tmp_path):
    directory = make(tmp_path / "model", name, changes)
    assert locate(str(directory)).config.positions == positions
    encoder = load_encoder(str(directory), max_length=positions, stride=8)
    assert_alone_equals_together(encoder)
    with pytest.raises(ModelError, match=f"takes at most {positions} tokens at a time, not {positions + 1}"):
        load_encoder(str(directory), max_length=positions + 1, stride=8)


@pytest.mark.skipif(MAJOR == 4, reason="torch cannot trace them in transformers 4")
@pytest.mark.parametrize(
    ("name", "changes"),
    [("Qwen2", {"num_key_value_heads": 2}), ("Gemma", {"num_key_value_heads": 2, "head_dim": 8})],
)
def test_decoders_that_transformers_5_can_export(name, changes, tmp_path):
    source = make(tmp_path / "model", name, changes)
    export_onnx(str(source), tmp_path / "out")
    exported = load_encoder(str(tmp_path / "out"), runtime="onnx")
    assert_alone_equals_together(exported)
    for a, b in zip(load_encoder(str(source)).encode(DOCUMENTS), exported.encode(DOCUMENTS), strict=True):
        assert_same_vectors(a, b)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("Qwen2", {"num_key_value_heads": 2}, marks=TRACED_BY_5),
        pytest.param("Gemma", {"num_key_value_heads": 2, "head_dim": 8}, marks=TRACED_BY_5),
        ("FNet", {}),
    ],
)
def test_what_torch_cannot_trace_is_one_line_and_runs_in_torch(name, changes, tmp_path, capsys):
    source = make(tmp_path / "model", name, changes)
    with pytest.raises(
        ExportError, match=r"torch cannot trace into an ONNX graph \(.*use the model itself with torch"
    ) as caught:
        export_onnx(str(source), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{source} is a {name.lower()}, which")
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert_alone_equals_together(load_encoder(str(source)))
