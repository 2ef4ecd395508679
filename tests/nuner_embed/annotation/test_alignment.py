"""Entities whose copy differs from the text in what LLMs change: found, counted, and placed in the text as it is."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuner_embed.annotation.alignment import FoldedText, align, find_folded, find_words
from nuner_embed.annotation.parser import Entry
from nuner_embed.annotation.replies import Reply, annotated
from nuner_embed.annotation.report import AnnotationReport


@pytest.mark.parametrize(
    ("text", "entity", "found"),
    [
        ("in KIEL today", "Kiel", "KIEL"),
        ("the ferry’s bell", "ferry's", "ferry’s"),
        ("the ferry's bell", "ferry’s", "ferry's"),
        ("a “slow boat” left", 'a "slow boat"', "a “slow boat”"),
        ("the Cafe\u0301 Anna", "Café Anna", "Cafe\u0301 Anna"),
        ("the Café Anna", "Cafe\u0301 Anna", "Café Anna"),
        ("to New\u00a0York now", "New York", "New\u00a0York"),
        ("to New\nYork now", "New York", "New\nYork"),
        ("to New \r\n  York now", "New York", "New \r\n  York"),
        ("to New\u2028York now", "New York", "New\u2028York"),
        ("to New York now", "New\u00a0York", "New York"),
        ("the Fähr\u00adhafen opens", "Fährhafen", "Fähr\u00adhafen"),
        ("the Fährhafen opens", "Fähr\u00adhafen", "Fährhafen"),
        ("the years 1914–1918 were", "1914-1918", "1914–1918"),
        ("an oﬃce desk", "office desk", "oﬃce desk"),
        ("die STRASSE hier", "Straße", "STRASSE"),
        ("in 서울 now", unicodedata.normalize("NFD", "서울"), "서울"),
        ("ﾄｳｷｮｳ", "トウキョウ", "ﾄｳｷｮｳ"),
        ("ｶﾞｽ", "ガス", "ｶﾞｽ"),
        ("نمی\u200cخواهم", "نمیخواهم", "نمی\u200cخواهم"),
        ("I ❤\ufe0f it", "❤", "❤\ufe0f"),
    ],
)
def test_found_by_folding(text, entity, found):
    alignment = align(text, [Entry(entity, "x")])
    assert [text[span.start : span.end] for span in alignment.spans] == [found]
    assert alignment.folded == 1


@pytest.mark.parametrize(
    ("text", "entity"),
    [
        ("the résumé", "resume"),  # another word
        ("the résumé", "sum"),
        ("oﬃce", "of"),  # half of a letter
        ("oﬃce", "o"),
        ("a ½ cup", "1"),
        ("co\u00adoperate", "Operate"),
        ("Romeo", "rome"),
        ("👨\u200d👩\u200d👧 family", "👨\ufe0f"),
        ("서울", unicodedata.normalize("NFD", "서우")),
        ("snake_case", "Case"),
        ("x", "\u00ad"),
        ("x", "’"),
    ],
)
def test_pieces_of_words_are_not(text, entity):
    alignment = align(text, [Entry(entity, "x")])
    assert (alignment.spans, alignment.drops.total(), alignment.folded) == ((), 1, 0)


def test_what_stands_there_as_written_is_not_folded():
    assert [(s.start, s.end) for s in align("Will will go", [Entry("will", "x")]).spans] == [(5, 9)]
    assert [(s.start, s.end) for s in align("IT’S it’s it's", [Entry("it's", "x")]).spans] == [(10, 14)]
    own_case_first = align("IT’S it’s", [Entry("it's", "x")])
    assert [(s.start, s.end) for s in own_case_first.spans] == [(5, 9)]


def test_the_report_counts_them_apart():
    report = AnnotationReport()
    replies = [Reply("a", "Kiel and OSLO", "Kiel <> city\nOslo <> city"), Reply("b", "KIEL", "Kiel <> city")]
    assert [len(document.spans) for document in annotated(replies, report)] == [2, 1]
    assert (report.mentions, report.folded, report.to_dict()["found_by_folding"]) == (3, 2, 2)


WORDS = st.lists(
    st.sampled_from(
        ["Kiel", "Café", "Fähre", "ferry's", "die “Anna” aus", "1914–18", "Straße", "ΟΔΟΣ", "서울", "n\u0303o", "ﬁn"]
    ),
    min_size=1,
    max_size=8,
)
CHANGES = st.lists(
    st.sampled_from(
        [
            str.upper,
            str.lower,
            str.title,
            lambda text: unicodedata.normalize("NFC", text),
            lambda text: unicodedata.normalize("NFD", text),
            lambda text: text.replace(" ", "\u00a0"),
            lambda text: text.replace(" ", "\n"),
            lambda text: text.replace(" ", "  "),
            lambda text: text.replace("'", "’").replace("“", '"').replace("”", '"').replace("–", "-"),
            lambda text: text[:1] + "\u00ad" + text[1:],
        ]
    ),
    max_size=4,
)


@given(WORDS, st.data(), CHANGES, CHANGES)
def test_a_changed_copy_is_found_where_it_stands(words, data, of_text, of_entity):
    """The text is changed as a whole and a stretch of its words again: offsets are of the text as it is."""
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    before, entity, after = " ".join(words[:first]), " ".join(words[first : last + 1]), " ".join(words[last + 1 :])
    for change in of_text:
        before, entity, after = change(before), change(entity), change(after)
    text = " ".join(filter(None, (before, entity, after)))
    start = len(before) + bool(before)
    copy = entity
    for change in of_entity:
        copy = change(copy)
    spans = align(text, [Entry(copy, "x")]).spans
    folded = {FoldedText.of(text[span.start : span.end], caseless=True).text for span in spans}
    assert folded == {FoldedText.of(entity, caseless=True).text}
    assert (start, start + len(entity)) in {(span.start, span.end) for span in spans} or copy in text


@given(st.text(max_size=40), st.text(max_size=4), st.booleans())
def test_what_is_found_is_there_in_any_text(text, entity, caseless):
    folded = FoldedText.of(text, caseless=caseless)
    assert len(folded.text) == len(folded.start) == len(folded.end)
    wanted = FoldedText.of(entity, caseless=caseless)
    for start, end in find_folded(folded, wanted):
        assert 0 <= start < end <= len(text)
        assert FoldedText.of(text[start:end], caseless=caseless).text == wanted.text.strip()
    if entity.strip():
        for start, end in find_words(text, entity):
            assert text[start:end] == entity
