import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuner_embed.documents import ContentHash, Document, Span, literal


@pytest.mark.parametrize("span", [Span(-1, 2), Span(0, 4), Span(2, 2), Span(2, 1)])
def test_a_span_outside_the_text_is_refused(span):
    with pytest.raises(ValueError, match="must lie in the text's 3 characters"):
        Document("a", "abc", spans=(span,))


def test_a_lone_surrogate_is_refused():
    with pytest.raises(ValueError, match="lone surrogate at character 1"):
        Document("a", "x\ud800")


PRINTABLE = st.text(st.sampled_from("ab'\"\\é☃\U0001f600"))
ANY = st.text(st.characters() | st.sampled_from("'\"\\\n\x00\u2028"))


@given(PRINTABLE | ANY)
def test_a_literal_is_what_repr_writes(text):
    assert literal(text) == repr(text)


def test_the_hash_is_that_of_the_documents_in_python_s_notation():
    documents = [
        Document("it's", 'say "ho", isn\'t it \\ \n'),
        Document("ö", "naïve ☃ \U0001f600", ((0, 5),), (Span(0, 5, "word"), Span(6, 7, None, 0.25))),
        *(Document(f"a:{i}", "x" * 1000) for i in range(200)),  # more than is hashed at a time
    ]
    content, expected = ContentHash(), hashlib.sha256()
    for one in documents:
        content.add(one)
        parts = (one.id, one.text, one.words, *((s.start, s.end, s.label, s.score) for s in one.spans))
        encoded = repr(parts).encode("ascii", "backslashreplace")
        expected.update(len(encoded).to_bytes(8, "little") + encoded)
        if one.id == "a:7":
            assert content.hexdigest() == expected.hexdigest()
    assert content.hexdigest() == expected.hexdigest()
