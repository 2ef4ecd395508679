"""Graphs that Optimum, sentence-transformers or transformers.js exported, in the layouts that they write."""

import importlib.util
import logging
import shutil
import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest
from command import run
from fakes import tiny_model

from nuner_embed import Document, export_onnx, load_encoder, save_model, verify
from nuner_embed.encoders.loader import ModelSpec
from nuner_embed.errors import ExportError, ModelError, RuntimeUnavailable
from nuner_embed.models.onnx_export import Export
from nuner_embed.models.resolver import locate
from nuner_embed.runtimes.registry import RUNTIMES

OPTIMUM_ONNX = bool(importlib.util.find_spec("optimum")) and bool(importlib.util.find_spec("optimum.onnxruntime"))
DOCUMENTS = [Document("a", "the ferry left at seven"), Document("b", "Zürich " * 20), Document("c", "at")]


@pytest.fixture(scope="module")
def graph(bert, tmp_path_factory):
    """A graph with the inputs and the output that Optimum gives a BERT."""
    import torch
    import transformers

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = transformers.AutoModel.from_pretrained(bert, attn_implementation="eager").eval()

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.network(input_ids, attention_mask, token_type_ids).last_hidden_state

    path = tmp_path_factory.mktemp("graphs") / "model.onnx"
    ids, ones = torch.tensor([[2, 6, 7, 3], [2, 5, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    names = ["input_ids", "attention_mask", "token_type_ids"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Network(), (ids, ones, torch.zeros_like(ids)), str(path), input_names=names,
            output_names=["last_hidden_state"], opset_version=17, dynamo=False,
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in [*names, "last_hidden_state"]},
        )  # fmt: skip
    return path


@pytest.fixture
def folder(bert, tmp_path):
    """Configuration and tokenizer without weights."""
    directory = tmp_path / "theirs"
    directory.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(bert / name, directory / name)
    return directory


def put(graph, directory, file, change=None):
    path = directory / file
    path.parent.mkdir(exist_ok=True)
    model = onnx.load(graph)
    if change:
        change(model)
    onnx.save(model, path)
    return path


def rename(old, new):
    def change(model):
        for node in model.graph.node:
            node.output[:] = [new if name == old else name for name in node.output]
            node.input[:] = [new if name == old else name for name in node.input]
        for port in [*model.graph.output, *model.graph.input]:
            port.name = new if port.name == old else port.name

    return change


def behind_identity(model):
    """The output gets a second name, that of a tensor within the graph."""
    for node in model.graph.node:
        node.output[:] = ["inner" if name == "last_hidden_state" else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Identity", ["inner"], ["last_hidden_state"]))


def spoil(model):
    weight = next(w for w in model.graph.initializer if list(w.dims) == [320, 16])
    values = onnx.numpy_helper.to_array(weight).copy()
    values[:, 0] += 0.02
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))


@pytest.mark.parametrize(
    ("file", "output"),
    [
        ("model.onnx", "last_hidden_state"),  # Optimum
        ("onnx/model.onnx", "last_hidden_state"),  # transformers.js, and Optimum in a folder of its own
        ("onnx/model.onnx", "token_embeddings"),  # sentence-transformers
        ("onnx/encoder.onnx", "token_embeddings"),  # the only one that there is
    ],
)
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_the_embeddings_are_those_of_the_source(bert, graph, folder, file, output, runtime):
    put(graph, folder, file, rename("last_hidden_state", output))
    found = load_encoder(str(folder), runtime=runtime, precision="f32", batch_tokens=64).encode(DOCUMENTS)
    for ours, theirs in zip(found, load_encoder(str(bert)).encode(DOCUMENTS), strict=True):
        np.testing.assert_allclose(ours.vectors, theirs.vectors, atol=1e-5)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_an_output_of_two_names(bert, graph, folder, runtime):
    put(graph, folder, "model.onnx", behind_identity)
    (found,) = load_encoder(str(folder), runtime=runtime, precision="f32", batch_tokens=64).encode(DOCUMENTS[:1])
    (expected,) = load_encoder(str(bert)).encode(DOCUMENTS[:1])
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-5)


def test_a_graph_is_named_by_its_file(bert, graph, folder):
    for name in ("model_a.onnx", "model_b.onnx"):
        put(graph, folder, f"onnx/{name}")
    with pytest.raises(ModelError, match="several graphs, onnx/model_a.onnx, onnx/model_b.onnx; name one"):
        locate(str(folder))
    (found,) = load_encoder(str(folder / "onnx" / "model_b.onnx")).encode(DOCUMENTS[:1])
    (expected,) = load_encoder(str(bert)).encode(DOCUMENTS[:1])
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("model.onnx", "fp32"),
        ("model_O3.onnx", "fp32"),
        ("model_O4.onnx", "fp16"),
        ("model_fp16.onnx", "fp16"),
        ("model_quantized.onnx", "int8"),
        ("model_int8.onnx", "int8"),
        ("model_uint8.onnx", "int8"),
        ("model_qint8_avx512_vnni.onnx", "int8"),
    ],
)
def test_the_precision_is_read_from_the_name(graph, folder, name, precision):
    model = locate(str(put(graph, folder, f"onnx/{name}")))
    assert isinstance(model.export, Export)
    assert (model.export.precision, model.export.source) == (precision, None)


@pytest.mark.parametrize("name", ["model_q4.onnx", "model_bnb4.onnx", "model_q4f16.onnx"])
def test_four_bits_are_refused(graph, folder, name):
    with pytest.raises(ModelError, match=f"{name} has weights of fewer than eight bits"):
        locate(str(put(graph, folder, name)))


def test_weights_are_run_by_torch_and_their_graph_where_it_is_asked_for(bert, graph, tmp_path, monkeypatch):
    directory = shutil.copytree(bert, tmp_path / "both")
    put(graph, directory, "onnx/model.onnx")
    assert ModelSpec(str(directory)).load().runtime.name == "torch"
    assert ModelSpec(str(directory), runtime="onnx").load().runtime.name == "onnx"
    monkeypatch.setitem(RUNTIMES, "torch", replace(RUNTIMES["torch"], modules={"torch_that_is_not_here": "train"}))
    assert ModelSpec(str(directory)).load().runtime.name == "onnx"


def test_without_a_graph_onnx_is_refused_as_before(bert):
    with pytest.raises(RuntimeUnavailable, match="the onnx runtime needs the other kind"):
        load_encoder(str(bert), runtime="onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename("token_type_ids", "position_ids"), "takes input_ids, attention_mask, position_ids; a text encoder's"),
        (rename("last_hidden_state", "logits"), "gives logits; a text encoder's graph gives token_embeddings or"),
    ],
)
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_other_ports_are_refused(graph, folder, change, message, runtime):
    put(graph, folder, "model.onnx", change)
    with pytest.raises(ModelError, match=message):
        load_encoder(str(folder), runtime=runtime, precision="f32", batch_tokens=64)


def test_only_the_last_layer_is_to_be_had(graph, folder):
    put(graph, folder, "model.onnx")
    with pytest.raises(ModelError, match=r"was exported with layers \[-1\], not \[-1, -2\]"):
        load_encoder(str(folder), layers=(-1, -2))


def test_a_graph_that_nobody_compared_says_so(graph, folder, caplog):
    put(graph, folder, "model.onnx", spoil)  # a graph of its own, which no other test compares
    with caplog.at_level(logging.WARNING, logger="nuner_embed"):
        load_encoder(str(folder))
    assert f"was never compared with its source; nuner-embed verify {folder} --source MODEL" in caplog.text


def test_verify_needs_the_source(graph, folder):
    put(graph, folder, "onnx/model.onnx", lambda model: setattr(model, "doc_string", "another file"))
    with pytest.raises(ExportError, match="does not say what it was exported from; name that model with --source"):
        verify(folder)


def test_verified_it_is_measured_like_ours(bert, graph, folder, caplog):
    put(graph, folder, "onnx/model.onnx")
    before = sorted(folder.rglob("*"))
    result = verify(folder, source=str(bert))
    assert result.passed
    assert result.fusion == "onnx/model.onnx as another program exported it"
    assert min(row.agreement.min_cosine for row in result.rows if row.precision == "f32") > 0.9999
    assert sorted(folder.rglob("*")) == before  # nothing is written beside what is not ours
    assert verify(folder).passed  # by what is kept, without the source
    with caplog.at_level(logging.WARNING, logger="nuner_embed"):
        load_encoder(str(folder))
    assert "never compared" not in caplog.text


def test_verify_takes_the_weights_beside_the_graph(bert, graph, tmp_path):
    directory = shutil.copytree(bert, tmp_path / "both")
    put(graph, directory, "onnx/model.onnx")
    assert verify(directory).passed


@pytest.mark.slow
def test_another_exporters_graph_is_held_against_ours(bert, graph, folder, tmp_path):
    put(graph, folder, "model.onnx")
    export_onnx(str(bert), tmp_path / "ours")
    assert verify(folder, source=str(tmp_path / "ours")).passed
    put(graph, folder, "model.onnx", spoil)
    result = verify(folder, source=str(tmp_path / "ours"))
    assert not result.passed
    assert "onnx in f32: minimum cosine 0.9" in result.failures()
    with pytest.raises(RuntimeUnavailable, match="fails its gate"):
        load_encoder(str(folder))


@pytest.mark.slow
def test_an_export_with_other_layers_is_no_yardstick(bert, graph, folder, tmp_path):
    put(graph, folder, "model.onnx")
    export_onnx(str(bert), tmp_path / "ours", layers=(-1, -2))
    with pytest.raises(ExportError, match="compare it with an export made with --layers -1"):
        verify(folder, source=str(tmp_path / "ours"))


def test_another_tokenizer_is_refused(graph, folder, tmp_path):
    put(graph, folder, "model.onnx")
    other = tiny_model("roberta", tmp_path / "roberta")
    with pytest.raises(ExportError, match="its tokenizer makes other tokens"):
        verify(folder, source=str(other))


def test_on_the_command_line(bert, graph, folder, tmp_path):
    put(graph, folder, "onnx/model.onnx")
    (tmp_path / "a.txt").write_text("the ferry left at seven\n")
    run("verify", folder, "--source", bert, check=0)
    run("encode", tmp_path / "a.txt", "-o", tmp_path / "store", "--model", folder, "--precision", "f32", check=0)
    (stored,) = (tmp_path / "store").glob("*.npy")
    (expected,) = load_encoder(str(bert)).encode([Document("a", "the ferry left at seven")])
    np.testing.assert_allclose(np.load(stored).astype(np.float32), expected.vectors, atol=2e-3)


@pytest.mark.slow
@pytest.mark.skipif(not OPTIMUM_ONNX, reason="optimum-onnx is not installed")
def test_optimum_exports_what_we_export(default_model, tmp_path):
    from optimum.exporters.onnx import main_export

    save_model("nuner-mini", tmp_path / "source")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main_export(str(tmp_path / "source"), tmp_path / "theirs", task="feature-extraction", do_validation=False)
    assert verify(tmp_path / "theirs", source=str(default_model)).passed
    assert verify(tmp_path / "theirs", source=str(tmp_path / "source")).passed
