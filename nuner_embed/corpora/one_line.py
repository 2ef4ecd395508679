"""A sentence a line, each word with its tag behind a vertical bar: `The|O ferry|B-BOAT` or `ferry|NN|B-BOAT`."""

from collections.abc import Sequence
from dataclasses import dataclass

from nuner_embed.corpora.fields import ColumnChoice, holds_tags, split_words
from nuner_embed.corpora.sentences import BadLine, NumberedLine, TaggedWord
from nuner_embed.tags import TagScheme

_BAR = "|"
_MOST_BARS = 2


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
