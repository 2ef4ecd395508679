"""Documents, spans and words: character offsets into the original text are the truth everywhere."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_HASHED_AT_A_TIME = 1 << 16  # bytes: a call of the hash function costs as much as some hundred bytes


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` of a document, with the concept or label it was given.

    Attributes:
        start: first character.
        end: one past the last character; `end > start`.
        label: free text, or None where the mention is unlabelled.
        score: whatever confidence its source gave, or None.
        scores: the probability of each type, where a head was asked for it, else None; spans are compared without it.
    """

    start: int
    end: int
    label: str | None = None
    score: float | None = None
    scores: Mapping[str, float] | None = field(default=None, compare=False, repr=False)


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
    """Whether a string can be written as UTF-8; JSON may hold lone surrogates."""
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


def join_words(
    words: Sequence[str], gaps: Sequence[str] | None = None, before: str = ""
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Joins words to a text; returns the text and each word's `(start, end)`.

    Args:
        words: of one text.
        gaps: what follows each word; the last gap is not used. None for single spaces.
        before: what precedes the first word.
    """
    offsets = []
    position = len(before)
    if gaps is None:
        for word in words:
            end = position + len(word)
            offsets.append((position, end))
            position = end + 1
        return before + " ".join(words), tuple(offsets)
    parts = [before]
    for word, gap in zip(words, gaps, strict=True):
        end = position + len(word)
        offsets.append((position, end))
        parts += (word, gap)
        position = end + len(gap)
    return "".join(parts[:-1] if words else parts), tuple(offsets)


class ContentHash:
    """SHA-256 over the ids, texts, words and spans of documents, in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._pending: list[bytes] = []
        self._bytes = 0

    def add(self, document: Document) -> None:
        """Adds a document to the hash."""
        written = f"{literal(document.id)}, {literal(document.text)}, {document.words!r}"
        if document.spans:
            written += f", {repr([(s.start, s.end, s.label, s.score) for s in document.spans])[1:-1]}"
        encoded = f"({written})".encode("ascii", "backslashreplace")
        self._pending += (len(encoded).to_bytes(8, "little"), encoded)
        self._bytes += len(encoded)
        if self._bytes >= _HASHED_AT_A_TIME:
            self._flush()

    def hexdigest(self) -> str:
        """The hash so far, in hex."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self._hash.update(b"".join(self._pending))
        self._pending.clear()
        self._bytes = 0


def literal(text: str) -> str:
    """`repr` of a string, in half the time where all characters are printable."""
    if not text.isprintable():
        return repr(text)
    if "\\" in text:
        text = text.replace("\\", r"\\")
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    return "'" + text.replace("'", r"\'") + "'"


def split_words(text: str) -> list[tuple[int, int]]:
    """`(start, end)` of each word: runs of letters and digits, and every other visible character by itself."""
    return [offsets for _, offsets in _splitter().pre_tokenize_str(text)]


@functools.cache
def _splitter() -> Any:
    from tokenizers import Regex, pre_tokenizers  # a store is read without

    # Letters, marks, digits and joiners, with inner hyphens; any other visible character stands alone. As GLiNER
    # splits, but with an engine whose \w knows combining marks (Python's does not).
    pattern = r"[\w\x{200c}\x{200d}]+(?:-[\w\x{200c}\x{200d}]+)*|[^\s\x{1c}-\x{1f}]"
    return pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
