import json

import numpy as np
import onnx
import pytest
from fakes import tiny_model

from nuner_embed import Document, export_onnx, load_encoder
from nuner_embed.errors import ExportError, ModelError


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_model("bert", tmp_path_factory.mktemp("models") / "bert")


def test_the_directory_and_the_graph(bert, tmp_path):
    difference = export_onnx(str(bert), tmp_path / "out", layers=(-1, 0))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json", "export.json", "model.onnx", "recipe.json", "tokenizer.json"
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    graph = onnx.load(tmp_path / "out" / "model.onnx")
    assert [i.name for i in graph.graph.input] == ["input_ids", "attention_mask"]
    (output,) = graph.graph.output
    shape = output.type.tensor_type.shape.dim
    assert [shape[0].dim_param, shape[1].dim_param, shape[2].dim_value] == ["batch", "length", 32]
    assert {opset.domain for opset in graph.opset_import} == {""}  # plain operators only
    assert not any("pooler" in weight.name for weight in graph.graph.initializer)
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    assert facts["check"]["max_abs"] == difference.max_abs < 1e-4
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["layers"] == [-1, -3]


def test_layers_are_fixed_by_the_export(bert, tmp_path):
    export_onnx(str(bert), tmp_path / "out")
    with pytest.raises(ModelError, match=r"exported with layers \[-1\], not \[-2\]; export it again with --layers -2"):
        load_encoder(str(tmp_path / "out"), layers=(-2,))
    assert load_encoder(str(tmp_path / "out"), pooling="mean").recipe.pooling == "mean"


def test_a_broken_weight_is_caught_and_nothing_is_left(bert, tmp_path, monkeypatch):
    from nuner_embed.export import graph

    def write_broken(network, path):
        write(network, path)
        model = onnx.load(path)
        weight = next(w for w in model.graph.initializer if list(w.dims) == [320, 16])
        values = onnx.numpy_helper.to_array(weight).copy()
        values[:, 0] += 0.5
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(model, path)

    write = graph.write_graph
    monkeypatch.setattr(graph, "write_graph", write_broken)
    with pytest.raises(ExportError, match="is not its source: minimum cosine -?0"):
        export_onnx(str(bert), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_changed_file_is_not_run(bert, tmp_path):
    export_onnx(str(bert), tmp_path / "out")
    path = tmp_path / "out" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="is not the file that was exported"):
        load_encoder(str(tmp_path / "out"))


def test_an_export_is_replaced_only_on_demand(bert, tmp_path):
    export_onnx(str(bert), tmp_path / "out")
    with pytest.raises(ExportError, match="--force replaces it"):
        export_onnx(str(bert), tmp_path / "out")
    export_onnx(str(bert), tmp_path / "out", layers=(-2,), force=True)
    assert load_encoder(str(tmp_path / "out")).recipe.layers == (-2,)
    with pytest.raises(ExportError, match="an exported directory already"):
        export_onnx(str(tmp_path / "out"), tmp_path / "again")


def test_the_current_directory_is_not_replaced(bert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError, match="is the current directory"):
        export_onnx(str(bert), ".")


def test_a_link_to_an_export_stays_a_link(bert, tmp_path):
    export_onnx(str(bert), tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    export_onnx(str(bert), tmp_path / "link", layers=(-2,), force=True)
    assert load_encoder(str(tmp_path / "out")).recipe.layers == (-2,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out"]


def test_a_strangers_directory_is_left_alone(bert, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match="was not made by nuner-embed export"):
        export_onnx(str(bert), tmp_path, force=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_the_default_model_exports_equal_to_its_source(tmp_path):
    difference = export_onnx("minilm-l6", tmp_path / "out")
    assert difference.min_cosine > 0.99999
    documents = [Document("a", "The ferry to Port Ellery left at seven."), Document("b", "long text " * 400)]
    for a, b in zip(
        load_encoder("minilm-l6").encode(documents), load_encoder(str(tmp_path / "out")).encode(documents), strict=True
    ):
        np.testing.assert_allclose(a.vectors, b.vectors, atol=1e-4)
