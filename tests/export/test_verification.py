import json
import shutil

import onnx
import pytest
from command import run
from fakes import tiny_model

from nuner_embed import verify
from nuner_embed.errors import CorpusError, ExportError, ModelError
from nuner_embed.models.onnx_export import graph_sha256


@pytest.fixture
def model(exported_bert, tmp_path):
    return shutil.copytree(exported_bert, tmp_path / "model")


def put_back(directory, change):
    """Changes the graph and makes `export.json` agree, as a bad conversion would."""
    graph = onnx.load(directory / "model.onnx")
    change(graph)
    onnx.save(graph, directory / "model.onnx")
    facts = json.loads((directory / "export.json").read_text())
    del facts["sha256"]  # as in an export of an earlier version
    facts["graph_sha256"] = graph_sha256(directory / "model.onnx")
    (directory / "export.json").write_text(json.dumps(facts))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "recipe.json", "reference.npz"])
@pytest.mark.parametrize("harm", ["changed", "gone", "a folder"])
def test_a_file_that_is_not_the_one_that_was_exported(model, name, harm):
    path = model / name
    data = path.read_bytes()
    path.unlink()
    if harm == "changed":
        path.write_bytes(data + b" ")
    elif harm == "a folder":
        path.mkdir()
    with pytest.raises((ExportError, ModelError), match=name.replace(".", r"\.")):
        verify(model)


def test_a_field_of_the_facts_is_changed(model):
    facts = json.loads((model / "export.json").read_text())
    (model / "export.json").write_text(json.dumps({**facts, "opset": 1}))
    with pytest.raises(ModelError, match=r"export\.json is not what was written"):
        verify(model)


def test_an_export_of_an_earlier_version_lists_no_files(model):
    facts = json.loads((model / "export.json").read_text())
    (model / "export.json").write_text(json.dumps({key: facts[key] for key in facts if key not in ("files", "sha256")}))
    assert verify(model).passed


def test_it_passes_without_source_or_torch(model):
    result = verify(model)
    assert result.passed
    values = json.loads((model / "verify.json").read_text())
    assert values["passed"] is True
    assert values["gates"]["f32"] == {"min_cosine": 0.9999}
    assert {"onnx", "onnx-unfused", "openvino"} <= set(values["runtimes"])
    wanted = {"min_cosine", "mean_cosine", "max_abs", "neighbour_overlap", "speed_ratio", "bytes"}
    assert wanted <= set(values["runtimes"]["onnx"])
    assert values["runtimes"]["onnx"]["speed_ratio"] == 1.0  # of itself: there is no source here
    assert values["runtimes"]["onnx"]["bytes"] == (model / "model.onnx").stat().st_size


def test_a_broken_weight_makes_the_gate_fall(model):
    def nudge(graph):
        weight = next(w for w in graph.graph.initializer if list(w.dims) == [320, 16])
        values = onnx.numpy_helper.to_array(weight).copy()
        values[:, 0] += 0.02
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))

    put_back(model, nudge)
    result = verify(model)
    assert not result.passed
    assert all(not row.passed for row in result.rows)
    assert all(0 < row.agreement.min_cosine < 0.9999 for row in result.rows)
    assert "onnx in f32: minimum cosine 0.9" in result.failures()
    assert json.loads((model / "verify.json").read_text())["passed"] is False


def test_a_number_that_is_none_makes_the_gate_fall(model):
    def poison(graph):
        weight = next(w for w in graph.graph.initializer if list(w.dims) == [320, 16])
        values = onnx.numpy_helper.to_array(weight).copy()
        values[2] = float("nan")  # of [CLS], which every token attends to
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))

    put_back(model, poison)
    assert not verify(model).passed
    values = json.loads((model / "verify.json").read_text(), parse_constant=pytest.fail)
    assert values["runtimes"]["onnx"]["max_abs"] is None


def test_a_graph_that_does_not_run_makes_the_gate_fall(model):
    put_back(model, lambda graph: graph.graph.node.pop())
    result = verify(model)
    assert not result.passed
    assert "onnxruntime cannot load" in result.failures()
    assert result.to_dict()["runtimes"]["onnx"]["speed_ratio"] is None


def test_on_text_of_ones_own(bert, model, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the ferry left at seven\n" * 30)
    result = verify(model, corpus, source=str(bert))
    assert result.passed
    assert result.baseline[0].startswith("torch")
    assert result.tokens == 40 + 30 * 7  # a full window, and the lines with their special tokens


def test_on_words_in_columns_of_ones_own(bert, model, tmp_path):
    (tmp_path / "c.conll").write_text("the\tO\tO\nferry\tB-boat\tO\n")
    command = ["verify", model, "c.conll", "--source", bert]
    done = run(*command, "--tag-column", 9, cwd=tmp_path, check=1)
    assert "c.conll: --tag-column 9: there are fields 1 to 3" in done.stderr
    assert json.loads(run(*command, "--tag-column", "none", "--json", cwd=tmp_path, check=0).stdout)["passed"]


def test_the_source_must_be_the_source(bert, model, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the ferry left at seven\n")
    with pytest.raises(ExportError, match=r"needs the source, which was called bert: name its directory with --source"):
        verify(model, corpus)
    other = tiny_model("bert", tmp_path / "other", seed=1)
    with pytest.raises(ExportError, match="other is not the source of .*: its weights differ"):
        verify(model, corpus, source=str(other))
    with pytest.raises(CorpusError, match="missing.txt"):
        verify(model, tmp_path / "missing.txt", source=str(bert))


def test_what_is_no_export(bert, model, tmp_path):
    with pytest.raises(ExportError, match="holds no graph; nuner-embed export"):
        verify(bert)
    facts = json.loads((model / "export.json").read_text())  # as in an export of an earlier version
    (model / "export.json").write_text(json.dumps({key: facts[key] for key in facts if key not in ("files", "sha256")}))
    whole = (model / "reference.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (b"", b"PK", b"a text", whole[:3000], bytes(flipped)):
        (model / "reference.npz").write_bytes(damaged)
        with pytest.raises(ModelError, match="reference.npz is missing or damaged; export the model again"):
            verify(model)
