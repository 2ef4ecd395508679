"""Texts compared without what LLMs change in copying: Unicode forms, quotes, dashes, blanks, soft hyphens, case."""

import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

_ALIKE = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′`´ʼ＇", "'"),
        **dict.fromkeys("“”„‟″«»＂", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
    }
)


@dataclass(frozen=True, slots=True)
class FoldedText:
    """A text in the form in which it is compared, and where each character of that form comes from.

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
    """A character with the marks after it, one by one."""
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
