"""The threshold that a corpus with few mentions asks of a probe."""

from dataclasses import replace

import pytest
from fakes import HashSpec

from nuner_embed import score_tagger, train_probe
from nuner_embed.documents import Document, Span
from nuner_embed.heads import linear
from nuner_embed.heads.features import embed_words
from nuner_embed.heads.linear import prevalence_sample, rare_threshold

TRAINING = [
    Document("a", "the ferry left at seven", spans=(Span(4, 9, "boat"),)),
    Document("b", "an ferry in the Zürich", spans=(Span(3, 8, "boat"),)),
]
RARE = [
    Document(str(i), "in seven the left at an Zürich the seven left" + " ferry" * (i % 40 == 0)) for i in range(160)
]
DENSE = [Document(str(i), "the ferry left at seven an ferry in Zürich the") for i in range(160)]


def with_facts(tagger, facts):
    return replace(tagger, head=replace(tagger.head, facts=facts))


@pytest.fixture
def tagger(tmp_path):
    return train_probe(TRAINING, HashSpec(dim=32).load(), C=10.0, cache=tmp_path)


@pytest.mark.parametrize(
    ("learnt", "found", "threshold"),
    [
        (0.10, 0.20, 0.5),
        (0.10, 0.02, 0.5),
        (0.10, 0.005, 2 / 3),  # a quarter of a fifth: odds 2
        (0.08, 0.001, 0.8),  # a sixteenth of a fifth: odds 4
        (0.08, 0.0001, 0.9),
        (0.08, 0.0, 0.9),
    ],
)
def test_the_odds_are_the_root_of_how_many_times_less_than_a_fifth_is_found(learnt, found, threshold):
    assert rare_threshold(learnt, found) == pytest.approx(threshold)


def test_rare_mentions_raise_the_threshold_and_dense_ones_do_not(tagger):
    assert tagger.head.facts.training.mention_words / tagger.head.facts.training.words == 0.2
    assert sum(len(one.spans) for one in tagger.tag(RARE)) == 4
    assert tagger.threshold_for(RARE) == rare_threshold(0.2, 4 / 1604) > 0.75
    assert tagger.threshold_for(DENSE) == 0.5
    told = []
    tagger.threshold_for(RARE, lambda *step: told.append(step))
    assert told[-1] == ("counting mentions", 160, 160)


def test_too_few_words_say_nothing(tagger):
    assert tagger.threshold_for(RARE[1:90]) == 0.5  # 892, two of them boats
    assert tagger.threshold_for(RARE[1:102]) == pytest.approx(rare_threshold(0.2, 2 / 1012))
    assert tagger.threshold_for([]) == tagger.threshold_for("") == 0.5


def test_probes_that_know_how_rare_their_types_are_keep_their_threshold(tagger):
    facts = tagger.head.facts
    taught = replace(facts, training=replace(facts.training, background_words=4000))
    assert with_facts(tagger, taught).threshold_for(RARE) == 0.5
    earlier = replace(facts, training=replace(facts.training, mention_words=0))  # written before they were counted
    assert with_facts(tagger, earlier).threshold_for(RARE) == 0.5
    named = replace(earlier, parameters={**facts.parameters, "threshold": 0.1})
    assert with_facts(tagger, named).threshold_for(RARE) == 0.1


def test_long_documents_and_many_are_cut(monkeypatch):
    words = tuple((i, i + 4) for i in range(0, 50_000, 5))
    long = Document("long", "word " * 10_000, spans=(Span(0, 4, "x"),), words=words)
    assert prevalence_sample([long]) == []  # 400 words are left
    sample = prevalence_sample([long] * 100)
    assert len(sample) == 25
    assert {(len(one.text), one.words, one.spans) for one in sample} == {(2000, None, ())}
    monkeypatch.setattr(linear, "_LEAST_WORDS", 10)
    assert len(prevalence_sample([long])) == 1


def test_scores_are_at_the_threshold_asked_for(tagger, tmp_path):
    documents = [Document("x", "seven ferry the", spans=(Span(6, 11, "boat"),))]
    assert score_tagger(tagger, documents, cache=tmp_path).span_micro_f1 == 1
    assert score_tagger(tagger, documents, threshold=0.5, cache=tmp_path).span_micro_f1 == 1
    assert score_tagger(tagger, documents, threshold=0.9999999, cache=tmp_path).span_micro_f1 == 0
    with pytest.raises(ValueError, match="threshold must be between 0 and 1"):
        score_tagger(tagger, documents, threshold=1.0, cache=tmp_path)


def test_class_numbers_are_of_the_words_that_are_tagged(tagger):
    features = embed_words(tagger.encoder, RARE)
    for threshold in (None, 0.3, 0.95):
        tagged = [one.text[s.start : s.end].split() for one in tagger.tag(RARE, threshold) for s in one.spans]
        assert (tagger.head.label(features, threshold=threshold) > 0).sum() == sum(map(len, tagged))
