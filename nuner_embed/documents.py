"""Documents, spans and words: character offsets into the original text are the truth everywhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

OUTSIDE: Final = "O"
_BEGINS: Final = frozenset("BSU")
_ENDS: Final = frozenset("ESLU")
_PREFIXES: Final = frozenset("BIESLUM")


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` of a document, with the concept or label it was given.

    Attributes:
        start: first character.
        end: one past the last character; `end > start`.
        label: free text, or None where the mention is unlabelled.
        score: whatever confidence its source gave, or None.
    """

    start: int
    end: int
    label: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """One text, with what is known about it.

    Attributes:
        id: unique within a corpus.
        text: the original text, never changed.
        words: `(start, end)` of each word where the source came in words (CoNLL), else None.
        spans: annotated mentions in the source's order; they may overlap.

    Raises:
        ValueError: a word or span lies outside the text or is empty, or the text is not valid Unicode.
    """

    id: str
    text: str
    words: tuple[tuple[int, int], ...] | None = None
    spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        for value, name in ((self.text, "text"), (self.id, "id")):
            if not value.isascii():
                _require_encodable(value, name)
        length = len(self.text)
        for span in self.spans:
            if not 0 <= span.start < span.end <= length:
                raise ValueError(
                    f"span [{span.start}, {span.end}) must lie in the text's {length} characters and not be empty"
                )
        for start, end in self.words or ():
            if not 0 <= start < end <= length:
                raise ValueError(f"word [{start}, {end}) must lie in the text's {length} characters and not be empty")


def is_text(value: str) -> bool:
    """Whether it can be written as UTF-8; JSON may hold halves of a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _require_encodable(value: str, name: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"the {name} holds a lone surrogate at character {error.start}, which is not text") from None


def join_words(words: Sequence[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Joins words by single spaces; returns the text and each word's `(start, end)` in it."""
    offsets = []
    position = 0
    for word in words:
        offsets.append((position, position + len(word)))
        position += len(word) + 1
    return " ".join(words), tuple(offsets)


def is_prefixed(tags: Iterable[str]) -> bool:
    """True if every tag but "O" reads B-x, I-x, E-x, S-x, L-x, U-x or M-x: BIO and its kin, not plain IO."""
    return all(tag == OUTSIDE or (len(tag) > 2 and tag[1] == "-" and tag[0] in _PREFIXES) for tag in tags)


def tags_to_spans(
    tags: Sequence[str], words: Sequence[tuple[int, int]], *, prefixed: bool | None = None
) -> tuple[Span, ...]:
    """Reads BIO (IOB1, IOB2, BIOES, BILOU) or plain IO tags as spans over the words' characters.

    A continuation that continues nothing opens a span, as conlleval reads it; in plain IO, adjacent words
    of one type are one span.

    Args:
        tags: one a word.
        words: `(start, end)` of each word.
        prefixed: whether the tags carry prefixes; looked up from the tags themselves where None.
    """
    if len(tags) != len(words):
        raise ValueError(f"{len(tags)} tags for {len(words)} words")
    if prefixed is None:
        prefixed = is_prefixed(tags)
    spans: list[Span] = []
    label: str | None = None
    start = end = 0
    for tag, (word_start, word_end) in zip(tags, words, strict=True):
        prefix, kind = ("I", tag) if not prefixed or tag == OUTSIDE else (tag[0], tag[2:])
        if label is not None and (tag == OUTSIDE or prefix in _BEGINS or kind != label):
            spans.append(Span(start, end, label))
            label = None
        if tag == OUTSIDE:
            continue
        if label is None:
            label, start = kind, word_start
        end = word_end
        if prefix in _ENDS:
            spans.append(Span(start, end, label))
            label = None
    if label is not None:
        spans.append(Span(start, end, label))
    return tuple(spans)


def spans_to_tags(spans: Iterable[Span], words: Sequence[tuple[int, int]]) -> list[str]:
    """Writes spans as BIO tags, one a word; where spans overlap, the one that stands first in the input wins.

    A word belongs to a span if it shares a character with it. Unlabelled spans read as `ENTITY`.
    """
    tags = [OUTSIDE] * len(words)
    for span in spans:
        inside = [i for i, (start, end) in enumerate(words) if start < span.end and end > span.start]
        if inside and all(tags[i] == OUTSIDE for i in inside):
            label = span.label or "ENTITY"
            tags[inside[0]] = f"B-{label}"
            for i in inside[1:]:
                tags[i] = f"I-{label}"
    return tags
