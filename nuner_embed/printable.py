"""Text of others, as a terminal, a log or a spreadsheet may have it."""

import json
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
_UNSAFE = re.compile(f"[\x00-\x1f{_ACTING}{_UNSEEN}]")
_UNSAFE_IN_A_TEXT = re.compile(f"[\x00-\x1f{_ACTING}]")
_UNSAFE_IN_JSON = re.compile(f"[{_ACTING}]")  # JSON itself escapes what is below a blank
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def printable(text: object) -> str:
    r"""A text with every control character written as an escape: `\x1b` for ESC, `\n` for a line's end."""
    return _UNSAFE.sub(_escaped, str(text))


def readable(text: str) -> str:
    """A document's text on one line: blanks for line ends, tabs and the like, U+FFFD for all else that is unsafe."""
    return _UNSAFE_IN_A_TEXT.sub(lambda found: " " if found[0].isspace() else "\N{REPLACEMENT CHARACTER}", text)


def json_text(value: Any, *, indent: int | None = None) -> str:
    r"""A value as JSON in which nothing acts on a terminal: U+202E is written `\u202e`, which says the same."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _UNSAFE_IN_JSON.sub(lambda found: json.dumps(found[0])[1:-1], text)


def cell(value: Any) -> Any:
    """A value for a CSV file, which a spreadsheet takes for text: what begins like a formula gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA) else value


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "backslashreplace").decode("ascii")
