"""`.conll`, `.bio`, `.iob`, `.iob2`, `.tsv`: words with tags, a word a line or a sentence a line."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nuner_embed.corpora.base import ReadOptions, Source, WriteOptions
from nuner_embed.corpora.columns import find_columns
from nuner_embed.corpora.conllu import find_conllu
from nuner_embed.corpora.fields import holds_tags, split_words
from nuner_embed.corpora.records import Item
from nuner_embed.corpora.sentences import (
    BadLine,
    Layout,
    NumberedLine,
    Sentence,
    TaggedWord,
    blocks_of,
    read_sentences,
    words_for_lines,
)
from nuner_embed.documents import Document
from nuner_embed.errors import CorpusError
from nuner_embed.tags import TagScheme, spans_to_tags

_BAR = "|"
_MOST_BARS = 2


def read(source: Source, options: ReadOptions) -> Iterator[Item]:
    """Every sentence, in whatever layout the file's first lines show, CoNLL-U among them; see `read_sentences`."""
    return read_sentences(source, options, find_layout)


def find_layout(lines: Sequence[str], options: ReadOptions) -> Layout:
    """Looks at a file's first lines.

    Raises:
        ValueError: it is not certain which fields hold words and tags.
    """
    blocks = blocks_of(lines)
    flat = [line for block in blocks for line in block]
    return find_conllu(lines, options) or _find_one_line(flat, options) or find_columns(blocks, options)


@dataclass(frozen=True, slots=True)
class OneLine:
    """A sentence a line, each word with its tag behind a bar: `The|O ferry|B-BOAT` or `ferry|NN|B-BOAT`.

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

    def sentence(self, lines: Sequence[NumberedLine]) -> Sentence:
        """The words of a line."""
        ((number, line),) = lines
        found = []
        for piece in split_words(line):
            word, *others = piece.rsplit(_BAR, self.bars)
            if len(others) != self.bars or not word:
                like = _BAR.join(["ferry", *["x"] * self.bars])
                raise BadLine.unlike(number, piece, f"words such as {like} with blanks between them")
            found.append(TaggedWord(number, word, others[-1]))
        return Sentence(found)


def _find_one_line(lines: Sequence[str], options: ReadOptions) -> OneLine | None:
    """The layout of some lines without comments, if it is this one."""
    if options.word_column is not None or options.tag_column is not None:
        return None
    sentences = [split_words(line) for line in lines]
    for bars in range(1, _MOST_BARS + 1):
        fitting = [pieces for pieces in sentences if all(piece.rstrip(_BAR).count(_BAR) == bars for piece in pieces)]
        tags = [piece.rpartition(_BAR)[2] for pieces in fitting for piece in pieces]
        if len(fitting) * 2 > len(sentences) and holds_tags(tags):
            return OneLine(bars)
    return None


def write(documents: Iterable[Document], options: WriteOptions) -> Iterator[str]:
    """A line a word, with a tab and a BIO tag, and an empty line behind each document; ids are left out.

    Raises:
        CorpusError: a label that no line can hold.
    """
    for document in documents:
        for span in document.spans:
            if span.label and not span.label.isprintable():
                reason = f"the type {span.label!r} holds what CoNLL cannot; write a .jsonl file"
                raise CorpusError(document.id, None, reason)
        words = words_for_lines(document)
        if not words:
            options.left_out(document)
            continue
        tags = spans_to_tags(document.spans, words)
        lines = [f"{document.text[start:end]}\t{tag}\n" for (start, end), tag in zip(words, tags, strict=True)]
        yield "".join(lines) + "\n"
