"""How a span head decides: the type by what is usual for it, the mention by the probability."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import HashRuntime, hash_encoder

from nuner_embed.heads.features import embed_words
from nuner_embed.heads.span_scorer import PARTS, WIDTH, SpanScorer
from nuner_embed.heads.spans import SpanFacts, SpanHead

DIM, HIDDEN = 16, 2
TEXT = "ferry seven"


@pytest.fixture
def head():
    """Single words are mentions; BROAD fits all kinds of mentions, NARROW the word "ferry" alone, and less well."""
    encoder = hash_encoder(runtime=HashRuntime(DIM))
    (word, other) = embed_words(encoder, encoder_documents()).vectors
    widths = np.full((WIDTH, HIDDEN), -9.0, np.float32)
    widths[0] = 1.0
    output, bias = np.zeros((HIDDEN, DIM + 1), np.float32), np.zeros(DIM + 1, np.float32)
    output[:, -1], bias[-1] = 6.0, -5.0
    words = np.zeros((DIM, PARTS * HIDDEN), np.float32)
    scorer = SpanScorer(words, widths, output, bias, 1.0, 0.0, "dot")
    pair = np.stack([word, other]).astype(np.float64)
    inverse = np.linalg.pinv(pair)
    broad, narrow = inverse @ np.array([2.0, 2.0]), inverse @ np.array([1.5, -4.0])  # log-odds of both words
    recipe = encoder.recipe.to_dict()
    facts = SpanFacts(
        encoder.semantic_hash, "fake", recipe, ("BROAD", "NARROW"), 1.0, 0.0, "dot", (("thing",), ("ship",))
    )
    usual = np.stack([other] * 9 + [word]).astype(np.float32)
    return SpanHead(scorer, usual, np.stack([broad, narrow]).astype(np.float32), facts), encoder


def encoder_documents():
    from nuner_embed.documents import Document

    return [Document("0", TEXT)]


def tagged(made, threshold=None):
    (found,) = made[0].tag(made[1], encoder_documents(), threshold, scores=True)
    return {TEXT[s.start : s.end]: s for s in found.spans}


def test_a_type_must_be_more_probable_than_is_usual_for_it(head):
    found = tagged(head)
    assert {text: span.label for text, span in found.items()} == {"ferry": "NARROW", "seven": "BROAD"}
    scores = found["ferry"].scores
    assert scores["BROAD"] > scores["NARROW"] == found["ferry"].score  # which alone would have decided otherwise


def test_the_threshold_is_on_the_probability_itself(head):
    lower, higher = (tagged(head)[text].score for text in ("ferry", "seven"))
    assert set(tagged(head, (lower + higher) / 2)) == {"seven"}
    assert tagged(head, 0.999) == {}


def test_without_types_all_mentions_are_found(head):
    made, encoder = head
    none = replace(made.facts, types=(), names=())
    untyped = replace(made, vectors=np.empty((0, DIM), np.float32), facts=none)
    assert {text: (s.label, s.scores) for text, s in tagged((untyped, encoder)).items()} == {
        "ferry": (None, None),
        "seven": (None, None),
    }
