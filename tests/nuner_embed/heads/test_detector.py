"""What a detected mention neither begins nor ends with, nor consists of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuner_embed.documents import split_words
from nuner_embed.heads.detector import _FUNCTION_WORDS, _PUNCTUATION, _stays_whole, trim

LISTED = [*_FUNCTION_WORDS, *_PUNCTUATION, "s", "'s", "’", "ferry", "Oslo", "The", "Ö", "7", "İ"]
WORDS = st.sampled_from(LISTED) | st.text(min_size=1, max_size=3)


def trimmed(mention, *, begins_text=False):
    words = [mention[start:end] for start, end in split_words(mention)]
    first, last = trim(words, begins_text=begins_text)
    return " ".join(words[first:last])


@pytest.mark.parametrize(
    ("mention", "left"),
    [
        ("of", ""),
        ("'", ""),
        ("of view", "view"),
        ("thank", ""),
        ("out of", ""),
        ("…", ""),
        ("and the ferry", "the ferry"),
        ("the ferry of", "the ferry"),
        ("“ferry”", "ferry"),
        ("Port Ellery's", "Port Ellery"),
        ("Port Ellery’s", "Port Ellery"),
        ("(ferry", "ferry"),
        ("ferry)", "ferry"),
        ("ferry,", "ferry"),
    ],
)
def test_function_words_and_punctuation_go(mention, left):
    assert trimmed(mention) == left


@pytest.mark.parametrize(
    "mention",
    [
        "The Who", "The Hague", "World War I", "US", "Will Smith", "the ferry", "under five dollars", "carry out",
        "Isle of Man", "bed and breakfast", "Acme Inc .", "5 %", "Coenzyme A", "s", "( S ) - warfarin", "tin ( II )",
        "Of Mice and Men", "Who",
    ],
)  # fmt: skip
def test_names_stay_whole(mention):
    assert trimmed(mention) == mention


def test_the_word_that_begins_a_text_has_a_capital_letter():
    assert trimmed("Thank", begins_text=True) == ""
    assert trimmed("Thank", begins_text=False) == "Thank"
    assert trimmed("Will Smith", begins_text=True) == "Will Smith"
    assert trimmed("The Hague", begins_text=True) == "The Hague"


@given(st.lists(WORDS, min_size=1, max_size=4), st.booleans())
def test_what_surely_stays_whole_is_not_trimmed(words, begins_text):
    if _stays_whole(words[0], words[-1]):
        assert trim(words, begins_text=begins_text) == (0, len(words))


def test_most_mentions_are_seen_at_once_to_stay_whole():
    assert _stays_whole("Oslo", "Oslo")
    assert _stays_whole("red", "ferry")
