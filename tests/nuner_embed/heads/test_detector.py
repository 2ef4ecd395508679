"""What a detected mention neither begins nor ends with, nor consists of."""

import pytest

from nuner_embed.documents import split_words
from nuner_embed.heads.detector import trim


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
