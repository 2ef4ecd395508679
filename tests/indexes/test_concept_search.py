"""Searching by the names of types. The fake encoder gives a token one vector, so a type's name finds its own words."""

import json
from pathlib import Path

import numpy as np
import pytest
from fakes import HashSpec

from nuner_embed.corpora.corpus import Corpus
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.errors import IndexBundleError, ModelError, StoreMismatch
from nuner_embed.indexes import Index, at_least, find_concepts
from nuner_embed.jobs.encoding import run_job
from nuner_embed.jobs.options import JobOptions
from nuner_embed.models.concept_facts import Calibration, ConceptFacts

TEXTS = ["the ferry left", "an old ferry", "the red ferry", "a red boat", "old boat", "red"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("concepts")
    lines = [json.dumps({"text": text, "spans": [{"start": 0, "end": len(text)}]}) + "\n" for text in TEXTS]
    (folder / "c.jsonl").write_text("".join(lines))
    for name, layers in (("rows", (-1,)), ("first", (-2,))):
        spec = HashSpec(dim=16, layers=layers)
        run_job(Corpus([folder / "c.jsonl"]), folder / name, JobOptions(spec, granularity="mention"))
    return folder


@pytest.fixture(scope="module")
def index(folder):
    return Index.build(folder / "rows", folder / "index")


def concepts(calibration=None, pooling="mean", of=None):
    encoder = HashSpec(dim=16).load()
    return ConceptEncoder(
        "fake", Path("fake"), encoder, ConceptFacts(of or encoder.weights_sha256, pooling, {}, calibration)
    )


CALIBRATED = Calibration(8.0, -4.0, "a guess")


def texts(hits):
    return [hit["text"] for hit in hits.to_pylist()]


def test_a_names_vector_is_the_mean_of_its_tokens():
    encoder = concepts().encoder
    ids = encoder.tokenizer.encode(["red ferry"])[0][0]
    expected = encoder.runtime.states(np.array([ids]), np.ones((1, len(ids)), np.int64))[0].mean(axis=0)
    vectors = concepts().encode(["boat", "red ferry", *(["a"] * 40)])
    assert np.allclose(vectors[1], expected / np.linalg.norm(expected), atol=1e-6)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    first = concepts(pooling="first").encode(["boat", "red ferry"])
    assert np.array_equal(first[0], first[1])  # the special token's, the same for all in this fake


@pytest.mark.parametrize("name", ["", "  ", "red " * 600])
def test_what_is_no_name(name):
    with pytest.raises(ValueError, match="a concept is the name of an entity type of 1 to"):
        concepts().encode([name])


def test_by_one_name(index):
    hits = find_concepts(index, concepts(), ["red"], k=3)
    assert texts(hits)[0] == "red"
    assert hits["score"][0].as_py() == pytest.approx(1, abs=1e-3)
    cosines = hits["score"].to_numpy()
    calibrated = find_concepts(index, concepts(CALIBRATED), ["red"], k=3)
    assert texts(calibrated) == texts(hits)
    assert np.allclose(calibrated["score"].to_numpy(), 1 / (1 + np.exp(4 - 8 * cosines)), atol=1e-5)
    assert texts(at_least(calibrated, calibrated["score"][1].as_py())) == texts(hits)[:2]


@pytest.mark.parametrize("calibration", [None, CALIBRATED])
def test_by_several_names(index, calibration):
    assert texts(find_concepts(index, concepts(calibration), ["red", "ferry"], k=1)) == ["the red ferry"]
    hits = find_concepts(index, concepts(calibration), ["red"], ["ferry"], k=len(TEXTS))
    assert texts(hits).index("a red boat") < texts(hits).index("the red ferry")
    assert hits["rank"].to_pylist() == list(range(1, len(TEXTS) + 1))
    assert hits["score"].to_pylist() == sorted(hits["score"].to_pylist(), reverse=True)


def test_several_names_score_as_the_formula_says(index):
    """Every row is looked at, so this is the exact order."""
    encoder = concepts(CALIBRATED)
    cosines = index.vectors(index.ids()) @ encoder.encode(["red", "boat", "old"]).T
    p = 1 / (1 + np.exp(4 - 8 * cosines))
    expected = np.sort(p[:, 0] * p[:, 1] * (1 - p[:, 2]))[::-1]
    hits = find_concepts(index, encoder, ["red", "boat"], ["old"], k=len(TEXTS))
    assert np.allclose(hits["score"].to_numpy(), expected, atol=1e-5)


def test_of_one_text_the_best_row_is_kept(folder):
    """The two red ferries differ in case alone; by the direction of both names the other one may come first."""
    lines = [{"text": text, "spans": [{"start": 0, "end": len(text)}]} for text in (*TEXTS, "The RED ferry", "RED")]
    (folder / "u.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run_job(Corpus([folder / "u.jsonl"]), folder / "u", JobOptions(HashSpec(dim=16), granularity="mention"))
    index = Index.build(folder / "u", folder / "u-index")
    every = find_concepts(index, concepts(CALIBRATED), ["red"], ["old"], k=20).to_pylist()
    some = find_concepts(index, concepts(CALIBRATED), ["red"], ["old"], k=20, unique="surface").to_pylist()
    best = {}
    for hit in every:
        best.setdefault(hit["text"].casefold(), hit["score"])
    assert [hit["score"] for hit in some] == list(best.values())
    assert len(every) == len(some) + 2


def test_options_of_find_count(index):
    hits = find_concepts(index, concepts(), ["red"], k=2, filter="text != 'red'")
    assert "red" not in texts(hits)
    assert len(texts(hits)) == 2


def test_what_does_not_belong_together_is_refused(folder, index):
    with pytest.raises(StoreMismatch, match="to which the concept encoder of fake does not belong"):
        find_concepts(index, concepts(of="another"), ["red"])
    with pytest.raises(ValueError, match="at least one"):
        find_concepts(index, concepts(), [])
    with pytest.raises(
        IndexBundleError,
        match="uses the metric l2; concepts of fake are compared by cosine: build",
    ):
        find_concepts(Index.build(folder / "rows", folder / "l2", metric="l2"), concepts(), ["red"])
    with pytest.raises(IndexBundleError, match="concepts can be compared with the last layer only"):
        find_concepts(Index.build(folder / "first", folder / "first-index"), concepts(), ["red"])
    with pytest.raises(ModelError, match="is not calibrated"):
        concepts().probabilities(np.zeros(1))


def test_facts_come_back_as_they_were(tmp_path):
    for facts in (ConceptFacts("a" * 64, "mean", {"scale": 20.0}, CALIBRATED), ConceptFacts("0" * 64, "first", {})):
        facts.write(tmp_path)
        assert ConceptFacts.read(tmp_path) == facts
    for wrong in ("", "{}", '{"schema_version": 2, "calibration": null}', "[]"):
        (tmp_path / "concepts.json").write_text(wrong)
        with pytest.raises(ModelError, match=r"concepts\.json (cannot be read|is not the facts|has schema version 2)"):
            ConceptFacts.read(tmp_path)
    (tmp_path / "concepts.json").unlink()
    with pytest.raises(ModelError, match="is missing"):
        ConceptFacts.read(tmp_path)
