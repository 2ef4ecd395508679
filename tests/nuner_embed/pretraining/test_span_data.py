"""The data of the objective spans: which words are mentions, of which concepts, and what is embedded."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import HashRuntime, HashSpec, hash_encoder

from nuner_embed.arguments import silent
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.models.concept_facts import Calibration, ConceptFacts
from nuner_embed.pretraining.examples import make_batch
from nuner_embed.pretraining.folder import FEATURES
from nuner_embed.pretraining.settings import PretrainSettings
from nuner_embed.pretraining.span_data import AnnotatedCorpus, Concepts, SpanSource
from nuner_embed.pretraining.thesaurus import Thesaurus

DIM = 16
LINES = [
    ("the ferry left at seven", [(4, 9, "ferry"), (4, 9, "in"), (18, 23, "seven")]),
    ("an ferry", [(0, 8, "ferry"), (0, 2, "")]),
    ("the ferry in Zürich", [(13, 19, "Zürich"), (3, 4, "ferry")]),
    ("seven in the ferry", []),
]
SETTINGS = PretrainSettings.preset("spans", validation=0.0)


@pytest.fixture
def corpus(tmp_path):
    lines = (
        {
            "text": text,
            "spans": [{"start": a, "end": b, **({"label": label} if label else {})} for a, b, label in spans],
        }
        for text, spans in LINES
    )
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return AnnotatedCorpus([tmp_path / "c.jsonl"], {}, None, tmp_path / "work")


def concepts():
    encoder = HashSpec(dim=DIM).load()
    facts = ConceptFacts(encoder.weights_sha256, "mean", {}, Calibration(20.0, -10.0, "a guess"))
    return ConceptEncoder("fake", Path("fake"), encoder, facts)


def prepared(corpus, settings=SETTINGS):
    return corpus.prepare(hash_encoder(runtime=HashRuntime(DIM)), concepts(), settings, silent)


def test_spans_become_words(corpus):
    found, words = prepared(corpus)
    examples = found.examples
    assert words.shape == (5 + 2 + 4 + 4, DIM)
    assert examples.bounds.tolist() == [0, 5, 7, 11, 15]
    ranges = zip(
        examples.piece, examples.first, examples.last, (examples.labels[i] for i in examples.label), strict=True
    )
    assert [tuple(one) for one in ranges] == [
        (0, 1, 2, "ferry"), (0, 1, 2, "in"), (0, 4, 5, "seven"), (1, 0, 2, "ferry"), (2, 3, 4, "Zürich"),
    ]  # fmt: skip


def test_a_batch_holds_the_mentions_with_their_concepts_and_what_the_thesaurus_adds(corpus):
    found, words = prepared(corpus)
    examples = found.examples
    thesaurus = Thesaurus({"ferry": ("the",)}, {"ferry": ("seven",)}, "0" * 64)
    known = Concepts.of(examples.labels, thesaurus, concepts(), silent)
    assert len(known.vectors) == len(examples.labels) + 1  # "seven" is a label already
    source = SpanSource(examples, words, known, torch.device("cpu"))
    (batch,) = source.feed(make_batch(examples, np.array([0, 1, 2, 3])))
    mentions = zip(batch.first.tolist(), batch.length.tolist(), batch.holds.tolist(), strict=True)
    by_words = {}
    for first, length, holds in mentions:
        names = [tuple(batch.concepts[i].tolist()) for i, one in enumerate(holds) if one]
        by_words[tuple(batch.rows[first, :4].tolist()), length] = set(names)
    vector = {name: tuple(concepts().encode([name])[0].tolist()) for name in ("ferry", "in", "seven", "Zürich", "the")}
    expected = {
        (1, 1): {"ferry", "in", "the", "seven"},  # the word, its number; see LINES
        (4, 1): {"seven"},
        (5, 2): {"ferry", "the", "seven"},
        (10, 1): {"Zürich"},
    }
    assert by_words == {
        (tuple(words[word, :4].tolist()), length): {vector[name] for name in names}
        for (word, length), names in expected.items()
    }


def test_a_sample_is_drawn_before_the_texts_are_embedded(corpus):
    whole, _ = prepared(corpus)
    some, words = prepared(replace(corpus, work=corpus.work.with_name("other")), replace(SETTINGS, sample=2))
    (file,) = (corpus.work.with_name("other") / FEATURES).glob("*.sqlite")
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM texts").fetchone() == (2,)
    assert some.examples.documents == 2
    assert len(words) == some.examples.bounds[-1] < whole.examples.bounds[-1]
    assert set(some.examples.text) < set(whole.examples.text)
