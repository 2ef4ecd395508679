"""Probes made of the names of types. The fake encoder gives a token one vector, so a name finds its own word."""

from pathlib import Path

import numpy as np
import pytest
from fakes import HashRuntime, HashSpec, hash_encoder

from nuner_embed.documents import Document
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.errors import ModelError, ProbeError
from nuner_embed.heads.classifier import LinearProbe
from nuner_embed.heads.tagger import Tagger
from nuner_embed.heads.zero_shot import labelled_types, zero_shot_tagger
from nuner_embed.models.concept_facts import Calibration, ConceptFacts

CALIBRATION = Calibration(20.0, -10.0, "a guess")


def concepts(calibration=CALIBRATION):
    encoder = HashSpec(dim=16).load()
    return ConceptEncoder("fake", Path("fake"), encoder, ConceptFacts(encoder.weights_sha256, "mean", {}, calibration))


def encoder(**recipe):
    return hash_encoder(runtime=HashRuntime(16), **{"normalize": True, **recipe})


def test_scores_are_log_odds_less_those_of_the_threshold():
    made = concepts()
    probe = LinearProbe.from_concepts(["ferry", "boat"], made, threshold=0.7)
    x = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    p = made.probabilities(x @ made.encode(["ferry", "boat"]).T)
    expected = np.where((p > 0.7).any(axis=1), p.argmax(axis=1) + 1, 0)
    assert np.array_equal(probe.predict(x), expected)
    scores = probe.decision_function(x)
    assert np.allclose(scores[:, 0], 0)
    assert np.allclose(scores[:, 1:], np.log(p / (1 - p)) - np.log(0.7 / 0.3), atol=1e-3)


def test_it_finds_mentions(tmp_path, monkeypatch):
    tagger = zero_shot_tagger({"SHIP": "ferry", "PLACE": "kiel"}, encoder(), concepts())
    assert tagger.types == ("PLACE", "SHIP")
    (found,) = tagger.tag([Document("d", "the ferry left kiel")])
    assert [(found.text[span.start : span.end], span.label) for span in found.spans] == [
        ("ferry", "SHIP"),
        ("kiel", "PLACE"),
    ]
    tagger.save(tmp_path / "p")
    monkeypatch.setattr("nuner_embed.heads.tagger.load_named_encoder", lambda *_, **__: encoder())
    again = Tagger.open(tmp_path / "p")
    assert again.head.facts == tagger.head.facts
    assert np.array_equal(again.head.weights.coef, tagger.head.weights.coef)


def test_a_later_threshold_stands_in_place_of_that_of_the_making():
    types = {"SHIP": "ferry", "PLACE": "kiel"}
    text = [Document("d", "the ferry at seven left kiel in an red")]
    made = {t: zero_shot_tagger(types, encoder(), concepts(), t) for t in (0.001, 0.1, 0.9)}
    spans = {t: [(s.start, s.end, s.label) for s in tagger.tag(text)[0].spans] for t, tagger in made.items()}
    assert spans[0.001] != spans[0.9]
    for t, tagger in made.items():
        for other in spans:
            again = tagger.tag(text, threshold=other)[0].spans
            assert [(s.start, s.end, s.label) for s in again] == spans[other], (t, other)


def test_what_cannot_be_made():
    types = {"SHIP": "ferry"}
    with pytest.raises(ProbeError, match="normalize=True"):
        zero_shot_tagger(types, encoder(normalize=False), concepts())
    with pytest.raises(ProbeError, match="normalize=True"):
        zero_shot_tagger(types, encoder(layers=(-2,)), concepts())
    other = hash_encoder(runtime=HashRuntime(16), normalize=True)
    other.weights_sha256 = "1" * 64
    other.__post_init__()
    with pytest.raises(ProbeError, match="does not belong to"):
        zero_shot_tagger(types, other, concepts())
    with pytest.raises(ProbeError, match="which stands for no entity"):
        zero_shot_tagger({"O": "ferry"}, encoder(), concepts())
    with pytest.raises(ModelError, match="fake is not calibrated"):
        zero_shot_tagger(types, encoder(), concepts(None))
    for names, threshold in (([], 0.5), (["ferry"], 1.0), (["ferry"], 0.0)):
        with pytest.raises(ValueError, match="at least one name, and a threshold between 0 and 1"):
            LinearProbe.from_concepts(names, concepts(), threshold=threshold)


def test_types_and_names_are_told_apart():
    assert labelled_types("city") == {"city": "city"}
    assert labelled_types({"LOC": ["city"], "PER": ("person", "human")}) == {"LOC": "city", "PER": ("person", "human")}
    for types, message in (
        ([], "one or more"),
        (["city", "city"], "one or more"),
        ({"LOC": []}, "one or more"),
        ({"LOC": ["city", " "]}, "one or more"),
        ({"LOC": "city", "GPE": "City"}, "LOC and GPE have one name, city"),
    ):
        with pytest.raises(ValueError, match=message):
            labelled_types(types)
