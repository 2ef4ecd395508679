"""Sentences of tagged words, read from any column layout."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol, Self

from nuner_embed.corpora.base import ReadOptions, Source
from nuner_embed.corpora.records import Item, Reject, reject, shown
from nuner_embed.corpora.streams import read_lines
from nuner_embed.documents import Document, join_words, split_words
from nuner_embed.errors import CorpusError
from nuner_embed.limits import MIB, SENTENCE_LINES
from nuner_embed.tags import OUTSIDE, TagScheme, find_scheme, tags_to_spans

_SENTENCES_LOOKED_AT = 100
_LINES_LOOKED_AT = 5000
_WORDS_LOOKED_AT = 1_000_000
_DOCUMENT_START = "-DOCSTART-"
_DOCUMENT_MARKS = ("#begin document", "#end document")
_IN_A_FIELD = re.compile(r"[^\t\n\r]+")

Line = tuple[int, str] | Item
NumberedLine = tuple[int, str]


@dataclass(slots=True)
class TaggedWord:
    """A word with its tag.

    Attributes:
        line: 1-based number of the line.
        text: the word.
        tag: its tag; None if the file has no tags.
    """

    line: int
    text: str
    tag: str | None


@dataclass(slots=True)
class Sentence:
    """The words of a sentence.

    Attributes:
        words: in order.
        gaps: the text after each word except the last; None for single spaces.
        id: of the document; None for FILE:LINE.
        around: the text before the first word and after the last.
    """

    words: list[TaggedWord]
    gaps: list[str] | None = None
    id: str | None = None
    around: tuple[str, str] = ("", "")


class BadLine(Exception):
    """A line that does not fit the layout of the file; its sentence is left out."""

    def __init__(self, number: int, line: str, problem: str) -> None:
        super().__init__(problem)
        self.number, self.line = number, line

    @classmethod
    def unlike(cls, number: int, line: str, expected: str) -> Self:
        """The error for a line that should have been something else."""
        return cls(number, line, f"expected {expected}, as in the file's other lines, found {shown(line)}")


class Layout(Protocol):
    """The layout of a file's lines.

    Attributes:
        one_line: whether each line is a sentence; otherwise blank lines separate sentences.
        scheme: of the tags, if the layout determines it; None to find it from the tags.
    """

    @property
    def one_line(self) -> bool: ...  # noqa: D102

    @property
    def scheme(self) -> TagScheme | None: ...  # noqa: D102

    def is_comment(self, line: str) -> bool:
        """Whether a line is no part of a sentence."""
        ...

    def sentence(self, lines: Sequence[NumberedLine]) -> Sentence:
        """The words of a sentence's lines.

        Raises:
            BadLine: the first line that does not fit.
        """
        ...


FindLayout = Callable[[Sequence[str], ReadOptions], Layout]
_Read = tuple[int, Sentence | Reject]


def read_sentences(source: Source, options: ReadOptions, find_layout: FindLayout) -> Iterator[Item]:
    """Every sentence of a file as a document; ids carry the line of the first word unless the file has its own.

    Args:
        source: the file.
        options: of the corpus.
        find_layout: finds the layout from the file's first lines; raises ValueError if it is uncertain.

    Raises:
        CorpusError: it is uncertain which fields hold words and tags, or which scheme the tags follow.
    """
    name, limit = source.name, options.line_bytes
    with source.open() as stream:
        lines = read_lines(stream, name, carriage_returns=True, limit=limit)
        head = _head(lines, limit)
        try:
            layout = find_layout([line for _, line in head if isinstance(line, str)], options)
        except ValueError as error:
            raise CorpusError(name, None, str(error)) from None
        sentences = _sentences(chain(head, lines), layout, name, limit)
        scheme = layout.scheme
        while scheme is None and (some := list(_some(sentences))):
            scheme = _find_scheme(some, name)
            for sentence in some:
                yield _document(sentence, scheme, name)
        for sentence in sentences:
            yield _document(sentence, scheme, name)


def blocks_of(lines: Iterable[str]) -> list[list[str]]:
    """The lines of each sentence, for finding the layout; lines that begin with "#" are left out, even words."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("#"):
            continue
        if not line.strip() or starts_document(line):
            blocks.append([])
        else:
            blocks[-1].append(line)
    return [block for block in blocks if block]


def _some(sentences: Iterator[_Read]) -> Iterator[_Read]:
    """The next hundred sentences, or fewer if these have many words."""
    words = 0
    for sentence in islice(sentences, _SENTENCES_LOOKED_AT):
        yield sentence
        words += 0 if isinstance(sentence[1], Reject) else len(sentence[1].words)
        if words > _WORDS_LOOKED_AT:
            return


def _head(lines: Iterator[Line], limit: int) -> list[Line]:
    head: list[Line] = []
    sentences = characters = 0
    for number, line in islice(lines, _LINES_LOOKED_AT):
        head.append((number, line))  # type: ignore[arg-type]
        sentences += isinstance(line, str) and not line.strip()
        characters += len(line) if isinstance(line, str) else 0
        if sentences >= _SENTENCES_LOOKED_AT or characters > limit:
            break
    return head


def _sentences(lines: Iterable[Line], layout: Layout, name: str, limit: int) -> Iterator[_Read]:
    for block in _sentence_blocks(lines, layout, name, limit):
        first = block[0][0]
        unread = next(((number, line) for number, line in block if isinstance(line, Reject)), None)
        if unread is not None:
            yield unread
            continue
        try:
            yield first, layout.sentence([(number, line) for number, line in block if isinstance(line, str)])
        except BadLine as error:
            yield _left_out(name, error, first)


def _left_out(name: str, error: BadLine, first: int) -> tuple[int, Reject]:
    reason = f"{error}; the block from line {first} is left out"
    return error.number, Reject(name, error.number, reason, error.line[:2000])


def _find_scheme(sentences: Iterable[_Read], name: str) -> TagScheme | None:
    """The scheme of all tags, found from the first sentences with mentions."""
    try:
        return find_scheme(_tags(one.words) for _, one in sentences if not isinstance(one, Reject))
    except ValueError as error:
        raise CorpusError(name, None, str(error)) from None


def _tags(words: Sequence[TaggedWord]) -> list[str]:
    return [word.tag for word in words if word.tag is not None]


def _document(read: _Read, scheme: TagScheme | None, name: str) -> Item:
    first, sentence = read
    if isinstance(sentence, Reject):
        return first, sentence
    words = sentence.words
    before, after = sentence.around
    text, offsets = join_words([word.text for word in words], sentence.gaps, before)
    tags = _tags(words)
    scheme = scheme or TagScheme("plain", outside="o" if "o" in tags else OUTSIDE)  # no mention so far
    try:
        spans = tags_to_spans(tags, offsets, scheme) if tags else ()
    except ValueError as error:
        bad = next((word for word in words if not scheme.reads(word.tag or "")), words[0])
        return _left_out(name, BadLine(bad.line, f"{bad.text} {bad.tag}", str(error)), first)
    identity = f"{name}:{first}" if sentence.id is None else sentence.id
    return first, Document(identity, text + after, offsets, spans)


def starts_document(line: str) -> bool:
    """Whether a line separates documents and holds no word."""
    if line.startswith(_DOCUMENT_MARKS):
        return True
    return _DOCUMENT_START in line and _DOCUMENT_START in (line.split()[0], line.split()[-1])


def _sentence_blocks(lines: Iterable[Line], layout: Layout, name: str, limit: int) -> Iterator[list[Line]]:
    """The lines of each sentence, without comments; a line that could not be read is kept as a reject.

    A sentence of too many lines or characters, as in a file without blank lines, becomes one reject.
    """
    block: list[Line] = []
    characters = 0
    left_out = False
    for number, line in lines:
        if isinstance(line, str):
            if not line.strip() or starts_document(line):
                if block:
                    yield block
                block, characters, left_out = [], 0, False
                continue
            if left_out:
                continue
            if layout.is_comment(line):
                continue
            characters += len(line)
        if characters > limit or len(block) >= SENTENCE_LINES:
            yield [_too_long(name, block[0][0] if block else number, limit)]
            block, left_out = [], not layout.one_line
            characters = 0
            continue
        block.append((number, line))  # type: ignore[arg-type]
        if layout.one_line:
            yield block
            block, characters = [], 0
    if block:
        yield block


def _too_long(name: str, first: int, limit: int) -> Item:
    reason = (
        f"the block from this line on has more than {SENTENCE_LINES:,} lines or {limit / MIB:g} MiB; "
        "part sentences with blank lines"
    )
    return reject(name, first, reason, "")


def words_for_lines(document: Document) -> list[tuple[int, int]]:
    """`(start, end)` of a document's words, in order, each fit for a field of a line.

    A word is split at tabs and line ends; blank pieces are left out.
    """
    text = document.text
    words = document.words if document.words is not None else split_words(text)
    pieces: list[tuple[int, int]] = []
    end = 0
    for start, stop in sorted(words):
        for piece in _IN_A_FIELD.finditer(text, max(start, end), stop):
            if not piece.group().isspace():
                pieces.append(piece.span())
        end = max(end, stop)
    return pieces
