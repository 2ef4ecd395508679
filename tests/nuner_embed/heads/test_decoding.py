"""Mentions of a trained probe: from words, and from a detector's mentions."""

import pytest
from fakes import HashRuntime, hash_encoder

from nuner_embed.documents import Document, Span
from nuner_embed.errors import ProbeError
from nuner_embed.heads.decoding import SPAN_THRESHOLD, by_mentions, share_found
from nuner_embed.heads.detector import ProbeDetector
from nuner_embed.heads.io import open_head
from nuner_embed.heads.probe import train_probe

TEXT = "the red ferry left kiel"
RED, FERRY, RED_FERRY, KIEL = Span(4, 7, "COLOUR"), Span(8, 13, "SHIP"), Span(4, 13), Span(19, 23, "CITY")


@pytest.fixture
def encoder():
    return hash_encoder(runtime=HashRuntime(64))


@pytest.fixture
def detector(encoder, tmp_path):
    """Finds "red ferry" and "kiel"."""
    examples = [Document("d", TEXT, spans=(RED_FERRY, Span(19, 23)))]
    head = train_probe(examples, encoder, C=100.0, cache=tmp_path).head
    return ProbeDetector(head.weights, head.types, head.semantic_hash)


def trained(encoder, folder, *spans):
    return train_probe([Document("d", TEXT, spans=spans)], encoder, C=100.0, cache=folder)


def found(tagger):
    return [(TEXT[span.start : span.end], span.label) for span in tagger.tag([TEXT])[0].spans]


def test_the_detector_draws_the_bounds_and_the_probe_types(encoder, detector, tmp_path):
    tagger = trained(encoder, tmp_path, RED, FERRY, KIEL)
    assert found(tagger) == [("red", "COLOUR"), ("ferry", "SHIP"), ("kiel", "CITY")]
    spans = by_mentions(tagger, detector)
    assert [text for text, _ in found(spans)] == ["red ferry", "kiel"]
    assert found(spans)[1] == ("kiel", "CITY")
    assert spans.head.threshold == SPAN_THRESHOLD
    spans.save(tmp_path / "spans")
    again = open_head(tmp_path / "spans")
    assert again.tag(encoder, [Document("d", TEXT)])[0].spans == spans.tag([TEXT])[0].spans


def test_the_share_that_is_found_counts_mentions_of_the_types_alone(encoder, detector, tmp_path):
    documents = [Document("d", TEXT, spans=(RED, FERRY, KIEL))]
    assert share_found(trained(encoder, tmp_path, RED, FERRY, KIEL), detector, documents, tmp_path) == pytest.approx(
        1 / 3
    )
    assert share_found(trained(encoder, tmp_path, KIEL), detector, documents, tmp_path) == 1
    assert share_found(trained(encoder, tmp_path, RED), detector, documents, tmp_path) == 0
    assert share_found(trained(encoder, tmp_path, KIEL), detector, [Document("d", TEXT)], tmp_path) == 0


def test_a_detector_of_another_encoder_is_refused(encoder, detector, tmp_path):
    other = ProbeDetector(detector.weights, detector.types, "0" * 64)
    with pytest.raises(ProbeError, match="detector reads the words of another model"):
        by_mentions(trained(encoder, tmp_path, KIEL), other)


def test_what_the_probe_takes_for_no_type_is_no_mention(encoder, detector, tmp_path):
    spans = by_mentions(trained(encoder, tmp_path, KIEL), detector)
    assert "red ferry" not in dict(found(spans))
    assert [span.label for span in spans.tag([TEXT], threshold=1e-6)[0].spans] == ["CITY", "CITY"]
