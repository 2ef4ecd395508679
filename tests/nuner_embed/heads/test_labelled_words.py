"""Mentions to labelled words and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuner_embed.documents import Document, Span, join_words
from nuner_embed.errors import ProbeError
from nuner_embed.heads.labelled_words import (
    WordFeatures,
    WordLabels,
    count_matrix,
    count_mentions,
    require_known,
    runs_of,
    types_among,
)
from nuner_embed.tags import BIO, PLAIN, tags_to_spans

TYPES = ["A", "B"]


def features_of(documents):
    """Words without vectors."""
    counts = [len(document.words) for document in documents]
    starts = np.array([start for document in documents for start, _ in document.words], dtype=np.int64)
    ends = np.array([end for document in documents for _, end in document.words], dtype=np.int64)
    return WordFeatures(np.cumsum([0, *counts]), starts, ends, np.zeros((len(starts), 1), np.float32))


def tagged(tags, number=0):
    text, words = join_words([f"w{i}" for i in range(len(tags))])
    return Document(str(number), text, words, tags_to_spans(tags, words, BIO))


@given(st.lists(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), min_size=1, max_size=8), max_size=5))
def test_the_labels_and_mentions_are_those_of_the_tags(sentences):
    documents = [tagged(tags, i) for i, tags in enumerate(sentences)]
    features = features_of(documents)
    labels = WordLabels.of(documents, features, TYPES)
    flat = [tag for tags in sentences for tag in tags]
    assert labels.codes.tolist() == [0 if tag == "O" else 1 + TYPES.index(tag[2:]) for tag in flat]
    assert labels.lost == 0
    expected = [
        (int(features.bounds[i]) + document.words.index(next(w for w in document.words if w[0] == span.start)), span)
        for i, document in enumerate(documents)
        for span in document.spans
    ]
    assert labels.mentions.first.tolist() == [first for first, _ in expected]
    assert [TYPES[code - 1] for code in labels.mentions.code] == [span.label for _, span in expected]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=7), min_size=1, max_size=5))
def test_runs_are_what_plain_tags_read_as(sentences):
    bounds = np.cumsum([0, *map(len, sentences)])
    runs = runs_of(np.array([code for codes in sentences for code in codes]), bounds)
    expected = []
    for base, codes in zip(bounds, sentences, strict=False):
        words = [(i, i + 1) for i in range(len(codes))]
        tags = ["O" if code == 0 else TYPES[code - 1] for code in codes]
        expected += [
            (base + span.start, base + span.end, 1 + TYPES.index(span.label))
            for span in tags_to_spans(tags, words, PLAIN)
        ]
    assert list(zip(runs.first, runs.last, runs.code, strict=True)) == expected


def test_empty_documents_between_others():
    runs = runs_of(np.array([1, 1, 1]), np.array([0, 0, 2, 2, 3, 3]))
    assert runs.first.tolist() == [0, 2]
    assert runs.last.tolist() == [2, 3]


def test_overlapping_mentions_are_counted_as_lost_only_among_the_types_asked_for():
    text, words = join_words(["New", "York", "Times"])
    document = Document("d", text, words, (Span(0, 8, "A"), Span(0, 14, "B")))
    features = features_of([document])
    both = WordLabels.of([document], features, ["A", "B"])
    assert (both.codes.tolist(), both.lost) == ([1, 1, 0], 1)
    one = WordLabels.of([document], features, ["B"])
    assert (one.codes.tolist(), one.lost) == ([1, 1, 1], 0)


def test_a_span_that_says_it_is_no_mention():
    counts = count_mentions([Document("d", "x y", spans=(Span(0, 1, "O"), Span(2, 3, "None")))])
    assert counts == {"O": 1, "None": 1}
    assert types_among(counts) == ["None"]


def test_unlabelled_spans_are_entities():
    assert count_mentions([Document("d", "x", spans=(Span(0, 1),))]) == {"ENTITY": 1}


def test_only_what_can_be_learnt_counts():
    text = "New York Times \u200b"
    spans = (Span(0, 8, "A"), Span(0, 14, "B"), Span(9, 14, "B"), Span(14, 15, "A"), Span(4, 8, "C"))
    document = Document("d", text, spans=spans)
    assert count_matrix([document], ["A", "B"]).tolist() == [[1, 1]]
    assert count_matrix([document], ["B"]).tolist() == [[1]]
    assert count_matrix([document, Document("e", "")], ["A", "B"], "words").tolist() == [[2, 1], [0, 0]]
    assert count_matrix([Document("d", "ab", words=((0, 2),), spans=(Span(1, 2, "A"),))], ["A"], "words") == [[1]]


def test_unknown_types_are_named():
    with pytest.raises(ProbeError, match="d holds the types c, which the probe does not know; it knows a, b"):
        require_known(["a", "c"], ["b", "a"], "d")
