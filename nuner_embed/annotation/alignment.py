"""From annotations without positions to spans: the entity is searched as written, then folded, as whole words.

Folding removes differences that LLMs introduce when they copy text: Unicode forms, quotes, dashes, blanks, soft hyphens
and case.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal, Self

from nuner_embed.annotation.parser import Entry
from nuner_embed.documents import Span
from nuner_embed.limits import REPLY_SPANS

_ALIKE = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′`´ʼ＇", "'"),
        **dict.fromkeys("“”„‟″«»＂", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
    }
)


@dataclass(frozen=True, slots=True)
class FoldedText:
    """A text in folded form, with the place in the text from which each folded character comes.

    Attributes:
        source: the text itself.
        text: decomposed (NFKD), without format characters such as soft hyphens, each run of blanks and line breaks as
            one blank, quotes and dashes as on a typewriter, and case-folded if asked for.
        start, end: of each of its characters, the piece of the original that it comes from. A letter and its marks
            are one piece.
    """

    source: str
    text: str
    start: tuple[int, ...]
    end: tuple[int, ...]

    @classmethod
    def of(cls, source: str, *, caseless: bool) -> Self:
        """Folds a text."""
        characters: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        for start, end in _pieces(source):
            for character in _fold(source[start:end], caseless=caseless):
                if character == " " and characters[-1:] == [" "]:
                    ends[-1] = end
                    continue
                characters.append(character)
                starts.append(start)
                ends.append(end)
        return cls(source, "".join(characters), tuple(starts), tuple(ends))

    def original(self, start: int, end: int) -> tuple[int, int] | None:
        """Where characters `start` to `end` of the folded text stand in the original; None if they cut a piece."""
        cut_before = start > 0 and self.start[start - 1] == self.start[start]
        cut_after = end < len(self.text) and self.start[end] == self.start[end - 1]
        return None if cut_before or cut_after else (self.start[start], self.end[end - 1])


def _pieces(text: str) -> list[tuple[int, int]]:
    """The bounds of the pieces of a text: each character with the combining marks after it."""
    begins = [
        place
        for place, character in enumerate(text)
        if place == 0 or character < "\u0300" or not unicodedata.category(character).startswith("M")
    ]
    return list(pairwise([*begins, len(text)]))


def _fold(piece: str, *, caseless: bool) -> str:
    folded = unicodedata.normalize("NFKD", piece.translate(_ALIKE))  # to NFKD, ´ is a blank and an accent
    if caseless:
        folded = unicodedata.normalize("NFKD", folded.casefold())
    folded = "".join(character for character in folded.translate(_ALIKE) if not _is_invisible(character))
    return " " if folded.isspace() else folded


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"


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
        folded: number of annotations that were found only in folded form.
    """

    spans: tuple[Span, ...]
    drops: Counter[str]
    folded: int = 0


def align(text: str, entries: Sequence[Entry], occurrences: Occurrences = "all") -> Alignment:
    """Finds every annotation's entity in the text as whole words.

    An entity that does not occur as written is searched without the markup around it, and then folded (see
    `FoldedText`), first with its case and then without. Spans refer to the text itself.

    Args:
        text: the annotated text.
        entries: the annotations of the LLM.
        occurrences: which matches become spans, "all" or the "first".
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
    """The places of an entity, and whether folding was needed; `folded(caseless)` returns the folded text."""
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
    """Whether an annotation has the concept "concept"; section 3.1 of the paper leaves such sentences out."""
    return any(entry.concept.lower() == _UNINFORMATIVE for entry in entries)


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether both ends are word boundaries."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return not _goes_on(before, text[start]) and not _goes_on(after, text[end - 1], after=True)


def _goes_on(outer: str, inner: str, *, after: bool = False) -> bool:
    """Whether a word continues from a character of the entity to the one outside ("" for none).

    A combining mark after the entity belongs to its last character, in any script; a mark before the entity ends
    another word in a script without blanks.
    """
    if not outer:
        return False
    mark = unicodedata.category(outer).startswith("M")
    if mark and after:
        return True
    return (mark or outer.isalnum() or outer in _JOINERS) and not (_UNSPACED.match(outer) or _UNSPACED.match(inner))
