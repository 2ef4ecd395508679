"""Annotations without positions to spans: by exact match, else folded, at the boundaries of words."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from nuner_embed.annotation.folded import FoldedText
from nuner_embed.annotation.parser import Entry
from nuner_embed.documents import Span
from nuner_embed.limits import REPLY_SPANS

Occurrences = Literal["all", "first"]
INVENTED = "entity that is not in the text"
REPEATED = "annotation given twice"
TOO_MANY_PLACES = f"annotation beyond {REPLY_SPANS:,} places in one text"
_UNINFORMATIVE = "concept"
# Scripts written without blanks: there every character is a boundary (Thai, Lao, Myanmar, Khmer, kana, Han).
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
# A reply that went astray has longer ones, and folding takes a microsecond a character.
_LONGEST_FOLDED = 2_000
_JOINERS = "_\u200c\u200d"


@dataclass(frozen=True, slots=True)
class Alignment:
    """Annotations with their places.

    Attributes:
        spans: by place, then by concept; they may overlap.
        drops: annotations left out, by reason.
        folded: annotations that were found only without regard to case, quotes, blanks and the like.
    """

    spans: tuple[Span, ...]
    drops: Counter[str]
    folded: int = 0


def align(text: str, entries: Sequence[Entry], occurrences: Occurrences = "all") -> Alignment:
    """Finds every annotation's entity in the text as whole words.

    An entity that is nowhere in the text as written is looked for without the markup around it, and then folded, see
    `FoldedText`: first in its own case, then in any. Spans are of the text as it is.

    Args:
        text: what was annotated.
        entries: what the LLM said of it.
        occurrences: which matches are meant, "all" or the "first".
    """
    drops: Counter[str] = Counter()
    spans: dict[tuple[int, int, str], Span] = {}
    seen: set[tuple[str, str]] = set()
    folded = 0

    @cache
    def folded_text(caseless: bool) -> FoldedText:
        return FoldedText.of(text, caseless=caseless)

    for entry in entries:
        if (entry.entity, entry.concept) in seen:
            drops[REPEATED] += 1
            continue
        seen.add((entry.entity, entry.concept))
        places, as_folded = _find(text, entry, folded_text)
        folded += as_folded
        if not places:
            drops[INVENTED] += 1
        wanted = places if occurrences == "all" else places[:1]
        if len(spans) + len(wanted) > REPLY_SPANS:
            drops[TOO_MANY_PLACES] += 1
            continue
        for start, end in wanted:
            spans.setdefault((start, end, entry.concept), Span(start, end, entry.concept))
    return Alignment(tuple(spans[key] for key in sorted(spans)), drops, folded)


def find_words(text: str, entity: str) -> list[tuple[int, int]]:
    """`(start, end)` of each exact occurrence that does not begin or end within a word."""
    return [(start, end) for start, end in _occurrences(text, entity) if _is_whole(text, start, end)]


def find_folded(text: FoldedText, entity: FoldedText) -> list[tuple[int, int]]:
    """`(start, end)` in the original text of each occurrence that is one of whole words, folded and in the original."""
    places = []
    for start, end in _occurrences(text.text, entity.text.strip()):
        place = text.original(start, end)
        if place and _is_whole(text.text, start, end) and _is_whole(text.source, *place):
            places.append(place)
    return places


def _find(text: str, entry: Entry, folded: Callable[[bool], FoldedText]) -> tuple[list[tuple[int, int]], bool]:
    """Where an entity is, and whether that was found by folding; `folded` gives the text with and without its case."""
    if places := find_words(text, entry.entity):
        return places, False
    for spellings in entry.spellings():
        for spelling in spellings:
            if places := find_words(text, spelling):
                return places, False
        for caseless in (False, True):
            for spelling in spellings:
                if len(spelling) <= _LONGEST_FOLDED and (
                    places := find_folded(folded(caseless), FoldedText.of(spelling, caseless=caseless))
                ):
                    return places, True
    return [], False


def _occurrences(text: str, entity: str) -> Iterator[tuple[int, int]]:
    start = text.find(entity) if entity else -1
    while start >= 0:
        yield start, start + len(entity)
        start = text.find(entity, start + 1)


def is_uninformative(entries: Sequence[Entry]) -> bool:
    """Whether one of them has the concept "concept": section 3.1 leaves such a sentence out."""
    return any(entry.concept.lower() == _UNINFORMATIVE for entry in entries)


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether no word goes on beyond either end."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return not _goes_on(before, text[start]) and not _goes_on(after, text[end - 1], after=True)


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
