"""What cosines mean, measured."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import HashSpec

from nuner_embed.documents import Document, Span
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.errors import ModelError
from nuner_embed.evaluation.calibration import Pairs, compare
from nuner_embed.evaluation.concept_map import ConceptMap, count_concepts, lay_out
from nuner_embed.models.concept_facts import Calibration, ConceptFacts

ENCODER = HashSpec(dim=16).load()
CONCEPTS = ConceptEncoder("fake", Path("fake"), ENCODER, ConceptFacts(ENCODER.weights_sha256, "mean", {}))


def documents(rounds=12):
    found = []
    for number in range(rounds):
        text = "the ferry left kiel"
        spans = (Span(4, 9, "ferry"), Span(4, 9, "boat"), Span(15, 19, "kiel"), Span(0, 3, None), Span(10, 14, "rare"))
        found.append(Document(str(number), text, spans=spans if number == 0 else spans[:3]))
    return found


def test_mentions_meet_names():
    pairs = compare(ENCODER, CONCEPTS, documents())
    assert pairs.types == ("boat", "ferry", "kiel")
    assert pairs.holds.sum(axis=0).tolist() == [12, 12, 12]
    ferries = pairs.holds[:, 1]
    assert np.array_equal(ferries, pairs.holds[:, 0])  # one mention of two types
    assert np.allclose(pairs.cosines[ferries, 1], 1, atol=1e-5)


def test_the_fit_is_calibrated():
    random = np.random.default_rng(0)
    cosines = random.uniform(-1, 1, (4000, 2))
    holds = random.random((4000, 2)) < 1 / (1 + np.exp(-(6 * cosines - np.array([2, 4]))))
    pairs = Pairs(("a", "b"), cosines, holds)
    found = CONCEPTS.calibrated(pairs.fit("made up"))
    p = found.probabilities(cosines)
    assert p.mean() == pytest.approx(holds.mean(), rel=1e-2)
    assert found.facts.calibration.slope == pytest.approx(6, rel=0.25)
    bins = pairs.bins(p)
    assert sum(one.pairs for one in bins) == 8000
    assert all(one.low - 1e-9 <= one.said <= one.low + 0.1 + 1e-9 for one in bins)
    assert all(abs(one.said - one.seen) < 0.12 for one in bins)


def test_too_little_is_said():
    with pytest.raises(ModelError, match="no type has 10 mentions"):
        compare(ENCODER, CONCEPTS, documents(9))
    alone = [Document(str(i), "the ferry", spans=(Span(4, 9, "ferry"), Span(0, 3, " "))) for i in range(12)]
    with pytest.raises(ModelError, match="one type has 10 mentions"):
        compare(ENCODER, CONCEPTS, alone)
    with pytest.raises(ModelError, match="all mentions are of type 'a'"):
        Pairs(("a",), np.ones((3, 1)), np.ones((3, 1), bool)).fit("made up")


@pytest.mark.parametrize(
    ("cosines", "holds", "message"),
    [
        ([0.9, 0.8, 0.1, 0.2], [1, 1, 0, 0], r"\(cosine 0.800 or more\) .* \(0.200 or less\), .* slope is infinite"),
        ([0.9, 0.5, 0.5, 0.2], [1, 1, 0, 0], "slope is infinite"),  # they touch
        ([0.9, 0.9, 0.1, 0.1], [1, 1, 0, 0], "slope is infinite"),
        (
            [0.1, 0.2, 0.8, 0.9],
            [1, 1, 0, 0],
            r"no nearer .* own types \(mean cosine 0.150\) than to .* \(0.850\)",
        ),
        ([0.1, 0.5, 0.4, 0.9], [1, 1, 0, 0], "no nearer to their own types"),
        ([0.5, 0.5, 0.5, 0.5], [1, 1, 0, 0], "no nearer to their own types"),
        ([0.5, np.nan, 0.4, 0.9], [1, 1, 0, 0], "not finite numbers"),
        ([0.5, 0.1, 0.4, 0.9], [0, 0, 0, 0], "no mention with a token"),
    ],
)
def test_no_slope_or_none_above_0_is_refused(cosines, holds, message):
    pairs = Pairs(("a", "b"), np.array(cosines).reshape(2, 2), np.array(holds, bool).reshape(2, 2))
    with pytest.raises(ModelError, match=message):
        pairs.fit("made up")


@pytest.mark.parametrize("slope", [float("inf"), -1.0, 0.0, float("nan")])
def test_a_calibration_that_an_older_version_wrote_is_refused(tmp_path, slope):
    CONCEPTS.calibrated(Calibration(2.0, 0.0, "x")).facts.write(tmp_path)
    assert ConceptFacts.read(tmp_path).calibration == Calibration(2.0, 0.0, "x")
    path = tmp_path / "concepts.json"
    path.write_text(path.read_text().replace("2.0", json.dumps(slope)))
    with pytest.raises(ModelError, match="calibration: a calibration needs a finite slope above 0"):
        ConceptFacts.read(tmp_path)


def test_with_the_papers_loss_inner_products_are_compared():
    plain = ConceptEncoder("fake", Path("fake"), ENCODER, replace(CONCEPTS.facts, similarity={"temperature": 5.0}))
    assert (CONCEPTS.metric, plain.metric) == ("cosine", "dot")
    vectors = plain.encode(["ferry", "old boat"])
    assert not np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.allclose(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), CONCEPTS.encode(["ferry", "old boat"]))
    ferries = compare(ENCODER, plain, documents()).cosines[:, 1]
    assert ferries.max() == pytest.approx(float(vectors[0] @ vectors[0]), rel=1e-4)


def test_many_mentions_are_drawn_from(monkeypatch):
    import nuner_embed.evaluation.calibration as module

    monkeypatch.setattr(module, "_MENTIONS", 15)
    pairs = compare(ENCODER, CONCEPTS, documents())
    assert len(pairs.holds) <= 15
    assert pairs.holds.any(axis=0).all()


def concept_map():
    names = ["<script>alert(1)</script>", "$x$", *(f"name {i}" for i in range(10))]
    places = np.linspace(0, 1, 24).reshape(12, 2)
    return ConceptMap(tuple(names), np.arange(12, 0, -1), places, np.linspace(0, 1, 36).reshape(12, 3), "a <model>")


def test_the_page_is_whole_and_harmless():
    page = concept_map().page().decode()
    assert "http" not in page
    assert "<script>alert" not in page
    assert "a &lt;model&gt;" in page
    assert page.count("name 3") == 1


def test_the_picture():
    pytest.importorskip("matplotlib")
    assert concept_map().picture().startswith(b"\x89PNG")


@pytest.mark.slow
def test_laid_out_the_same_again():
    pytest.importorskip("umap")
    names = [f"{a} {b}" for a in ("red", "old", "the", "an") for b in ("ferry", "kiel", "boat", "lund")]
    spans = [Document("d", "x", spans=tuple(Span(0, 1, name) for name in names + names[:2] + ["z " * 99]))]
    counts = count_concepts(spans)
    first, again = (lay_out(CONCEPTS, counts, 15) for _ in range(2))
    assert len(first.names) == 15
    assert first.names[:2] == tuple(sorted(names[:2]))
    assert first.counts.tolist() == [2, 2, *[1] * 13]
    assert np.array_equal(first.places, again.places)
    assert first.places.min() >= 0
    assert first.places.max() <= 1
    with pytest.raises(ModelError, match="a map of 9 concepts shows nothing"):
        lay_out(CONCEPTS, counts, 9)
