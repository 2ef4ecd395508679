"""The contract of heads: every kind, with every finder and typer, runs through the same tests."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import HashRuntime, HashSpec, hash_encoder

from nuner_embed import train_probe
from nuner_embed.arguments import silent
from nuner_embed.documents import Document, Span
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.errors import ProbeError
from nuner_embed.heads.base import KINDS, Head
from nuner_embed.heads.detector import GivenSpans, ProbeDetector
from nuner_embed.heads.features import embed_words
from nuner_embed.heads.io import PROBE_FILE, open_head
from nuner_embed.heads.linear import LinearHead
from nuner_embed.heads.named import FINDERS, TYPERS, ConceptTyper, LinearTyper, MentionHead
from nuner_embed.heads.span_scorer import PARTS, WIDTH, SpanScorer
from nuner_embed.heads.spans import SpanFacts, SpanHead
from nuner_embed.heads.tagger import Tagger
from nuner_embed.heads.zero_shot import zero_shot_tagger
from nuner_embed.models.concept_facts import Calibration, ConceptFacts

DIM = 32
NAMES = {"PLACE": "Zürich", "SHIP": "ferry"}
TRAINING = [
    Document("a", "the ferry left Zürich", spans=(Span(4, 9, "SHIP"), Span(15, 21, "PLACE"))),
    Document("b", "at seven the ferry in", spans=(Span(13, 18, "SHIP"),)),
    Document("c", "Zürich left the in an seven", spans=(Span(0, 6, "PLACE"),)),
]
TEXT = "😀 seven\r\nthe ferry, Zürich! An ferry ferry"
FERRY, ZURICH = TEXT.index("ferry"), TEXT.index("Zürich")
GIVEN = (
    Span(FERRY - 4, FERRY + 5, "x"),
    Span(FERRY, FERRY + 5),
    Span(FERRY + 2, FERRY + 5, "O"),
    Span(ZURICH, ZURICH + 6),
)
DOCUMENTS = [
    Document("emoji", TEXT, spans=GIVEN),
    Document("empty", ""),
    Document("invisible", "\u200b", spans=(Span(0, 1),)),
    Document("words", "kielferry", words=((0, 4), (4, 9)), spans=(Span(0, 9),)),
    Document("long", "the seven " * 40 + "ferry", spans=(Span(400, 405),)),
]


def plain():
    return hash_encoder(runtime=HashRuntime(DIM))


def concepts():
    encoder = HashSpec(dim=DIM).load()
    facts = ConceptFacts(encoder.weights_sha256, "mean", {}, Calibration(20.0, -10.0, "a guess"))
    return ConceptEncoder("fake", Path("fake"), encoder, facts)


def trained(tmp_path):
    return train_probe(TRAINING, plain(), C=10.0, cache=tmp_path).head


def finder(name, head):
    given = GivenSpans(head.semantic_hash)
    return given if name == "given" else ProbeDetector(head.weights, head.types, head.semantic_hash)


def typer(name, head):
    return ConceptTyper.of(NAMES, concepts()) if name == "concepts" else LinearTyper(head.types, head.weights)


def made_of_names(tmp_path):
    tagger = zero_shot_tagger(NAMES, hash_encoder(runtime=HashRuntime(DIM), normalize=True), concepts())
    return tagger.head, tagger.encoder


def span_head():
    """Single words are mentions; the mean of the words types them."""
    hidden = 4
    widths = np.full((WIDTH, hidden), -9.0, np.float32)
    widths[0] = 1.0
    output, bias = np.zeros((hidden, DIM + 1), np.float32), np.zeros(DIM + 1, np.float32)
    output[:, -1], bias[-1] = 3.0, -5.0
    scorer = SpanScorer(np.zeros((DIM, PARTS * hidden), np.float32), widths, output, bias, 20.0, -10.0, "cosine")
    encoder = plain()
    facts = SpanFacts(encoder.semantic_hash, encoder.source, encoder.recipe.to_dict(), (), 20.0, -10.0, "cosine")
    usual = concepts().encode(list(NAMES.values())).astype(np.float16).astype(np.float32)  # as they are saved
    return SpanHead(scorer, 20 * usual, np.empty((0, DIM), np.float32), facts).named(NAMES, concepts())


HEADS = {
    "linear": lambda folder: (trained(folder), plain()),
    "linear, made of names": made_of_names,
    "spans": lambda folder: (span_head(), plain()),
    **{
        f"mentions: {f}, {t}": lambda folder, f=f, t=t: (
            MentionHead.of(plain(), finder(f, trained(folder)), typer(t, trained(folder)), 0.3),
            plain(),
        )
        for f in FINDERS
        for t in TYPERS
    },
}


@pytest.fixture(params=HEADS)
def made(request, tmp_path):
    return HEADS[request.param](tmp_path)


def test_every_kind_is_in_the_rows(tmp_path):
    assert {make(tmp_path)[0].kind for make in HEADS.values()} == set(KINDS)


def test_what_is_found_slices_the_texts(made):
    head, encoder = made
    assert isinstance(head, Head)
    found = head.tag(encoder, DOCUMENTS)
    assert [(one.id, one.text, one.words) for one in found] == [(one.id, one.text, one.words) for one in DOCUMENTS]
    assert all(0 <= s.start < s.end <= len(one.text) for one in found for s in one.spans)
    assert all(s.label in head.types and 0 < s.score <= 1 for one in found for s in one.spans)
    first = {(TEXT[s.start : s.end], s.label) for s in found[0].spans}
    assert ("Zürich", "PLACE") in first
    assert any(text.endswith("ferry") and label == "SHIP" for text, label in first)
    assert found[1].spans == found[2].spans == ()
    assert [(s.start, s.end, s.label) for s in found[4].spans] == [(400, 405, "SHIP")]  # in a window of its own


def test_scores_of_every_type_only_where_asked_for(made):
    head, encoder = made
    plain, found = head.tag(encoder, DOCUMENTS), head.tag(encoder, DOCUMENTS, scores=True)
    assert found == plain
    assert {span.scores for one in plain for span in one.spans} == {None}
    for span in (span for one in found for span in one.spans):
        assert span.scores[span.label] == pytest.approx(span.score)
        assert set(span.scores) == {*head.types, *(["O"] if isinstance(head, LinearHead) else [])}
        if isinstance(head, LinearHead):
            assert sum(span.scores.values()) == pytest.approx(1, abs=1e-5)


def test_a_score_of_a_linear_head_is_the_mean_of_the_words(tmp_path):
    head, encoder = trained(tmp_path), plain()
    text = "the ferry ferry"
    (found,) = head.tag(encoder, [Document("a", text)], scores=True)
    (span,) = found.spans
    assert text[span.start : span.end] == "ferry ferry"
    words = head.weights.probabilities(embed_words(encoder, [found]).vectors)[1:]
    names = ["O", *head.types]
    expected = {names[code]: words[:, i].mean() for i, code in enumerate(head.weights.classes)}
    assert span.scores == pytest.approx(expected, abs=1e-6)


def test_a_document_alone_and_among_others_is_the_same(made):
    head, encoder = made
    together = head.tag(encoder, DOCUMENTS)
    for one, whole in zip(DOCUMENTS, together, strict=True):
        (alone,) = head.tag(encoder, [one])
        assert [(s.start, s.end, s.label) for s in alone.spans] == [(s.start, s.end, s.label) for s in whole.spans]
        assert np.allclose([s.score for s in alone.spans], [s.score for s in whole.spans], atol=1e-5)
    assert head.tag(encoder, []) == []


def test_saved_and_opened_it_is_the_same(made, tmp_path):
    head, encoder = made
    head.save(tmp_path / "saved")
    again = open_head(tmp_path / "saved")
    assert (type(again), again.facts.types, again.semantic_hash) == (type(head), head.types, head.semantic_hash)
    assert again.threshold == head.threshold
    assert again.tag(encoder, DOCUMENTS) == head.tag(encoder, DOCUMENTS)
    assert json.loads((tmp_path / "saved" / PROBE_FILE).read_text())["kind"] == head.kind
    again.save(tmp_path / "twice")
    assert [path.read_bytes() for path in sorted((tmp_path / "twice").iterdir())] == [
        path.read_bytes() for path in sorted((tmp_path / "saved").iterdir())
    ]


def test_what_is_there_is_replaced_only_if_that_is_asked_for(made, tmp_path):
    head, encoder = made
    for save in (head.save, Tagger(encoder, head).save):
        save(tmp_path / "saved", force=True)
        before = (tmp_path / "saved" / PROBE_FILE).read_bytes()
        with pytest.raises(ProbeError, match="saved holds a probe; name another directory, or replace it with --force"):
            save(tmp_path / "saved")
        assert (tmp_path / "saved" / PROBE_FILE).read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ProbeError, match="is not a probe; name another directory"):
        head.save(tmp_path / "other", force=True)


def test_another_encoder_is_refused_naming_both(made, monkeypatch, tmp_path):
    head, encoder = made
    other = hash_encoder(runtime=HashRuntime(DIM), pooling="mean")
    asked = [
        lambda: head.tag(other, DOCUMENTS),
        lambda: Tagger(other, head).tag("the ferry"),
        lambda: Tagger.open(tmp_path / "saved", model="elsewhere"),
    ]
    head.save(tmp_path / "saved")
    monkeypatch.setattr("nuner_embed.heads.tagger.load_encoder", lambda name, threads, **recipe: other)
    for ask in asked:
        with pytest.raises(ProbeError) as caught:
            ask()
        assert encoder.semantic_hash[:12] in str(caught.value)
        assert other.semantic_hash[:12] in str(caught.value)


def test_a_threshold_is_a_probability(made):
    head, encoder = made
    assert 0 < head.threshold < 1
    assert head.tag(encoder, DOCUMENTS, head.threshold) == head.tag(encoder, DOCUMENTS)
    assert head.threshold_for(encoder, DOCUMENTS, silent) == head.threshold  # too few words to say anything else
    for wrong in (0, 1, float("nan")):
        with pytest.raises(ValueError, match="threshold must be between 0 and 1"):
            head.tag(encoder, DOCUMENTS, wrong)


def test_given_spans_stay_as_they_are_given(tmp_path):
    head, encoder = HEADS["mentions: given, concepts"](tmp_path)
    (found,) = head.tag(encoder, [replace(DOCUMENTS[0], spans=GIVEN)], 1e-6)
    assert [(s.start, s.end) for s in found.spans] == [(s.start, s.end) for s in GIVEN]  # nested ones too


@pytest.mark.parametrize("finder_", FINDERS)
@pytest.mark.parametrize("typer_", TYPERS)
def test_parts_that_do_not_fit_are_one_line(tmp_path, finder_, typer_):
    head, _ = HEADS[f"mentions: {finder_}, {typer_}"](tmp_path)
    head.save(tmp_path / "saved")
    path = tmp_path / "saved" / PROBE_FILE
    whole = json.loads(path.read_text())
    del whole["sha256"]
    damages = [("threshold", 1), ("finder", {"kind": "tree"}), ("typer", {"kind": typer_}), ("types", ["PLACE"])]
    for field, value in [*damages, ("typer", {**whole["typer"], "types": ["A"]})]:
        path.write_text(json.dumps({**whole, field: value}))
        with pytest.raises(ProbeError, match="train the probe again") as caught:
            open_head(tmp_path / "saved")
        assert "\n" not in str(caught.value)


def test_a_finder_of_another_encoder_is_refused(tmp_path):
    head = trained(tmp_path)
    with pytest.raises(ProbeError, match="reads the words of another model or recipe"):
        MentionHead.of(plain(), GivenSpans("another"), LinearTyper(head.types, head.weights), 0.5)
    assert isinstance(head, LinearHead)
