"""`.conll`, `.bio`, `.iob`, `.tsv`: a word a line, a document a block."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO

from nuner_embed.corpora.decoding import read_lines
from nuner_embed.corpora.records import Item, Reject, reject, shown
from nuner_embed.documents import OUTSIDE, Document, is_prefixed, join_words, tags_to_spans

_LOOKED_AT = 2000
_DOCUMENT_START = "-DOCSTART-"
Line = tuple[int, str] | Item


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file's lines read, found by looking at the first of them.

    Attributes:
        separator: a tab, or None for runs of white space.
        columns: fields a line.
        word: which field holds the word.
        tag: which field holds the tag, None where there is none.
        prefixed: whether tags read B-x, I-x; plain types otherwise.
    """

    separator: str | None
    columns: int
    word: int
    tag: int | None
    prefixed: bool

    def fields(self, line: str) -> list[str]:
        """A line's fields."""
        return line.split(self.separator)

    def is_comment(self, line: str) -> bool:
        """Whether a line begins as a comment does and has not a word's fields."""
        return line.startswith("#") and len(self.fields(line)) != self.columns


def read_conll(stream: IO[bytes], name: str) -> Iterator[Item]:
    """Every block of lines between blank lines; ids carry the line of the block's first word."""
    lines = read_lines(stream, name)
    head = list(islice(lines, _LOOKED_AT))
    layout = find_layout(line for _, line in head if isinstance(line, str))
    for block in _blocks(chain(head, lines), layout):
        yield _read_block(block, layout, name)


def find_layout(lines: Iterable[str]) -> Layout:
    """Looks at some lines: which separator, how many columns, which of the outer ones holds the tags."""
    sample = [line for line in lines if line.strip() and _DOCUMENT_START not in line]
    tabs = sum("\t" in line for line in sample)
    separator = "\t" if tabs * 2 > len(sample) else None
    rows = [line.split(separator) for line in sample]
    columns = Counter(map(len, rows)).most_common(1)[0][0] if rows else 1
    rows = [row for row in rows if len(row) == columns]
    if columns == 1:
        return Layout(separator, 1, 0, None, False)
    first, last = ([row[i] for row in rows] for i in (0, -1))
    tag = 0 if _tag_share(first) > _tag_share(last) else columns - 1
    prefixed = is_prefixed(row[tag] for row in rows)
    return Layout(separator, columns, columns - 1 if tag == 0 else 0, tag, prefixed)


def _tag_share(values: list[str]) -> float:
    """How much a column looks like tags, 0 to 1."""
    return sum(value == OUTSIDE or (len(value) > 2 and is_prefixed([value])) for value in values) / len(values)


def _blocks(lines: Iterable[Line], layout: Layout) -> Iterator[list[Line]]:
    block: list[Line] = []
    for number, line in lines:
        if isinstance(line, str):
            if not line.strip() or line.startswith(_DOCUMENT_START) or line.endswith("\t" + _DOCUMENT_START):
                if block:
                    yield block
                block = []
                continue
            if layout.is_comment(line):
                continue
        block.append((number, line))  # type: ignore[arg-type]
    if block:
        yield block


def _read_block(block: list[Line], layout: Layout, name: str) -> Item:
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
            tags.append(fields[layout.tag])
    text, offsets = join_words(words)
    spans = tags_to_spans(tags, offsets, prefixed=layout.prefixed) if tags else ()
    return first, Document(f"{name}:{first}", text, offsets, spans)
