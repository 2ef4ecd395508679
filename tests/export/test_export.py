import errno
import json
import os
import shutil
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import pytest
from fakes import UNFUSED_FAMILIES, tiny_model

from nuner_embed import Document, export_onnx, load_encoder, verify
from nuner_embed.errors import ExportError, ModelError
from nuner_embed.export import exporter, graph
from nuner_embed.export.int8 import RECIPES, quantise, round_products, weight_products
from nuner_embed.runtimes.parity import Agreement
from nuner_embed.runtimes.registry import RUNTIMES

DOCUMENTS = [Document("a", "the ferry left at seven"), Document("b", "the ferry left at seven " * 20)]


def test_the_directory_and_the_graph(bert, tmp_path):
    result = export_onnx(str(bert), tmp_path / "out", layers=(-1, 0))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json", "export.json", "fused", "model.onnx", "recipe.json", "reference.npz", "tokenizer.json",
        "verify.json",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    model = onnx.load(tmp_path / "out" / "model.onnx")
    assert [i.name for i in model.graph.input] == ["input_ids", "attention_mask"]
    (output,) = model.graph.output
    shape = output.type.tensor_type.shape.dim
    assert [shape[0].dim_param, shape[1].dim_param, shape[2].dim_value] == ["batch", "length", 32]
    assert {opset.domain for opset in model.opset_import} == {""}  # plain operators only
    assert not any("pooler" in weight.name for weight in model.graph.initializer)
    assert json.loads((tmp_path / "out" / "verify.json").read_text()) == json.loads(json.dumps(result.to_dict()))
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["layers"] == [-1, -3]


def test_bert_is_fused_for_this_onnxruntime(exported_bert):
    facts = json.loads((exported_bert / "fused" / f"onnxruntime-{onnxruntime.__version__}.json").read_text())
    assert facts["operators"]["Attention"] == 2
    assert "fused graph" in load_encoder(str(exported_bert), runtime="onnx").runtime.description


def test_a_fused_copy_of_something_else_is_not_run(exported_bert, tmp_path):
    directory = shutil.copytree(exported_bert, tmp_path / "out")
    fused = directory / "fused" / f"onnxruntime-{onnxruntime.__version__}.onnx"
    shutil.copy(directory / "model.onnx", fused)
    assert "unfused graph" in load_encoder(str(directory), runtime="onnx").runtime.description
    assert verify(directory).fusion.startswith("fused")  # made anew
    assert ", fused graph" in load_encoder(str(directory), runtime="onnx").runtime.description


@pytest.mark.parametrize("family", [pytest.param(one, marks=pytest.mark.slow) for one in UNFUSED_FAMILIES])
def test_what_cannot_be_fused_is_exported_all_the_same(family, tmp_path):
    source = tiny_model(family, tmp_path / family)
    result = export_onnx(str(source), tmp_path / "out")
    assert result.passed
    assert result.fusion.startswith("unfused")
    assert not (tmp_path / "out" / "fused").exists()
    for runtime in {row.runtime for row in result.rows}:
        for a, b in zip(
            load_encoder(str(source)).encode(DOCUMENTS),
            load_encoder(str(tmp_path / "out"), runtime=runtime, precision="f32").encode(DOCUMENTS),
            strict=True,
        ):
            np.testing.assert_allclose(a.vectors, b.vectors, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_weights_beyond_the_format_lie_beside_the_graph(bert, tmp_path, monkeypatch, precision):
    monkeypatch.setattr("nuner_embed.export.onnx_file.EXTERNAL_ABOVE_BYTES", 5_000)
    export_onnx(str(bert), tmp_path / "out", precision=precision)
    data = tmp_path / "out" / "model.onnx.data"
    assert data.stat().st_size > 10_000
    assert not list((tmp_path / "out").glob("*fp32*"))
    for runtime in ("onnx", "openvino"):
        found = load_encoder(str(tmp_path / "out"), runtime=runtime).encode(DOCUMENTS)
        np.testing.assert_allclose(found[0].vectors, load_encoder(str(bert)).encode(DOCUMENTS)[0].vectors, atol=0.05)
    changed = bytearray(data.read_bytes())
    changed[-1] ^= 1
    data.write_bytes(changed)
    with pytest.raises(ModelError, match="is not the file that was exported"):
        load_encoder(str(tmp_path / "out"))


def test_half_precision(bert, tmp_path):
    result = export_onnx(str(bert), tmp_path / "out", precision="fp16")
    assert {row.precision for row in result.rows} <= {"fp16", "bf16"}
    weights = onnx.load(tmp_path / "out" / "model.onnx").graph.initializer
    assert {weight.data_type for weight in weights} & {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16} == {
        onnx.TensorProto.FLOAT16
    }
    exact = load_encoder(str(bert)).encode(DOCUMENTS)[1].vectors
    # not in bf16, where the processor has it and it is the fastest
    half = load_encoder(str(tmp_path / "out"), precision="fp16").encode(DOCUMENTS)[1].vectors
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, exact, atol=0.02)


def test_eight_bits(bert, tmp_path):
    result = export_onnx(str(bert), tmp_path / "out", precision="int8")
    operators = [node.op_type for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node]
    assert operators.count("MatMulInteger") == 10  # the second product of each feed-forward block stays in fp32
    assert operators.count("QuantizeLinear") == 6  # query, key and value share theirs
    assert result.to_dict()["gates"] == {"int8": {"mean_cosine": 0.995, "neighbour_overlap": 0.95}}
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    assert facts["quantisation"]["recipe"] in facts["quantisation"]["tried"]
    assert load_encoder(str(tmp_path / "out")).semantic_hash == load_encoder(str(bert)).semantic_hash


@pytest.mark.parametrize(("recipe", "quantised"), list(zip(RECIPES, (10, 8, 6), strict=True)))
def test_recipes_leave_products_in_fp32(exported_bert, tmp_path, recipe, quantised):
    """Of six products a layer: the narrowing one, the one that makes attention's values, and the one that ends it."""
    batches = [(np.array([[2, 5, 6, 3]]), np.ones((1, 4), np.int64))]
    exact = shutil.copyfile(exported_bert / "model.onnx", tmp_path / "exact.onnx")
    quantise(exact, tmp_path / "int8.onnx", batches, RECIPES[recipe])
    operators = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
    assert operators.count("MatMulInteger") == quantised


def test_rounded_products_are_close_and_share_what_they_can():
    """Two layers share a weight, one of whose columns is zero, and one token is zero."""
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 3, 8)).astype(np.float32)
    x[0, 1], x[1, 2] = 0, 1000 * x[1, 2]  # an outlier harms no other token
    weight = random.normal(size=(8, 8)).astype(np.float32)
    weight[:, 3] = 0
    floats = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("MatMul", ["x", "w"], ["y"], "a"),
            onnx.helper.make_node("MatMul", ["y", "w"], ["z"], "b"),
        ],
        "two layers",
        [onnx.helper.make_tensor_value_info("x", floats, ["batch", "length", 8])],
        [onnx.helper.make_tensor_value_info("z", floats, ["batch", "length", 8])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    round_products(model, list(weight_products(model)))
    assert [one.name for one in model.graph.initializer if list(one.dims) == [8, 8]] == ["w_rounded"]
    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    expected = x @ weight @ weight
    size = np.linalg.norm(expected, axis=-1)
    assert (np.linalg.norm(found - expected, axis=-1) <= 0.02 * size).all()


def test_a_recipe_must_pass_in_every_installed_runtime(bert, tmp_path):
    good, bad = Agreement(1.0, 1.0, 0.0, 1.0), Agreement(0.9, 0.9, 1.0, 0.9)
    onnx_alone = {"onnx": RUNTIMES["onnx"]}
    with (
        mock.patch.object(exporter, "running", return_value={**onnx_alone, "another": RUNTIMES["onnx"]}),
        mock.patch.object(exporter, "load_runtime", lambda model, recipe, name, options: name),
        mock.patch.object(exporter, "compare", side_effect=[good, bad, good, good]) as compared,
    ):
        export_onnx(str(bert), tmp_path / "out", precision="int8")
    assert [call.args[0] for call in compared.call_args_list] == ["onnx", "another"] * 2
    facts = json.loads((tmp_path / "out" / "export.json").read_text())["quantisation"]
    assert facts["recipe"] == list(RECIPES)[1]
    assert [one["neighbour_overlap"] for one in facts["tried"].values()] == [0.9, 1.0]


@pytest.mark.slow
def test_the_default_model_has_an_int8_export(tmp_path):
    assert export_onnx("nuner-mini", tmp_path / "out", precision="int8").passed


@pytest.mark.slow
def test_eight_bits_that_lose_too_much_are_refused(tmp_path):
    """Random ModernBERT states lie so close together that eight bits cannot tell neighbours apart."""
    source = tiny_model("modernbert", tmp_path / "source")
    with pytest.raises(
        ExportError,
        match=r"loses too much in int8 \(second feed-forward product left out: minimum cosine .* use --precision fp32",
    ):
        export_onnx(str(source), tmp_path / "out", precision="int8")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_layers_are_fixed_by_the_export(exported_bert):
    with pytest.raises(
        ModelError,
        match=r"exported with layers \[-1\], not \[-2\]; export its source with nuner-embed export --layers -2",
    ):
        load_encoder(str(exported_bert), layers=(-2,))
    assert load_encoder(str(exported_bert), pooling="mean").recipe.pooling == "mean"


def test_a_broken_weight_is_caught_and_nothing_is_left(bert, tmp_path, monkeypatch):
    def write_broken(network, path):
        write(network, path)
        break_weight(path)

    write = graph.write_graph
    monkeypatch.setattr(graph, "write_graph", write_broken)
    with pytest.raises(ExportError, match="does not match its source: onnx in f32: minimum cosine -?0"):
        export_onnx(str(bert), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def break_weight(path):
    model = onnx.load(path)
    weight = next(w for w in model.graph.initializer if list(w.dims) == [320, 16])
    values = onnx.numpy_helper.to_array(weight).copy()
    values[:, 0] += 0.5
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, path)


def test_a_changed_file_is_not_run(exported_bert, tmp_path):
    path = shutil.copytree(exported_bert, tmp_path / "out") / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="is not the file that was exported"):
        load_encoder(str(tmp_path / "out"))


def test_an_export_is_replaced_only_on_demand(bert, exported_bert, tmp_path):
    shutil.copytree(exported_bert, tmp_path / "out")
    with pytest.raises(ExportError, match="replace it with --force"):
        export_onnx(str(bert), tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    export_onnx(str(bert), tmp_path / "link", layers=(-2,), force=True)
    assert load_encoder(str(tmp_path / "out")).recipe.layers == (-2,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out"]
    with pytest.raises(ExportError, match="an exported directory already"):
        export_onnx(str(tmp_path / "out"), tmp_path / "again")


def test_a_strangers_files_are_left_alone(bert, exported_bert, tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"and no export\.json: it is not an export; name another directory"):
        export_onnx(str(bert), tmp_path, force=True)
    with pytest.raises(ExportError, match="is a file; name a directory"):
        export_onnx(str(bert), tmp_path / "thesis.txt", force=True)
    directory = shutil.copytree(exported_bert, tmp_path / "out")
    (directory / "notes.md").write_text("mine")
    with pytest.raises(ExportError, match=r"holds notes\.md, which is not part of an export"):
        export_onnx(str(bert), directory, force=True)
    (directory / "notes.md").unlink()
    (directory / "fused" / "mine").symlink_to(tmp_path)
    with pytest.raises(ExportError, match="holds fused/mine, which is not part of an export"):
        export_onnx(str(bert), directory, force=True)
    (directory / "fused" / "mine").unlink()
    monkeypatch.chdir(directory)
    with pytest.raises(ExportError, match="is the current folder"):
        export_onnx(str(bert), ".", force=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.slow
def test_what_a_killed_export_left_is_taken_away(bert, exported_bert, tmp_path):
    hexadecimal = "0123456789abcdef"
    shutil.copytree(exported_bert, tmp_path / f".out.{hexadecimal}.new")
    shutil.copytree(exported_bert, tmp_path / f".other.{hexadecimal}.new")  # of another output
    export_onnx(str(bert), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".other.{hexadecimal}.new", "out"]
    (tmp_path / "out" / f".verify.json.{hexadecimal}.tmp").write_text("{")  # of a verify that was killed
    export_onnx(str(bert), tmp_path / "out", force=True)
    assert load_encoder(str(tmp_path / "out")).dim == 16


def test_a_full_disk_leaves_nothing_and_names_the_place(bert, tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(onnx, "save_model", full)
    for precision in ("fp16", "int8"):
        with pytest.raises(ExportError, match="out cannot be written: No space left on device; nothing was changed"):
            export_onnx(str(bert), tmp_path / "out", precision=precision)
        assert list(tmp_path.iterdir()) == []


def test_a_fused_copy_appears_whole_or_not_at_all(exported_bert, tmp_path, monkeypatch):
    directory = shutil.copytree(exported_bert, tmp_path / "out")
    shutil.rmtree(directory / "fused")

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(onnx, "save_model", full)
        assert "unfused: the copy cannot be made ([Errno 28]" in verify(directory).fusion
    assert list((directory / "fused").iterdir()) == []
    assert verify(directory).fusion.startswith("fused")
    assert sorted(path.suffix for path in (directory / "fused").iterdir()) == [".json", ".onnx"]


def test_facts_of_another_version(exported_bert, tmp_path):
    directory = shutil.copytree(exported_bert, tmp_path / "out")
    facts = json.loads((directory / "export.json").read_text())
    del facts["sha256"]  # as in an export of an earlier version
    for change, message in (
        ({"precision": "int4"}, "precision: invalid enum value 'int4'"),
        ({"schema_version": 1}, "schema version 1"),
        ({"source": None}, "source: expected str, got null"),
        ({"file": "../x.onnx", "graph_sha256": "0"}, "graph_sha256: expected str"),
    ):
        (directory / "export.json").write_text(json.dumps({**facts, **change}))
        with pytest.raises(ModelError, match=message):
            load_encoder(str(directory))


def test_an_unknown_precision(bert, tmp_path):
    with pytest.raises(ValueError, match="fp32, fp16 or int8, not 'int4'"):
        export_onnx(str(bert), tmp_path / "out", precision="int4")


def test_the_default_model_exports_equal_to_its_source(default_model):
    result = json.loads((default_model / "verify.json").read_text())
    in_f32 = [row for row in result["runtimes"].values() if row["precision"] == "f32"]
    assert len(in_f32) >= 2
    assert all(row["min_cosine"] > 0.99999 for row in in_f32)
    assert "6 Attention" in result["fusion"]
    documents = [Document("a", "The ferry to Port Ellery left at seven."), Document("b", "long text " * 400)]
    exported = load_encoder(str(default_model), precision="f32")
    for a, b in zip(load_encoder("nuner-mini").encode(documents), exported.encode(documents), strict=True):
        np.testing.assert_allclose(a.vectors, b.vectors, atol=1e-4)
