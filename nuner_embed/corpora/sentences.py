"""Sentences of words with tags, whatever the layout that they are written in."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from nuner_embed.corpora.records import Item, reject, shown
from nuner_embed.limits import MIB, SENTENCE_LINES
from nuner_embed.tags import TagScheme

_DOCUMENT_START = "-DOCSTART-"
_DOCUMENT_MARKS = ("#begin document", "#end document")

Line = tuple[int, str] | Item
NumberedLine = tuple[int, str]


@dataclass(slots=True)
class TaggedWord:
    """A word as its line has it.

    Attributes:
        line: 1-based number of the line.
        text: the word.
        tag: its tag, None where the file has no tags.
        space_after: whether a blank follows it in the text.
    """

    line: int
    text: str
    tag: str | None
    space_after: bool = True


class BadLine(Exception):
    """A line that does not read as the file's other lines; its sentence is left out."""

    def __init__(self, number: int, line: str, problem: str) -> None:
        super().__init__(problem)
        self.number, self.line = number, line

    @classmethod
    def unlike(cls, number: int, line: str, expected: str) -> Self:
        """A line of which something else was expected."""
        return cls(number, line, f"expected {expected}, as in the file's other lines, found {shown(line)}")


class Layout(Protocol):
    """How a file's lines read.

    Attributes:
        one_line: whether a line is a sentence; otherwise blank lines part sentences.
        scheme: of the tags where the layout says so, None where the tags must show.
    """

    @property
    def one_line(self) -> bool: ...  # noqa: D102

    @property
    def scheme(self) -> TagScheme | None: ...  # noqa: D102

    def is_comment(self, line: str) -> bool:
        """Whether a line holds no word."""
        ...

    def words(self, lines: Sequence[NumberedLine]) -> list[TaggedWord]:
        """The words of a sentence's lines.

        Raises:
            BadLine: the first line that does not fit.
        """
        ...


def starts_document(line: str) -> bool:
    """Whether a line parts documents and holds no word."""
    if line.startswith(_DOCUMENT_MARKS):
        return True
    return _DOCUMENT_START in line and _DOCUMENT_START in (line.split()[0], line.split()[-1])


def sentence_blocks(lines: Iterable[Line], layout: Layout, name: str, limit: int) -> Iterator[list[Line]]:
    """The lines of each sentence, without comments; a line that could not be read stands in its place.

    Of a sentence of too many lines or characters, as where no blank line parts sentences, a reject is left.

    Args:
        lines: of a file.
        layout: how they read.
        name: of the file, for rejects.
        limit: characters of a sentence's lines together.
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
