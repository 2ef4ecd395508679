"""`.spacy` files, read back with spaCy."""

import sys

import pytest
from command import run
from hypothesis import given, settings
from hypothesis import strategies as st

from nuner_embed import Document, Span
from nuner_embed.corpora.base import FORMATS, WRITERS, WriteOptions
from nuner_embed.errors import RuntimeUnavailable

spacy = pytest.importorskip("spacy")
from spacy.tokens import DocBin  # noqa: E402  # after the check


@st.composite
def spans_anywhere(draw):
    """A text with spans at any characters, which may overlap, begin with a blank or hold one."""
    text = draw(st.text(st.sampled_from("ab. \n😀\u0301-"), min_size=1, max_size=12))
    places = draw(st.lists(st.tuples(st.integers(0, len(text) - 1), st.integers(1, len(text))), max_size=4))
    scores = st.none() | st.integers(0, 10).map(lambda score: score / 10)
    return Document("é", text, spans=tuple(Span(a, b, "x", draw(scores)) for a, b in places if a < b))


def docs_of(documents):
    (content,) = WRITERS[".spacy"].write(iter(documents), WriteOptions())
    return list(DocBin().from_bytes(content).get_docs(spacy.blank("en").vocab))


def spans_of(group):
    return [(span.start_char, span.end_char, span.label_) for span in group]


@settings(max_examples=50)
@given(document=spans_anywhere())
def test_every_mention_is_there(document):
    (doc,) = docs_of([document])
    assert doc.text == document.text
    assert doc.user_data["id"] == document.id
    wanted = sorted((s.start, s.end) for s in document.spans)
    assert [(start, end) for start, end, _ in spans_of(doc.spans["sc"])] == wanted
    assert sorted(doc.spans["sc"].attrs["scores"], key=str) == sorted((s.score for s in document.spans), key=str)
    taken = [set(range(entity.start_char, entity.end_char)) for entity in doc.ents]
    assert sum(map(len, taken)) == len(set().union(*taken))
    assert bool(doc.ents) == bool(document.spans)


def test_words_spaces_and_labels():
    words = ((0, 3), (4, 8), (10, 11))
    spans = (Span(0, 8, "city", 0.5), Span(4, 8), Span(1, 2, "x"))
    (doc,) = docs_of([Document("a", "New York  !", words, spans)])
    assert [(token.text, token.whitespace_) for token in doc] == [
        ("N", ""), ("e", ""), ("w", " "), ("York", " "), (" ", ""), ("!", ""),
    ]  # fmt: skip
    assert spans_of(doc.spans["sc"]) == [(0, 8, "city"), (1, 2, "x"), (4, 8, "ENTITY")]
    assert spans_of(doc.ents) == [(0, 8, "city")]


def test_it_is_written_and_not_read():
    assert "docbin" not in FORMATS
    assert WRITERS[".spacy"].name == "docbin"


def test_from_the_command_line(small_model, tmp_path):
    (tmp_path / "texts.txt").write_text("The ferry left Zürich at seven .\nKiel\n")
    command = ["probe", "predict", small_model / "detector", "texts.txt", "--threshold", "0.05"]
    done = run(*command, "-o", "found.spacy", cwd=tmp_path, check=0)
    assert "spacy train config.cfg --paths.train found.spacy" in done.stderr
    docs = list(DocBin().from_disk(tmp_path / "found.spacy").get_docs(spacy.blank("en").vocab))
    assert [doc.text for doc in docs] == ["The ferry left Zürich at seven .", "Kiel"]
    assert docs[0].ents


def test_without_spacy(monkeypatch, small_model, tmp_path):
    for name in ("spacy.tokens", "spacy.vocab"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RuntimeUnavailable, match=r"^spacy is not installed; pip install .*\[spacy\]"):
        list(WRITERS[".spacy"].write([], WriteOptions()))
    (tmp_path / "texts.txt").write_text("Kiel\n")
    command = ["probe", "predict", small_model / "detector", "texts.txt", "-o", "found.spacy"]
    done = run(*command, cwd=tmp_path, check=1)
    assert done.stderr.splitlines()[-1].startswith("Error: spacy is not installed; pip install")
    assert not (tmp_path / "found.spacy").exists()
