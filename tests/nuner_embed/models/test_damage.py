"""Models, exports, shipped models and what is remembered of them, damaged at random: one line, or the same numbers."""

import json
import random
import shutil

import numpy as np
import pytest
from mutating import copied, mutate
from safetensors.numpy import load_file, save_file

from nuner_embed import load_encoder, verify
from nuner_embed.errors import NunerEmbedError
from nuner_embed.models.concept_facts import ConceptFacts
from nuner_embed.models.delta import compose, ship
from nuner_embed.models.snapshot import save_model
from nuner_embed.runtimes.measurements import Measurement

TEXTS = ["the ferry left at seven", "Zürich 7"]
MANY = pytest.param(400, marks=pytest.mark.slow)


def encoded(directory, **options):
    encoder = load_encoder(str(directory), max_length=20, precision="f32", **options)
    return [one.vectors for one in encoder.encode(TEXTS)]


def one_line(error):
    assert "\n" not in str(error), str(error)
    assert "Traceback" not in str(error)


@pytest.mark.parametrize("count", [2, MANY])
def test_a_damaged_model(bert, tmp_path, count):
    chance = random.Random(7)
    for number in range(count):
        directory = copied(bert, tmp_path / "copy")
        what = mutate(directory, chance)
        try:
            encoded(directory)
            if number % 10 == 0:
                save_model(str(directory), tmp_path / f"saved{number}")
        except NunerEmbedError as error:
            one_line(error)
        except BaseException as error:
            raise AssertionError(f"{number}: {what}") from error


@pytest.mark.parametrize("count", [2, MANY])
def test_a_damaged_export(exported_bert, tmp_path, count):
    chance = random.Random(8)
    for number in range(count):
        directory = copied(exported_bert, tmp_path / "copy")
        what = mutate(directory, chance)
        try:
            encoded(directory, runtime="onnx")
            if "reference" in what or "onnxruntime" in what or number % 20 == 0:
                verify(directory)
        except NunerEmbedError as error:
            one_line(error)
        except BaseException as error:
            raise AssertionError(f"{number}: {what}") from error


@pytest.mark.parametrize("count", [2, MANY])
def test_a_damaged_shipped_or_composed_model(tmp_path, monkeypatch, count):
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path / "cache"))
    chance = random.Random(9)
    draw = np.random.default_rng(0)
    base = {f"layer.{i}": draw.standard_normal((4, 3)).astype(np.float32) for i in range(4)}
    for folder, change in (("base", 0), ("made", 1), ("made/concept_encoder", 2)):
        (tmp_path / folder).mkdir()
        save_file({**base, "layer.0": base["layer.0"] + change}, tmp_path / folder / "model.safetensors")
    (tmp_path / "base" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "made" / "recipe.json").write_text('{"layers": [-1]}')
    (tmp_path / "made" / "README.md").write_text("a card")
    ConceptFacts("0" * 64, "mean", {"scale": 2.0}).write(tmp_path / "made" / "concept_encoder")
    ship(tmp_path / "made", tmp_path / "base", tmp_path / "shipped")
    composed = compose("m", tmp_path / "shipped", lambda: tmp_path / "base")
    whole = shutil.copytree(composed, tmp_path / "whole")
    for number in range(count):
        shipped = copied(tmp_path / "shipped", tmp_path / "damaged")
        copied(whole, composed)
        what = mutate(shipped if number % 2 else composed, chance)
        try:
            found = compose("m", shipped, lambda: tmp_path / "base")
            for name in ("model.safetensors", "concept_encoder/model.safetensors"):
                expected = load_file(whole / name)
                assert all(np.array_equal(value, expected[key]) for key, value in load_file(found / name).items())
        except NunerEmbedError as error:
            one_line(error)
        except BaseException as error:
            raise AssertionError(f"{number}: {what}") from error


@pytest.mark.parametrize("count", [2, MANY])
def test_damaged_facts_of_a_concept_encoder(tmp_path, count):
    chance = random.Random(10)
    for number in range(count):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        (tmp_path / "copy").mkdir()
        ConceptFacts("0" * 64, "mean", {"scale": 2.0, "bias": -1.0}).write(tmp_path / "copy")
        what = mutate(tmp_path / "copy", chance)
        try:
            ConceptFacts.read(tmp_path / "copy")
        except NunerEmbedError as error:
            one_line(error)
        except BaseException as error:
            raise AssertionError(f"{number}: {what}") from error


@pytest.mark.slow
def test_what_is_remembered_and_damaged_is_made_anew_quietly(exported_bert, bert, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path / "cache"))
    chance = random.Random(11)
    expected = [encoded(exported_bert), encoded(bert)]
    made = shutil.copytree(tmp_path / "cache", tmp_path / "made")
    assert {path.parent.name for path in made.rglob("*.json")} == {"runtimes", "padding"}
    for _ in range(4):
        copied(made, tmp_path / "cache")
        what = mutate(tmp_path / "cache", chance)
        for found, before in zip([encoded(exported_bert), encoded(bert)], expected, strict=True):
            for one, other in zip(found, before, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-4, err_msg=what)
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.parametrize(
    "change",
    [
        {"tokens_per_second": {}}, {"tokens_per_second": {"x": 1}}, {"tokens_per_second": [1]}, {"agreement": None},
        {"agreement": {"min_cosine": 1}}, {"passed": "yes"}, {"bytes": "many"}, {"runtime": None},
        {"streams": "two"},
    ],
)  # fmt: skip
def test_a_measurement_that_is_none(change):
    agreement = {"min_cosine": 1.0, "mean_cosine": 1.0, "max_abs": float("nan"), "neighbour_overlap": 1.0}
    values = {
        "runtime": "onnx", "precision": "f32", "description": "", "agreement": agreement, "passed": True, "bytes": 7,
        "streams": 1, "tokens_per_second": {"256": 9.5},
    }  # fmt: skip
    assert Measurement.from_dict(json.loads(json.dumps(values))).best == (256, 9.5)
    with pytest.raises(ValueError, match="."):
        Measurement.from_dict({**values, **change})
