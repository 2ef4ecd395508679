"""What callers may give in place of a list of documents or names, and what is shown of what they get."""

from dataclasses import replace

import pytest
from fakes import HashRuntime, hash_encoder, wordpiece

from nuner_embed import Corpus, Document, Span, train_probe
from nuner_embed.arguments import as_documents, as_names, as_paths
from nuner_embed.errors import ProbeError
from nuner_embed.evaluation.fewshot import TypedSet
from nuner_embed.evaluation.metrics import comparable_types
from nuner_embed.heads.detector import ProbeDetector
from nuner_embed.heads.support_set import choose_support

TEXTS = ["the ferry left", "seven left in the ferry"]
TRAINING = [
    Document("a", TEXTS[0], spans=(Span(4, 9, "boat"),)),
    Document("b", TEXTS[1], spans=(Span(0, 5, "time"), Span(18, 23, "boat"))),
]


@pytest.fixture
def tagger(tmp_path):
    return train_probe(TRAINING, hash_encoder(runtime=HashRuntime(dim=32)), C=10.0, cache=tmp_path)


def test_one_thing_is_a_list_of_one():
    assert as_paths("a/b.txt") == ["a/b.txt"]
    assert as_names("city") == ["city"]
    assert as_documents("seven") == [Document("0", "seven")]
    assert as_documents(TRAINING[0]) == [TRAINING[0]]
    assert as_documents(("seven", TRAINING[0], "ferry")) == [
        Document("0", "seven"),
        TRAINING[0],
        Document("2", "ferry"),
    ]
    with pytest.raises(TypeError, match="expected a text or a Document, found tuple"):
        as_documents([("a", 1)])


def test_a_tagger_takes_texts(tagger):
    found = tagger.tag(TEXTS)
    assert [(one.id, one.text) for one in found] == [("0", TEXTS[0]), ("1", TEXTS[1])]
    assert [[(span.start, span.end, span.label) for span in one.spans] for one in found] == [
        [(span.start, span.end, span.label) for span in one.spans] for one in TRAINING
    ]
    assert tagger.tag(TEXTS[0]) == found[:1]
    assert tagger.tag([TRAINING[1], TEXTS[0]])[0].id == "b"


def test_an_encoder_takes_texts():
    encoder = hash_encoder()
    together = encoder.encode(TEXTS)
    assert [one.document_id for one in together] == ["0", "1"]
    for text, one in zip(TEXTS, together, strict=True):
        (alone,) = encoder.encode(text)
        assert [text[a:b] for a, b in alone.offsets] == text.split()
        assert (alone.vectors == one.vectors).all()
        assert (alone.vectors == encoder.encode([Document("x", text)])[0].vectors).all()


def test_one_type_is_a_name_and_no_letters(tagger):
    assert choose_support(TRAINING, types="boat").types == ("boat",)
    assert comparable_types(tagger.head, TRAINING, "time") == ["time"]
    with pytest.raises(ProbeError, match="holds no mention of ship; its types are boat, time"):
        choose_support(TRAINING, types="ship")
    with pytest.raises(ProbeError, match="holds no annotated mention"):
        choose_support(TEXTS)


def test_what_is_shown_of_large_things_is_one_short_line(tagger, tmp_path):
    assert repr(tagger) == f"Tagger(2 types: boat, time; {tagger.encoder!r})"
    assert repr(tagger.encoder) == "TextEncoder('', dim 32, hash)"
    assert repr(wordpiece()) == f"TextTokenizer(WordPiece, {wordpiece().backend.get_vocab_size()} tokens)"
    assert repr(tagger.head.weights) == "ProbeWeights(3 classes, dim 32)"
    assert repr(hash_encoder().encode("the ferry")[0]) == "TokenEmbeddings('0', 2 tokens, dim 8)"
    (tmp_path / "c.txt").write_text("\n".join(f"{number} ferries" for number in range(1000)))
    types = tuple(f"type {number}" for number in range(1000))
    many = replace(tagger, head=replace(tagger.head, facts=replace(tagger.head.facts, types=types)))
    survey = Corpus(tmp_path / "c.txt").survey()
    for shown in (
        many,
        many.head.facts,
        ProbeDetector(tagger.head.weights, types, "hash"),
        choose_support(TRAINING * 1000),
        TypedSet("sea", tuple(TRAINING * 1000), tuple(TRAINING), "hash"),
        survey,
    ):
        assert len(repr(shown)) < 300, repr(shown)[:300]
        assert "\n" not in repr(shown)
