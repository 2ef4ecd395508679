import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuner_embed.documents import Document, Span, is_prefixed, join_words, spans_to_tags, tags_to_spans

WORDS = st.lists(st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["O", "B-x", "I-x", "O"], [(1, 3, "x")]),
        (["B-x", "B-x"], [(0, 1, "x"), (1, 2, "x")]),
        (["I-x", "I-x", "I-y"], [(0, 2, "x"), (2, 3, "y")]),
        (["S-x", "B-y", "E-y", "E-x"], [(0, 1, "x"), (1, 3, "y"), (3, 4, "x")]),
        (["U-x", "B-x", "L-x", "I-x"], [(0, 1, "x"), (1, 3, "x"), (3, 4, "x")]),
        (["person-actor", "person-actor", "O", "org"], [(0, 2, "person-actor"), (3, 4, "org")]),
    ],
)
def test_tags_are_read_as_conlleval_reads_them(tags, expected):
    text, words = join_words(["ab"] * len(tags))
    spans = tags_to_spans(tags, words)
    assert [(s.start, s.end, s.label) for s in spans] == [
        (words[a][0], words[b - 1][1], label) for a, b, label in expected
    ]


@given(words=WORDS, data=st.data())
def test_spans_to_bio_and_back(words, data):
    text, offsets = join_words(words)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(words)), max_size=6)))
    spans = tuple(
        Span(offsets[a][0], offsets[b - 1][1], data.draw(st.sampled_from(["x", "y-z", "B-q"])))
        for a, b in zip(cuts[::2], cuts[1::2], strict=False)
    )
    tags = spans_to_tags(spans, offsets)
    assert is_prefixed(tags)
    assert tags_to_spans(tags, offsets) == spans
    assert all(text[a:b] == word for (a, b), word in zip(offsets, words, strict=True))


def test_overlapping_spans_give_way_to_the_first():
    _, words = join_words(["a", "b", "c"])
    assert spans_to_tags([Span(0, 3, "x"), Span(2, 5, "y"), Span(4, 5)], words) == ["B-x", "I-x", "B-ENTITY"]


@pytest.mark.parametrize("span", [Span(-1, 2), Span(0, 4), Span(2, 2), Span(2, 1)])
def test_a_span_outside_the_text_is_refused(span):
    with pytest.raises(ValueError, match="must lie in the text's 3 characters"):
        Document("a", "abc", spans=(span,))


def test_a_lone_surrogate_is_refused():
    with pytest.raises(ValueError, match="lone surrogate at character 1"):
        Document("a", "x\ud800")


def test_tags_and_words_must_be_as_many():
    with pytest.raises(ValueError, match="2 tags for 1 words"):
        tags_to_spans(["O", "O"], [(0, 1)])
