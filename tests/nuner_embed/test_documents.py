import pytest

from nuner_embed.documents import Document, Span


@pytest.mark.parametrize("span", [Span(-1, 2), Span(0, 4), Span(2, 2), Span(2, 1)])
def test_a_span_outside_the_text_is_refused(span):
    with pytest.raises(ValueError, match="must lie in the text's 3 characters"):
        Document("a", "abc", spans=(span,))


def test_a_lone_surrogate_is_refused():
    with pytest.raises(ValueError, match="lone surrogate at character 1"):
        Document("a", "x\ud800")
