"""`.conll`, `.bio`, `.iob`, `.tsv`: a word a line, a document a block."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO

from nuner_embed.corpora.decoding import read_lines
from nuner_embed.corpora.records import Item, Reject, reject, shown
from nuner_embed.documents import Document, join_words
from nuner_embed.errors import CorpusError
from nuner_embed.tags import BIO, OUTSIDE, PLAIN, TagScheme, find_scheme, tags_to_spans

_LOOKED_AT = 2000
_BLOCKS_LOOKED_AT = 100
_DOCUMENT_START = "-DOCSTART-"
_BLANKS = re.compile(r"[ \t]+")
Line = tuple[int, str] | Item


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file's lines read, found by looking at the first of them.

    Attributes:
        separator: a tab, or None for runs of spaces and tabs.
        columns: fields a line.
        word: which field holds the word.
        tag: which field holds the tag, None where there is none.
    """

    separator: str | None
    columns: int
    word: int
    tag: int | None

    def fields(self, line: str) -> list[str]:
        """A line's fields."""
        return _split(line, self.separator)

    def is_comment(self, line: str) -> bool:
        """Whether a line begins as a comment does and has not a word's fields."""
        return line.startswith("#") and len(self.fields(line)) != self.columns


def read_conll(stream: IO[bytes], name: str) -> Iterator[Item]:
    """Every block of lines between blank lines; ids carry the line of the block's first word."""
    lines = read_lines(stream, name)
    head = list(islice(lines, _LOOKED_AT))
    layout = find_layout(line for _, line in head if isinstance(line, str))
    blocks = _blocks(chain(head, lines), layout)
    scheme = None
    while scheme is None and (some := list(islice(blocks, _BLOCKS_LOOKED_AT))):
        try:  # the first tags that come decide for the file
            scheme = find_scheme(list(_tags(block, layout)) for block in some)
        except ValueError as error:
            raise CorpusError(name, None, str(error)) from None
        for block in some:
            yield _read_block(block, layout, scheme or PLAIN, name)
    for block in blocks:
        assert scheme is not None
        yield _read_block(block, layout, scheme, name)


def find_layout(lines: Iterable[str]) -> Layout:
    """Looks at some lines: which separator, how many columns, which of the outer ones holds the tags."""
    sample = [line for line in lines if line.strip() and not _starts_document(line)]
    tabs = sum("\t" in line for line in sample)
    separator = "\t" if tabs * 2 > len(sample) else None
    rows = [_split(line, separator) for line in sample]
    columns = Counter(map(len, rows)).most_common(1)[0][0] if rows else 1
    rows = [row for row in rows if len(row) == columns]
    if columns == 1:
        return Layout(separator, 1, 0, None)
    first, last = ([row[i] for row in rows] for i in (0, -1))
    tag = 0 if _tag_share(first) > _tag_share(last) else columns - 1
    return Layout(separator, columns, columns - 1 if tag == 0 else 0, tag)


def _split(line: str, separator: str | None) -> list[str]:
    if separator is not None or line.isascii():
        return line.split(separator)
    return _BLANKS.split(line.strip(" \t"))  # str.split would part words at no-break spaces


def _starts_document(line: str) -> bool:
    return _DOCUMENT_START in line and _DOCUMENT_START in (line.split()[0], line.split()[-1])


def _tags(block: list[Line], layout: Layout) -> Iterator[str]:
    for _, line in block:
        fields = layout.fields(line) if isinstance(line, str) else []
        if layout.tag is not None and len(fields) == layout.columns:
            yield fields[layout.tag].strip()


def _tag_share(values: list[str]) -> float:
    """How much a column looks like tags, 0 to 1."""
    return sum(value == OUTSIDE or value[1:2] == BIO.separator for value in values) / len(values)


def _blocks(lines: Iterable[Line], layout: Layout) -> Iterator[list[Line]]:
    block: list[Line] = []
    for number, line in lines:
        if isinstance(line, str):
            if not line.strip() or _starts_document(line):
                if block:
                    yield block
                block = []
                continue
            if layout.is_comment(line):
                continue
        block.append((number, line))  # type: ignore[arg-type]
    if block:
        yield block


def _read_block(block: list[Line], layout: Layout, scheme: TagScheme, name: str) -> Item:
    first = block[0][0]
    words, tags = [], []
    for number, line in block:
        if isinstance(line, Reject):
            return number, line
        assert isinstance(line, str)
        fields = layout.fields(line)
        if len(fields) != layout.columns or not fields[layout.word].strip():
            separated = "tab-separated" if layout.separator else "blank-separated"
            reason = (
                f"expected {layout.columns} {separated} fields with a word in field {layout.word + 1}, as in the "
                f"file's other lines, found {shown(line)}; the block from line {first} is left out"
            )
            return reject(name, number, reason, line)
        words.append(fields[layout.word])
        if layout.tag is not None:
            tag = fields[layout.tag].strip()
            if not scheme.reads(tag):
                reason = (
                    f"expected {scheme.expected} in field {layout.tag + 1}, as in the file's other lines, found "
                    f"{shown(tag)}; the block from line {first} is left out"
                )
                return reject(name, number, reason, line)
            tags.append(tag)
    text, offsets = join_words(words)
    spans = tags_to_spans(tags, offsets, scheme) if tags else ()
    return first, Document(f"{name}:{first}", text, offsets, spans)
