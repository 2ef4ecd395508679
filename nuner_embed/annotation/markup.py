"""What LLMs put around an entity or a concept: bullets, numbers, quotes, brackets, emphasis, punctuation."""

import re
from collections.abc import Iterator

_BULLET = re.compile(r"[-+*>•◦▪▫·●○■□‣⁃∙–—]\s+(?:\[[ xX]\]\s+)?")
_NUMBER = re.compile(
    r"(?:\*\*)?(?:\(?(?:\d{1,3}|[a-z]|[ivx]{1,4})\\?[.):]{1,2}|\[(?:\d{1,3}|[a-z])\]:?)(?:\*\*)?\s+", re.IGNORECASE
)
_FIELD = re.compile(r"(?:\*\*)?(?:entity|concept|type|description)(?:\*\*)?:(?:\*\*)?\s+", re.IGNORECASE)
_PAIRS = [
    ("***", "***"), ("**", "**"), ("__", "__"), ("~~", "~~"), ("``", "``"), ("*", "*"), ("_", "_"), ("`", "`"),
    ('"', '"'), ("'", "'"), ("“", "”"), ("„", "“"), ("„", "”"), ("‘", "’"), ("‚", "‘"), ("«", "»"), ("»", "«"),
    ("‹", "›"), ("「", "」"), ("『", "』"), ("[", "]"), ("(", ")"), ("{", "}"), ("<", ">"),
]  # fmt: skip
_UNPAIRED = ("*", "`", '"“”„«»')
_PUNCTUATION = ".,;:!?…"
_ABBREVIATION = re.compile(r"\w\.\w{1,3}\.$")  # "city in the U.S."
_WITHIN_A_WORD = re.compile(r"(?<=\w)['’](?=\w)")
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()<>#+.!|~-])")
# A reply that goes astray may hold thousands of brackets; what lies under more than a few is no entity.
_MOST_LAYERS = 8


def without_bullet(text: str) -> str:
    """Text without the bullet, and the name of a field as in "Entity: Kiel", at its beginning."""
    return _without(_FIELD, _without(_BULLET, text))


def without_number(text: str) -> str:
    """Text without the number or letter of a list at its beginning, and what `without_bullet` takes away."""
    return without_bullet(_without(_NUMBER, text))


def layers(text: str) -> Iterator[str]:
    """Text, then the same without what is around it, layer by layer: `**"Kiel"**:`, `**"Kiel"**`, `"Kiel"`, `Kiel`."""
    yield text
    for _ in range(_MOST_LAYERS):
        inner = _inner(text)
        if inner in ("", text):
            return
        yield inner
        text = inner


def bare(text: str) -> str:
    """Text without any of what may be around it."""
    *_, last = layers(without_bullet(text))
    return last


def _without(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.match(text)
    return text[found.end() :] if found else text


def _inner(text: str) -> str:
    if text[:1].isalnum() and text[-1:].isalnum() and "\\" not in text:  # as most are
        return text
    for before, after in _PAIRS:
        if text.startswith(before) and text.endswith(after):
            inner = text[len(before) : -len(after)]
            plain = _WITHIN_A_WORD.sub("", inner)
            if before not in plain and after not in plain:  # '"a" and "b"' is not within quotes
                return inner.strip()
    if text.endswith(tuple(_PUNCTUATION)) and not _ABBREVIATION.search(text):
        return text.rstrip(_PUNCTUATION).rstrip()
    for marks in _UNPAIRED:
        inner = text.strip(marks)
        if inner != text and not any(mark in inner for mark in marks):  # one end was lost, or the two differ
            return inner.strip()
    return _ESCAPED.sub(r"\1", text)
