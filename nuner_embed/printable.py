"""Text of others, as a terminal, a log or a spreadsheet may have it."""

import re
from typing import Any

# Control characters, line separators, what changes the direction of text, what shows as nothing, lone surrogates and
# tags: on a terminal they do things, or hide things.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def printable(text: object) -> str:
    r"""A text with every control character written as an escape: `\x1b` for ESC, `\n` for a line's end."""
    return _UNSAFE.sub(_escaped, str(text))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "backslashreplace").decode("ascii")


def cell(value: Any) -> Any:
    """A value for a CSV file, which a spreadsheet takes for text: what begins like a formula gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA) else value
