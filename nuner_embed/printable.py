"""Text of others, as a terminal, a log or a spreadsheet may have it."""

import functools
import re
from typing import Any

# The one table of what is unsafe: control characters, line separators, what changes the direction of text, what shows
# as nothing, lone surrogates and tags. On a terminal they do things, or hide things.
_ACTING = (
    "\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"
)
# Soft hyphens and (non-)joiners: they show as nothing, which makes two names look alike, and belong to many a language.
_UNSEEN = "\xad\u200c\u200d"
_BELOW_A_BLANK = "\x00-\x1f"  # which JSON itself escapes
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def printable(text: object) -> str:
    r"""A text with every control character written as an escape: `\x1b` for ESC, `\n` for a line's end."""
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return _any_of(f"{_BELOW_A_BLANK}{_ACTING}{_UNSEEN}").sub(_escaped, shown)


def readable(text: str) -> str:
    """A document's text on one line: blanks for line ends, tabs and the like, U+FFFD for all else that is unsafe."""
    unsafe = _any_of(f"{_BELOW_A_BLANK}{_ACTING}")
    return unsafe.sub(lambda found: " " if found[0].isspace() else "\N{REPLACEMENT CHARACTER}", text)


def json_text(value: Any, *, indent: int | None = None) -> str:
    r"""A value as JSON in which nothing acts on a terminal: U+202E is written `\u202e`, which says the same."""
    import json  # nuner-embed --help does without

    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _any_of(_ACTING).sub(lambda found: json.dumps(found[0])[1:-1], text)


def cell(value: Any) -> Any:
    """A value for a CSV file, which a spreadsheet takes for text: what begins like a formula gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA) else value


@functools.cache
def _any_of(characters: str) -> re.Pattern[str]:
    """Made on first use: that takes longer than --help may."""
    return re.compile(f"[{characters}]")


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "backslashreplace").decode("ascii")
