"""CoNLL-U, the format of Universal Dependencies: ten fields a word."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nuner_embed.corpora.fields import NO_TAGS, ColumnChoice, Row, find_separator, holds_tags, seen, split_line
from nuner_embed.corpora.sentences import BadLine, NumberedLine, TaggedWord
from nuner_embed.tags import OUTSIDE, TagScheme

_NAMES = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_ID = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18})|(\.[0-9]+))?")
_HEAD = re.compile(r"[0-9]+|_")
_FORM, _LEMMA, _HEAD_FIELD, _MISC = 1, 2, 6, 9
_TAG_KEYS = ("ner", "ne", "nertag", "entity")  # of MISC, in lower case
_GLUED = "SpaceAfter=No"


@dataclass(frozen=True, slots=True)
class Conllu:
    """How the lines of a CoNLL-U file read.

    Words are those of the text: a word whose parts have lines of their own (`1-2`) is one word, and an empty node
    (`1.1`) is none. The text has no blank after a word whose MISC says `SpaceAfter=No`.

    Attributes:
        separator: a tab, or None for runs of blanks.
        form: which field holds the word, from 0.
        tag: which field holds the tag, a key of MISC, or None for no tags.
    """

    separator: str | None
    form: int = _FORM
    tag: int | str | None = None
    one_line: bool = False
    scheme: TagScheme | None = None

    def is_comment(self, line: str) -> bool:
        """Words never begin a line here."""
        return line.startswith("#")

    def words(self, lines: Sequence[NumberedLine]) -> list[TaggedWord]:
        """The words of a sentence's lines."""
        words: list[TaggedWord] = []
        last_part = 0  # of the word whose parts come, by number
        for number, line in lines:
            row = split_line(line, self.separator)
            identity = _ID.fullmatch(row[0].strip())
            if len(row) != len(_NAMES) or identity is None or not row[self.form].strip():
                expected = f"the {len(_NAMES)} fields of CoNLL-U, the first of them a word's number"
                raise BadLine.unlike(number, line, expected)
            first, last, empty = identity.groups()
            if empty:
                continue
            tag = None if self.tag is None else _tag(row, self.tag)
            if int(first) <= last_part:
                if words[-1].tag in (None, OUTSIDE):
                    words[-1].tag = tag
                continue
            last_part = int(last) if last else 0
            words.append(TaggedWord(number, row[self.form], tag, _GLUED not in row[_MISC].split("|")))
        return words


def find_conllu(blocks: Sequence[Sequence[str]], choice: ColumnChoice) -> Conllu | None:
    """The layout of some sentences without comments, if it is this one.

    Raises:
        ValueError: the choice names what is not there.
    """
    lines = [line for block in blocks for line in block]
    separator = find_separator(lines)
    rows = [split_line(line, separator) for line in lines]
    fitting = [
        row for row in rows if len(row) == len(_NAMES) and _ID.fullmatch(row[0]) and _HEAD.fullmatch(row[_HEAD_FIELD])
    ]
    if not fitting or len(fitting) * 10 < len(rows) * 9:
        return None
    form = _FORM if choice.word is None else _field(choice.word, fitting[0], separator)
    return Conllu(separator, form, _find_tag(fitting, choice.tag, separator))


def _field(said: int | str, row: Row, separator: str | None) -> int:
    if isinstance(said, int) and 1 <= said <= len(_NAMES):
        return said - 1
    if isinstance(said, str) and said.lower() in _NAMES:
        return _NAMES.index(said.lower())
    raise ValueError(
        f"CoNLL-U has the fields 1 to {len(_NAMES)}, {', '.join(_NAMES)}, not {said!r}; {seen(row, separator)}"
    )


def _find_tag(rows: Sequence[Row], said: int | str | None, separator: str | None) -> int | str | None:
    if said == NO_TAGS:
        return None
    keys = sorted({key.lower() for row in rows for key, _ in _notes(row)})
    if said is not None:
        if isinstance(said, str) and said.lower() in keys:
            return said.lower()
        return _field(said, rows[0], separator)
    places = [key for key in _TAG_KEYS if key in keys] + list(range(_LEMMA, _MISC + 1))
    words = [row for row in rows if row[0].isdecimal()]  # other rows hold "_" in most fields
    for place in places:
        tags = [row[place].strip() if isinstance(place, int) else _tag(row, place) for row in words]
        if set(tags) != {OUTSIDE} and holds_tags(tags):
            return place
    return None


def _tag(row: Row, place: int | str) -> str:
    if isinstance(place, int):
        return OUTSIDE if row[place].strip() == "_" else row[place].strip()
    return next((value for key, value in _notes(row) if key.lower() == place), OUTSIDE)


def _notes(row: Row) -> list[tuple[str, str]]:
    """The keys and values of a word's MISC."""
    return [(key, value) for key, mark, value in (note.partition("=") for note in row[_MISC].split("|")) if mark]
