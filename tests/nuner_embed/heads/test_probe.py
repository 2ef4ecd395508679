"""Words of texts that nobody annotated, learnt from as words of no type."""

import numpy as np
import pytest
from fakes import HashSpec

from nuner_embed import train_probe
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.documents import Document, Span
from nuner_embed.errors import CorpusError, ProbeError
from nuner_embed.heads import probe
from nuner_embed.heads.probe import background_words
from nuner_embed.jobs.encoding import run_job
from nuner_embed.jobs.options import JobOptions

SPEC = HashSpec(dim=32)
TRAINING = [
    Document("a", "the ferry left at seven", spans=(Span(4, 9, "boat"),)),
    Document("b", "an ferry in Zürich", spans=(Span(3, 8, "boat"),)),
]
# every word but one of the training texts, and the type itself among very many others
OTHERS = "\n".join(f"{a} {b} {c} d" for a in "abcghijk" for b in "lmnopqr" for c in "uvwxyz") + "\nthe ferry\n"


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "others.txt"
    path.write_text(OTHERS)
    return path


def false_alarms(tagger, texts):
    documents = [one for one in Corpus([texts]) if isinstance(one, Document)]
    return [one.text[s.start : s.end] for one in tagger.tag(documents) for s in one.spans if "ferry" not in one.text]


def test_a_rare_type_does_not_drown_in_false_alarms(tmp_path, texts):
    """In eight dimensions seven words say little of what else there is: the letters of 98 texts look like boats."""
    encoder = HashSpec(dim=8).load()
    plain = train_probe(TRAINING, encoder, C=1.0, cache=tmp_path)
    assert len(false_alarms(plain, texts)) > 50
    taught = train_probe(TRAINING, encoder, C=1.0, background=texts, cache=tmp_path)
    assert false_alarms(taught, texts) == []
    (found,) = taught.tag([Document("x", "seven left the ferry")])
    assert [(found.text[span.start : span.end], span.label) for span in found.spans] == [("ferry", "boat")]


def test_what_it_learnt_from_stands_in_the_probe(tmp_path, texts):
    encoder = SPEC.load()
    plain = train_probe(TRAINING, encoder, cache=tmp_path).head.facts
    assert (plain.training.words, plain.training.mention_words, plain.training.background_words) == (9, 2, 0)
    assert plain.parameters["class_weight"] == "sqrt"
    facts = train_probe(TRAINING, encoder, background=texts, cache=tmp_path).head.facts
    assert facts.training.background_words == OTHERS.count(" ") + OTHERS.count("\n")
    assert facts.parameters["class_weight"] == "balanced"
    asked = train_probe(TRAINING, encoder, background=texts, class_weight="sqrt", cache=tmp_path)
    assert asked.head.facts.parameters["class_weight"] == "sqrt"


def test_a_store_gives_the_words_of_its_corpus(tmp_path, texts, monkeypatch):
    encoder = SPEC.load()
    run_job(Corpus([texts]), tmp_path / "s", JobOptions(SPEC, granularity="word", dtype="float32"))
    of_texts = background_words(texts, encoder, cache=tmp_path)
    assert np.array_equal(background_words(tmp_path / "s", encoder), of_texts)
    monkeypatch.setattr(probe, "BACKGROUND_WORDS", 50)
    some = background_words(texts, encoder, cache=tmp_path)
    assert some.shape == (50, 32)
    assert np.array_equal(some, background_words(tmp_path / "s", encoder))
    assert not np.array_equal(some, background_words(tmp_path / "s", encoder, seed=1))


def test_backgrounds_that_are_none(tmp_path, texts):
    encoder = SPEC.load()
    run_job(Corpus([texts]), tmp_path / "tokens", JobOptions(SPEC, granularity="token"))
    run_job(Corpus([texts]), tmp_path / "other", JobOptions(HashSpec(dim=32, max_length=24), granularity="word"))
    for store, holds in (("tokens", "tokens"), ("other", "words")):
        with pytest.raises(ProbeError, match=f"holds {holds} of .* encode with --rows word, or name the corpus"):
            background_words(tmp_path / store, encoder)
    with pytest.raises(CorpusError, match="no such file"):
        background_words(tmp_path / "gone.txt", encoder)
    (tmp_path / "wordless.txt").write_text("\u200b\n")
    with pytest.raises(ProbeError, match="holds no word; name other texts as a background"):
        background_words(tmp_path / "wordless.txt", encoder, cache=tmp_path)
