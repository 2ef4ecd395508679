import pytest

from nuner_embed.printable import cell, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zürich 東京 👩", "Zürich 東京 👩"),
        ("a\x1b[31mred", r"a\x1b[31mred"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x9b\x00\x7f", r"\x9b\x00\x7f"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u061c\u200f\u2066", r"\u061c\u200f\u2066"),
        ("\u200b\ufeff\u2028", r"\u200b\ufeff\u2028"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_nothing_unseen_is_left(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_formula_is_text() -> None:
    assert [cell(value) for value in ("=1", " =1", "-x", "+x", "@x", "\tx", "x", -1, None)] == [
        "'=1", "' =1", "'-x", "'+x", "'@x", "'\tx", "x", -1, None,
    ]  # fmt: skip
