"""A linear head in the graph of its encoder."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import pytest
from command import run
from fakes import tiny_model

import nuner_embed
from nuner_embed import Document, Span, export_onnx, load_encoder, verify
from nuner_embed.bundled import bundled_texts
from nuner_embed.errors import ExportError, ProbeError
from nuner_embed.export import head as module
from nuner_embed.heads.features import embed_words
from nuner_embed.heads.io import open_head
from nuner_embed.models.onnx_export import altered

EXAMPLE = Path(__file__).parents[2] / "examples" / "head_in_onnx.py"
TRAINING = [
    Document("a", "the ferry left Kiel", spans=(Span(4, 9, "boat"), Span(15, 19, "city"))),
    Document("b", "an old raft in Oslo", spans=(Span(7, 11, "boat"), Span(15, 19, "city"))),
]
TEXT = "the old ferry left Kiel, in Oslo"


@pytest.fixture(scope="module")
def probe(bert, tmp_path_factory):
    """A probe for the tiny transformer."""
    folder = tmp_path_factory.mktemp("probes")
    nuner_embed.train_probe(TRAINING, load_encoder(str(bert)), C=10.0, cache=folder / "cache").save(folder / "probe")
    return folder / "probe"


@pytest.fixture(scope="module")
def exported(bert, probe, tmp_path_factory):
    directory = tmp_path_factory.mktemp("with-head") / "out"
    with mock.patch("nuner_embed.export.exporter.bundled_texts", return_value=bundled_texts()[::12]):
        return directory, export_onnx(str(bert), directory, head=probe)


def test_the_second_output_and_how_to_read_it(exported):
    directory, result = exported
    assert result.head.words > 20
    assert result.head.beyond_margin == 0
    assert result.head.max_difference < 1e-4
    graph = onnx.load(directory / "model.onnx").graph
    assert [(one.name, one.type.tensor_type.shape.dim[2].dim_value) for one in graph.output] == [
        ("token_embeddings", 16), ("probabilities", 3),
    ]  # fmt: skip
    values = json.loads((directory / "head.json").read_text())
    assert values["classes"] == ["O", "boat", "city"]
    assert (values["threshold"], values["pooling"], values["max_length"]) == (0.5, "first", 40)
    assert values["compared"]["words"] == result.head.words
    assert json.loads((directory / "verify.json").read_text())["head"] == values["compared"]
    assert altered(directory) == []


@pytest.mark.parametrize("runtime", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_encodings_stay_as_they_are(exported, exported_bert, runtime):
    here, there = (
        load_encoder(str(directory), runtime=runtime, precision="f32") for directory in (exported[0], exported_bert)
    )
    assert here.semantic_hash == there.semantic_hash
    np.testing.assert_array_equal(here.encode([TEXT])[0].vectors, there.encode([TEXT])[0].vectors)


def test_the_example_gives_the_labels_of_the_head(exported, bert, probe):
    done = subprocess.run([sys.executable, EXAMPLE, exported[0], TEXT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head = open_head(probe)
    features = embed_words(load_encoder(str(bert)), [Document("a", TEXT)])
    names = ["O", *head.types]
    probabilities = head.weights.probabilities(features.vectors).max(axis=1)
    expected = [
        (TEXT[start:end], names[code], round(float(probability), 2))
        for start, end, code, probability in zip(
            features.start, features.end, head.label(features), probabilities, strict=True
        )
    ]
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(word, label, pytest.approx(float(score), abs=0.006)) for word, label, score in rows] == expected


def test_a_changed_head_file_is_noticed(exported, tmp_path):
    for name in ("export.json", "head.json"):
        shutil.copy(exported[0] / name, tmp_path)
    (tmp_path / "head.json").write_text("{}")
    assert str(tmp_path / "head.json") in altered(tmp_path)


def test_the_example_stands_in_the_docs():
    code = EXAMPLE.read_text().split('"""\n', 2)[-1].strip()
    assert code in (EXAMPLE.parents[1] / "docs" / "export.md").read_text()


@pytest.mark.slow
def test_unit_vectors_and_classes_that_are_missing(bert, tmp_path):
    encoder = load_encoder(str(bert), normalize=True)
    head = nuner_embed.train_probe(TRAINING, encoder, C=10.0, cache=tmp_path / "cache").head
    more = replace(head, facts=replace(head.facts, types=("boat", "city", "moon")))
    more.save(tmp_path / "probe")
    result = export_onnx(str(bert), tmp_path / "out", head=tmp_path / "probe")
    assert (result.head.beyond_margin, result.head.max_difference < 1e-4) == (0, True)
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    (found,) = session.run(["probabilities"], {"input_ids": [[5, 6, 7]], "attention_mask": [[1, 1, 1]]})
    assert (found[:, :, 3] == 0).all()
    np.testing.assert_allclose(found.sum(axis=2), 1, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "deberta-v2", "mpnet"])
def test_tokenizers_of_other_kinds(family, tmp_path):
    source = tiny_model(family, tmp_path / family)
    encoder = load_encoder(str(source))
    nuner_embed.train_probe(TRAINING, encoder, C=10.0, cache=tmp_path / "cache").save(tmp_path / "probe")
    result = export_onnx(str(source), tmp_path / "out", head=tmp_path / "probe")
    assert (result.head.words > 100, result.head.beyond_margin) == (True, 0)


def test_labels_that_differ_fail_the_export(bert, probe, tmp_path, monkeypatch):
    append = module.append_head

    def swapped(path, head):
        weights = replace(head.weights, coef=head.weights.coef[::-1].copy())
        append(path, replace(head, weights=weights))

    monkeypatch.setattr(module, "append_head", swapped)
    with pytest.raises(ExportError, match=r"does not label as the head in Python: [1-9]\d* of .* nothing was written"):
        export_onnx(str(bert), tmp_path / "out", head=probe)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"precision": "int8"}, "a head is exported in fp32 only, not in int8"),
        ({"layers": (-1, -2)}, r"the head reads the layers \[-1\] and the export has \[-1, -2\]"),
    ],
)
def test_what_a_head_does_not_go_with(bert, probe, tmp_path, changes, said):
    with pytest.raises(ExportError, match=said):
        export_onnx(str(bert), tmp_path / "out", head=probe, **changes)


def test_heads_that_cannot_be_exported(bert, copy, tmp_path):
    def made(name, **recipe):
        encoder = load_encoder(str(bert), **recipe)
        nuner_embed.train_probe(TRAINING, encoder, cache=tmp_path / "cache").save(tmp_path / name)
        return tmp_path / name

    for name, recipe, said in (
        ("mean", {"pooling": "mean"}, "reads a word at its mean pieces"),
        ("layers", {"layers": (-1, -2)}, r"the head reads the layers \[-1, -2\]"),
    ):
        with pytest.raises(ExportError, match=said):
            export_onnx(str(bert), tmp_path / "out", head=made(name, **recipe))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.1}))
    with pytest.raises(ExportError, match=r"this head was made for .* not for "):
        export_onnx(str(copy), tmp_path / "out", head=made("first"))
    with pytest.raises(ProbeError, match="nowhere holds no probe"):
        export_onnx(str(bert), tmp_path / "out", head=tmp_path / "nowhere")


def test_a_head_typed_by_names_is_refused(bert, tmp_path):
    from nuner_embed.heads.detector import GivenSpans
    from nuner_embed.heads.named import LinearTyper, MentionHead

    encoder = load_encoder(str(bert))
    linear = nuner_embed.train_probe(TRAINING, encoder, cache=tmp_path / "cache").head
    typer = LinearTyper(linear.types, linear.weights)
    MentionHead.of(encoder, GivenSpans(encoder.semantic_hash), typer, 0.3).save(tmp_path / "probe")
    with pytest.raises(ExportError, match="only a linear head"):
        export_onnx(str(bert), tmp_path / "out", head=tmp_path / "probe")


@pytest.mark.slow
def test_verify_and_a_second_export_of_the_directory(bert, probe, tmp_path):
    command = ["export", bert, "-o", "out", "--head", probe]
    done = run(*command, cwd=tmp_path, check=0)
    assert "with another label, probabilities within" in done.stdout
    assert verify(tmp_path / "out").passed
    assert run(*command, cwd=tmp_path).returncode == 1
    again = nuner_embed.train_probe(TRAINING, load_encoder(str(tmp_path / "out")), cache=tmp_path / "cache")
    again.save(tmp_path / "again")  # a probe of the exported model is one of the model
    run("export", bert, "-o", "out", "--force", "--head", "again", cwd=tmp_path, check=0)
    run("export", bert, "-o", "out", "--force", cwd=tmp_path, check=0)
    assert not (tmp_path / "out" / "head.json").exists()


def test_of_a_head_that_belongs_to_a_model_only_its_files_are_exported(bert, probe, tmp_path):
    model, directory = tmp_path / "model", tmp_path / "out"
    shutil.copytree(bert, model)
    shutil.copytree(probe, model / "span_head")
    head = sorted(path.name for path in (model / "span_head").iterdir())
    (model / "span_head" / "notes.txt").write_text("mine\n")
    (model / "span_head" / "older").mkdir()
    with mock.patch("nuner_embed.export.exporter.bundled_texts", return_value=bundled_texts()[::12]):
        export_onnx(str(model), directory)
    assert sorted(path.name for path in (directory / "span_head").iterdir()) == head
