"""Annotations without positions to spans: by exact match, at the boundaries of words."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nuner_embed.annotation.parsing import Entry
from nuner_embed.documents import Span

Occurrences = Literal["all", "first"]
INVENTED = "entity that is not in the text"
REPEATED = "annotation given twice"
_UNINFORMATIVE = "concept"
# Scripts written without blanks: there every character is a boundary (Thai, Lao, Myanmar, Khmer, kana, Han).
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
_JOINERS = "_\u200c\u200d"


@dataclass(frozen=True, slots=True)
class Alignment:
    """Annotations with their places.

    Attributes:
        spans: by place, then by concept; they may overlap.
        drops: annotations left out, by reason.
    """

    spans: tuple[Span, ...]
    drops: Counter[str]


def align(text: str, entries: Sequence[Entry], occurrences: Occurrences = "all") -> Alignment:
    """Finds every annotation's entity in the text as whole words, in the text's own spelling.

    Args:
        text: what was annotated.
        entries: what the LLM said of it.
        occurrences: which matches are meant, "all" or the "first".
    """
    drops: Counter[str] = Counter()
    spans: dict[tuple[int, int, str], Span] = {}
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        if (entry.entity, entry.concept) in seen:
            drops[REPEATED] += 1
            continue
        seen.add((entry.entity, entry.concept))
        places = next((found for spelling in entry.spellings() if (found := find_words(text, spelling))), [])
        if not places:
            drops[INVENTED] += 1
        for start, end in places if occurrences == "all" else places[:1]:
            spans.setdefault((start, end, entry.concept), Span(start, end, entry.concept))
    return Alignment(tuple(spans[key] for key in sorted(spans)), drops)


def find_words(text: str, entity: str) -> list[tuple[int, int]]:
    """`(start, end)` of each exact occurrence that does not begin or end within a word."""
    places = []
    start = text.find(entity) if entity else -1
    while start >= 0:
        end = start + len(entity)
        if not _goes_on(text[start - 1 : start], entity[0]) and not _goes_on(
            text[end : end + 1], entity[-1], after=True
        ):
            places.append((start, end))
        start = text.find(entity, start + 1)
    return places


def is_uninformative(entries: Sequence[Entry]) -> bool:
    """Whether one of them has the concept "concept": section 3.1 leaves such a sentence out."""
    return any(entry.concept.lower() == _UNINFORMATIVE for entry in entries)


def _goes_on(outer: str, inner: str, *, after: bool = False) -> bool:
    """Whether a word goes on from an entity's character to the one outside, "" for none, so that it is but a piece.

    A combining mark after the entity belongs to its last character, in any script; one before it ends a word of its own
    in a script without blanks.
    """
    if not outer:
        return False
    mark = unicodedata.category(outer).startswith("M")
    if mark and after:
        return True
    return (mark or outer.isalnum() or outer in _JOINERS) and not (_UNSPACED.match(outer) or _UNSPACED.match(inner))
