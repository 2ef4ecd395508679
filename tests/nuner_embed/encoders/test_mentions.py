"""Mentions that were found, not given. The fake encoder gives a token one vector: a probe knows words by sight."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fakes import HashSpec

from nuner_embed.corpora.corpus import Corpus
from nuner_embed.documents import Document
from nuner_embed.encoders import mentions
from nuner_embed.encoders.mentions import Found, embed_detected
from nuner_embed.errors import StoreError, StoreMismatch
from nuner_embed.heads.detector import ProbeDetector
from nuner_embed.heads.linear import ProbeWeights
from nuner_embed.jobs.encoding import run_job
from nuner_embed.jobs.options import JobOptions
from nuner_embed.store.reader import Store

TEXTS = ["the ferry left", "red", "an old ferry red at seven", "", "ferry ferry", "no more " * 30 + "ferry left"]
SPEC = HashSpec(dim=16)


def vector(word):
    encoder = SPEC.load()
    ids = encoder.tokenizer.encode([word])[0][0]
    return encoder.runtime.states(np.array([ids]), np.ones((1, len(ids)), np.int64))[0, 0]


def detector(types=("ENTITY",), words=("ferry",), **changes):
    """Knows some words, each of a type."""
    seen = np.stack([vector(word) for word in words])
    coef = np.vstack([np.zeros(16), 40 * np.linalg.pinv(seen).T]).astype(np.float32)
    intercept = np.array([0.0, *[-20.0] * len(words)], np.float32)
    weights = ProbeWeights(np.arange(len(words) + 1), coef, intercept)
    return replace(ProbeDetector(weights, types, SPEC.load().semantic_hash), **changes)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("detecting") / "c.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS if text))
    return path


def job(corpus, directory, spec=SPEC, **options):
    run_job(Corpus([corpus]), directory, JobOptions(spec, **{"granularity": "mention", **options}))
    return Store.open(directory)


class TwoWords:
    """Finds every word with the word after it."""

    semantic_hash, facts = "", {}

    def find(self, documents, words):
        document = np.repeat(np.arange(len(documents)), np.diff(words.bounds))
        pairs = np.flatnonzero(document[1:] == document[:-1])
        start, end = words.start[pairs], words.end[pairs + 1]
        return Found(document[pairs], start, end, [None] * len(pairs), np.ones(len(pairs)))


@pytest.mark.parametrize("normalize", [False, True])
def test_mentions_in_float16_are_averaged_from_float32(normalize):
    encoder = replace(SPEC.load(), recipe=SPEC.load().recipe.replace(normalize=normalize))
    table = encoder.tokenize([Document(str(i), text) for i, text in enumerate(TEXTS)], "word")
    exact, half = (embed_detected(encoder, table, TwoWords(), dtype=dtype) for dtype in ("float32", "float16"))
    assert len(exact.vectors) == len(half.vectors) > 0
    assert half.found == exact.found
    assert half.vectors.dtype == np.float16
    np.testing.assert_array_equal(half.vectors, exact.vectors.astype(np.float16))


@pytest.mark.parametrize("words", [1, 5, 7])
def test_documents_are_searched_some_after_the_others(words, monkeypatch):
    encoder, documents = SPEC.load(), [Document(str(i), text) for i, text in enumerate([*TEXTS, "", *TEXTS, ""])]
    table = encoder.tokenize(documents, "word")
    whole = embed_detected(encoder, table, TwoWords())
    asked = []

    class Asked(TwoWords):
        def find(self, documents, words):
            asked.append([document.id for document in documents])
            return super().find(documents, words)

    monkeypatch.setattr(mentions, "_WORDS_AT_ONCE", words)
    parts = embed_detected(encoder, table, Asked())
    assert len(asked) > 6
    assert [identity for some in asked for identity in some] == [document.id for document in documents]
    assert parts.found == whole.found
    assert np.array_equal(parts.vectors, whole.vectors)
    assert np.array_equal(parts.rows.document, whole.rows.document)


def test_in_no_document_nothing_is_found():
    encoder = SPEC.load()
    assert embed_detected(encoder, encoder.tokenize([], "word"), TwoWords()).found == ()


def test_what_is_found_is_embedded_as_if_it_had_been_given(tmp_path, corpus):
    store = job(corpus, tmp_path / "found", detector=detector())
    rows = store.table().to_pylist()
    assert [row["text"] for row in rows] == ["ferry", "ferry", "ferry ferry", "ferry"]
    assert all(row["label"] is None and row["score"] > 0.99 for row in rows)
    assert [row["mention"] for row in rows] == [0, 0, 0, 0]
    spans = {}
    for row in rows:
        spans.setdefault(row["document_id"], []).append({"start": row["start"], "end": row["end"]})
    lines = [json.loads(line) for line in corpus.read_text().splitlines()]
    given = tmp_path / "given.jsonl"
    given.write_text(
        "".join(
            json.dumps({**line, "spans": spans.get(f"c.jsonl:{i}", [])}) + "\n" for i, line in enumerate(lines, start=1)
        )
    )
    same = job(given, tmp_path / "given")
    assert np.array_equal(store.vectors(np.arange(4)), same.vectors(np.arange(4)))


def test_types_of_the_probe_become_labels(tmp_path, corpus):
    store = job(corpus, tmp_path / "s", detector=detector(("boat", "colour"), ("ferry", "red")))
    found = [(row["text"], row["label"]) for row in store.table().to_pylist()]
    assert found[:4] == [("ferry", "boat"), ("red", "colour"), ("ferry", "boat"), ("red", "colour")]


def test_in_several_processes_and_by_small_shards_it_is_the_same(tmp_path, corpus):
    whole = job(corpus, tmp_path / "whole", detector=detector(), shard_rows=2)
    two = job(corpus, tmp_path / "two", detector=detector(), shard_rows=2, workers=2)
    assert len(whole.manifest["shards"]) > 2
    assert [shard["sha256"] for shard in whole.manifest["shards"]] == [
        shard["sha256"] for shard in two.manifest["shards"]
    ]


def test_a_store_remembers_its_detector(tmp_path, corpus):
    job(corpus, tmp_path / "s", detector=detector())
    job(corpus, tmp_path / "s", detector=detector())  # complete already
    with pytest.raises(StoreMismatch, match="detector threshold was 0.5 and is now 0.6"):
        job(corpus, tmp_path / "s", detector=detector(threshold=0.6))
    with pytest.raises(StoreError, match="reads the words of another model or recipe"):
        job(corpus, tmp_path / "t", detector=detector(semantic_hash="another"))
    with pytest.raises(StoreError, match="--mentions detect finds some"):
        job(corpus, tmp_path / "u")
    with pytest.raises(ValueError, match="with rows of words there is nothing to find"):
        JobOptions(HashSpec(), granularity="word", detector=detector())


def test_truncated_texts(tmp_path, corpus):
    """The ferry at the end of the long text lies beyond the window."""
    store = job(corpus, tmp_path / "s", detector=detector(), overflow="truncate")
    assert [row["text"] for row in store.table().to_pylist()] == ["ferry", "ferry", "ferry ferry"]
    (line,) = (tmp_path / "s" / "coverage.jsonl").read_text().splitlines()
    assert json.loads(line)["dropped_tokens"] > 0


def test_a_mention_that_the_end_cuts_is_counted(tmp_path):
    """Of the last word, of several pieces, the first alone lies within the window of 30 tokens."""
    text = "the " * 29 + "ferryred"
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": text}) + "\n")
    tokens = SPEC.load().tokenizer.encode([text])[0][0]
    assert len(tokens) > 30
    word = tokens[29]
    seen = SPEC.load().runtime.states(np.array([[word]]), np.ones((1, 1), np.int64))[0]
    weights = ProbeWeights(
        np.arange(2), np.vstack([np.zeros(16), 40 * np.linalg.pinv(seen).T]).astype(np.float32), np.array([0.0, -20.0])
    )
    store = job(tmp_path / "c.jsonl", tmp_path / "s", detector=detector(weights=weights), overflow="truncate")
    assert [row["text"] for row in store.table().to_pylist()] == ["ferryred"]
    assert json.loads((tmp_path / "s" / "coverage.jsonl").read_text())["cut_mentions"] == 1


def test_function_words_and_punctuation_are_no_mentions(tmp_path):
    """The detector takes "of", "the", "'" and "ferry" for parts of mentions; what it finds is trimmed."""
    path = tmp_path / "c.jsonl"
    texts = ["left of ferry", "of", "seven ' of", "red ferry ' left", "the ferry at seven"]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    find = detector(("ENTITY",), ("of", "'", "ferry", "the"))
    weights = find.weights
    merged = ProbeWeights(np.array([0, 1, 1, 1, 1]), weights.coef, weights.intercept)
    store = job(path, tmp_path / "s", detector=replace(find, weights=merged))
    assert [row["text"] for row in store.table().to_pylist()] == ["ferry", "ferry", "the ferry"]
    typed = job(path, tmp_path / "t", detector=replace(find, weights=merged, types=("WORD",)))
    found = ["of ferry", "of", "' of", "ferry '", "the ferry"]
    assert [row["text"] for row in typed.table().to_pylist()] == found


def test_a_store_begun_without_trimming_is_not_gone_on_with(tmp_path, corpus):
    job(corpus, tmp_path / "s", detector=detector())
    manifest = tmp_path / "s" / "manifest.json"
    values = json.loads(manifest.read_text())
    assert values["detector"].pop("trimmed") == "English function words and punctuation, 1"
    manifest.write_text(json.dumps(values))
    with pytest.raises(StoreMismatch, match="detector trimmed was None and is now English function words"):
        job(corpus, tmp_path / "s", detector=detector())


@pytest.mark.parametrize("threshold", [0, 1, -1.0, float("nan")])
def test_a_threshold_is_a_probability(threshold):
    with pytest.raises(ValueError, match="threshold must be between 0 and 1"):
        detector(threshold=threshold)
