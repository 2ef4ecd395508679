import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nuner_embed.documents import split_words
from nuner_embed.words import code_points, word_bounds

ODD = [
    "-", "--", "a-b", "a-", "-a", "\u200d", "\u200c", "e\u0301", "😀", "नमस्ते", "東京", "½", "_", "\u2028", "\xa0",
    "\x1c", "\x1f", "\x85", "\x00", "\u200b", "\n", "\r\n", "\t", "'", "well-known",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=9)


@settings(max_examples=300)
@given(pieces=st.lists(TEXTS, min_size=1, max_size=4))
@example(pieces=[["a-"], ["-b"], ["a"], ["b"], [""], []])
def test_many_texts_have_the_words_that_each_has_alone(pieces):
    texts = ["".join(parts) for parts in pieces]
    bases = np.cumsum([0, *(len(text) + 1 for text in texts)])
    start, end = word_bounds(code_points(texts))
    found = list(zip(start.tolist(), end.tolist(), strict=True))
    expected = [(base + a, base + b) for base, text in zip(bases, texts, strict=False) for a, b in split_words(text)]
    assert found == expected


@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_every_character_is_what_it_is_alone(step):
    """Characters between letters, and after a hyphen: all planes but surrogates."""
    codes = [*range(0x400), *(code for code in range(0x400, 0x110000, step) if not 0xD800 <= code < 0xE000)]
    for begin in range(0, len(codes), 1 << 16):
        text = " ".join(f"a{chr(code)}-{chr(code)}b" for code in codes[begin : begin + (1 << 16)])
        start, end = word_bounds(code_points([text]))
        assert list(zip(start.tolist(), end.tolist(), strict=True)) == split_words(text)
