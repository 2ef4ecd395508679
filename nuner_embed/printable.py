"""Text from outside, made safe for a terminal, a log or a spreadsheet."""

import functools
import re
from typing import Any

# The one table of unsafe characters: control characters, line separators, marks that change the direction of text,
# invisible characters, lone surrogates and tags. On a terminal they trigger or hide something.
_ACTING = (
    "\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"
)
# Soft hyphens and (non-)joiners: invisible, so that two names look alike, but part of the spelling of many languages.
_UNSEEN = "\xad\u200c\u200d"
_BELOW_A_BLANK = "\x00-\x1f"  # which JSON itself escapes
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def printable(text: object) -> str:
    r"""A text with every unsafe character written as an escape: `\x1b` for ESC, `\n` for a line feed."""
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return _any_of(f"{_BELOW_A_BLANK}{_ACTING}{_UNSEEN}").sub(_escaped, shown)


def one_line(error: BaseException, most: int = 300) -> str:
    """What an error of another library says, on one line of at most so many characters."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split())[:most] or type(error).__name__


def readable(text: str) -> str:
    """A document's text on one line: a blank for each line end or tab, U+FFFD for each other unsafe character."""
    unsafe = _any_of(f"{_BELOW_A_BLANK}{_ACTING}")
    return unsafe.sub(lambda found: " " if found[0].isspace() else "\N{REPLACEMENT CHARACTER}", text)


def json_text(value: Any, *, indent: int | None = None) -> str:
    r"""A value as JSON without unsafe characters: U+202E is written `\u202e`, with the same meaning."""
    import json  # nuner-embed --help does without

    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _any_of(_ACTING).sub(lambda found: json.dumps(found[0])[1:-1], text)


def cell(value: Any) -> Any:
    """A value for a CSV file; an apostrophe keeps a spreadsheet from reading a text as a formula."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA) else value


@functools.cache
def _any_of(characters: str) -> re.Pattern[str]:
    """Compiled on first use: compiling takes longer than --help may take."""
    return re.compile(f"[{characters}]")


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "backslashreplace").decode("ascii")
