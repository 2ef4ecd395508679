"""`.conll`, `.conllu`, `.bio`, `.iob`, `.iob2`, `.tsv`: words with tags, a word a line or a sentence a line."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO

from nuner_embed.corpora.columns import find_columns
from nuner_embed.corpora.conllu import find_conllu
from nuner_embed.corpora.fields import ColumnChoice, holds_tags, split_words
from nuner_embed.corpora.lines import read_lines
from nuner_embed.corpora.records import Item, Reject
from nuner_embed.corpora.sentences import (
    BadLine,
    Layout,
    Line,
    NumberedLine,
    TaggedWord,
    sentence_blocks,
    starts_document,
)
from nuner_embed.documents import Document, join_words
from nuner_embed.errors import CorpusError
from nuner_embed.limits import LINE_MIB, MIB
from nuner_embed.tags import OUTSIDE, TagScheme, find_scheme, tags_to_spans

_BAR = "|"
_MOST_BARS = 2
_SENTENCES_LOOKED_AT = 100
_LINES_LOOKED_AT = 5000
_WORDS_LOOKED_AT = 1_000_000

_Words = list[TaggedWord]
_Sentence = tuple[int, _Words | Reject]


def read_conll(stream: IO[bytes], name: str, choice: ColumnChoice, limit: int = LINE_MIB * MIB) -> Iterator[Item]:
    """Every sentence; ids carry the line of its first word.

    Raises:
        CorpusError: it is not certain which fields hold words and tags, or how the tags are meant.
    """
    lines = read_lines(stream, name, carriage_returns=True, limit=limit)
    head = _head(lines, limit)
    try:
        layout = find_layout(head, choice)
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


def find_layout(lines: Iterable[Line], choice: ColumnChoice) -> Layout:
    """Looks at a file's first lines.

    Raises:
        ValueError: it is not certain which fields hold words and tags.
    """
    blocks: list[list[str]] = [[]]
    for _, line in lines:
        if not isinstance(line, str) or line.startswith("#"):  # comments, or a few words fewer to look at
            continue
        if not line.strip() or starts_document(line):
            blocks.append([])
        else:
            blocks[-1].append(line)
    blocks = [block for block in blocks if block]
    return (
        find_conllu(blocks, choice)
        or find_one_line([line for block in blocks for line in block], choice)
        or find_columns(blocks, choice)
    )


def _some(sentences: Iterator[_Sentence]) -> Iterator[_Sentence]:
    """The next sentences, as many as are looked at together: a hundred, or fewer if these are long."""
    words = 0
    for sentence in islice(sentences, _SENTENCES_LOOKED_AT):
        yield sentence
        words += 0 if isinstance(sentence[1], Reject) else len(sentence[1])
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


def _sentences(lines: Iterable[Line], layout: Layout, name: str, limit: int) -> Iterator[_Sentence]:
    for block in sentence_blocks(lines, layout, name, limit):
        first = block[0][0]
        unread = next(((number, line) for number, line in block if isinstance(line, Reject)), None)
        if unread is not None:
            yield unread
            continue
        try:
            yield first, layout.words([(number, line) for number, line in block if isinstance(line, str)])
        except BadLine as error:
            yield _left_out(name, error, first)


def _left_out(name: str, error: BadLine, first: int) -> tuple[int, Reject]:
    reason = f"{error}; the block from line {first} is left out"
    return error.number, Reject(name, error.number, reason, error.line[:2000])


def _find_scheme(sentences: Iterable[_Sentence], name: str) -> TagScheme | None:
    """The scheme of all tags, as the first sentences with mentions show it."""
    try:
        return find_scheme(_tags(words) for _, words in sentences if not isinstance(words, Reject))
    except ValueError as error:
        raise CorpusError(name, None, str(error)) from None


def _tags(words: Sequence[TaggedWord]) -> list[str]:
    return [word.tag for word in words if word.tag is not None]


def _document(sentence: _Sentence, scheme: TagScheme | None, name: str) -> Item:
    first, words = sentence
    if isinstance(words, Reject):
        return first, words
    text, offsets = join_words([word.text for word in words], [word.space_after for word in words])
    tags = _tags(words)
    scheme = scheme or TagScheme("plain", outside="o" if "o" in tags else OUTSIDE)  # no mention so far
    try:
        spans = tags_to_spans(tags, offsets, scheme) if tags else ()
    except ValueError as error:
        bad = next((word for word in words if not scheme.reads(word.tag or "")), words[0])
        return _left_out(name, BadLine(bad.line, f"{bad.text} {bad.tag}", str(error)), first)
    return first, Document(f"{name}:{first}", text, offsets, spans)


@dataclass(frozen=True, slots=True)
class OneLine:
    """A sentence a line.

    Attributes:
        bars: vertical bars a word; what precedes the last of them but `bars` is the word, what follows the last is
            the tag.
    """

    bars: int
    one_line: bool = True
    scheme: TagScheme | None = None

    def is_comment(self, line: str) -> bool:
        """Whether a line begins as a comment does and is no sentence."""
        return line.startswith("#") and not all(piece.count(_BAR) >= self.bars for piece in split_words(line))

    def words(self, lines: Sequence[NumberedLine]) -> list[TaggedWord]:
        """The words of a line."""
        ((number, line),) = lines
        found = []
        for piece in split_words(line):
            word, *others = piece.rsplit(_BAR, self.bars)
            if len(others) != self.bars or not word:
                like = _BAR.join(["ferry", *["x"] * self.bars])
                raise BadLine.unlike(number, piece, f"words such as {like} with blanks between them")
            found.append(TaggedWord(number, word, others[-1]))
        return found


def find_one_line(lines: Sequence[str], choice: ColumnChoice) -> OneLine | None:
    """The layout of some lines without comments, if it is this one."""
    if choice != ColumnChoice():
        return None
    sentences = [split_words(line) for line in lines]
    for bars in range(1, _MOST_BARS + 1):
        fitting = [pieces for pieces in sentences if all(piece.rstrip(_BAR).count(_BAR) == bars for piece in pieces)]
        tags = [piece.rpartition(_BAR)[2] for pieces in fitting for piece in pieces]
        if len(fitting) * 2 > len(sentences) and holds_tags(tags):
            return OneLine(bars)
    return None
