"""`.conllu`: CoNLL-U, the format of Universal Dependencies, with ten fields for each word.

Mentions are in MISC as BIO tags, `NER=B-city`. Files written here begin with the comment `# generator = nuner-embed`,
and are read back exactly: `sent_id` is the document's id, and MISC gives, with UDPipe's escapes, what follows a word if
it is not a single space (`SpacesAfter=\\s\\n`). In files of other programs `sent_id` and `SpacesAfter` are not read.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nuner_embed.corpora.base import ReadOptions, Source, WriteOptions
from nuner_embed.corpora.fields import NO_TAGS, Row, find_separator, holds_tags, seen, split_line
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
from nuner_embed.tags import BIO, OUTSIDE, TagScheme, spans_to_tags

_NAMES = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_ID = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18})|(\.[0-9]+))?")
_HEAD = re.compile(r"[0-9]+|_")
_FORM, _LEMMA, _HEAD_FIELD, _MISC = 1, 2, 6, 9
_TAG_KEYS = ("ner", "ne", "nertag", "entity")  # of MISC, in lower case
_TAG = "NER"
_GLUED = "SpaceAfter=No"
_BEFORE, _AFTER = "SpacesBefore", "SpacesAfter"
_GENERATOR = "# generator = nuner-embed"
_SENTENCE_ID = "# sent_id = "
_ESCAPES = {"\\": "\\\\", " ": "\\s", "\t": "\\t", "\n": "\\n", "\r": "\\r", "|": "\\p"}
_ESCAPED = {escape[1]: character for character, escape in _ESCAPES.items()}
_ESCAPE = re.compile(r"\\(.)")
_TO_ESCAPE = str.maketrans(_ESCAPES)
_BLANKS = str.maketrans("\t\n\r", "   ")


def read(source: Source, options: ReadOptions) -> Iterator[Item]:
    """Every sentence; see `read_sentences`.

    Raises:
        CorpusError: another layout.
    """
    return read_sentences(source, options, _find_layout)


def _find_layout(lines: Sequence[str], options: ReadOptions) -> Layout:
    words = [line for block in blocks_of(lines) for line in block]
    layout = find_conllu(lines, options, least=50) if words else Conllu(separator="\t")
    if layout is None:
        separator = find_separator(words)
        found = seen(split_line(words[0], separator), separator)
        raise ValueError(
            f"not CoNLL-U, which has {len(_NAMES)} fields per word; {found}; --format conll reads other files"
        )
    return layout


def find_conllu(lines: Sequence[str], options: ReadOptions, least: int = 90) -> Layout | None:
    """The CoNLL-U layout of a file's first lines; None if they are not CoNLL-U.

    Args:
        lines: with comments.
        options: of the corpus.
        least: percentage of the word lines that must fit.

    Raises:
        ValueError: the user names a field that does not exist.
    """
    words = [line for block in blocks_of(lines) for line in block]
    separator = find_separator(words)
    rows = [split_line(line, separator) for line in words]
    fitting = [
        row for row in rows if len(row) == len(_NAMES) and _ID.fullmatch(row[0]) and _HEAD.fullmatch(row[_HEAD_FIELD])
    ]
    if not fitting or len(fitting) * 100 < least * len(rows):
        return None
    form = _FORM if options.word_column is None else _field(options.word_column, fitting[0], separator)
    if _GENERATOR not in lines:
        return Conllu(separator, form, _find_tag(fitting, options.tag_column, separator))
    if options.tag_column is None:
        return OwnConllu(Conllu(separator, form, _TAG.lower()), scheme=BIO)
    return OwnConllu(Conllu(separator, form, _find_tag(fitting, options.tag_column, separator)))


@dataclass(frozen=True, slots=True)
class Conllu:
    """The layout of a CoNLL-U file.

    A word whose parts have their own lines (`1-2`) is one word, and an empty node (`1.1`) is no word. No blank follows
    a word with `SpaceAfter=No` in MISC.

    Attributes:
        separator: a tab, or None for runs of blanks.
        form: index of the field with the word, from 0.
        tag: index of the field with the tag, or a key of MISC; None for no tags.
    """

    separator: str | None
    form: int = _FORM
    tag: int | str | None = None
    one_line: bool = False
    scheme: TagScheme | None = None

    def is_comment(self, line: str) -> bool:
        """Whether a line is a comment; no word line begins with "#"."""
        return line.startswith("#")

    def sentence(self, lines: Sequence[NumberedLine]) -> Sentence:
        """The words of a sentence's lines."""
        words: list[TaggedWord] = []
        gaps: list[str] = []
        last_part = 0  # number of the last part of the word whose parts follow
        for number, line in lines:
            row = split_line(line, self.separator)
            place = _ID.fullmatch(row[0].strip())
            if len(row) != len(_NAMES) or place is None or not row[self.form].strip():
                expected = f"the {len(_NAMES)} fields of CoNLL-U, the first of them a word's number"
                raise BadLine.unlike(number, line, expected)
            first, last, empty = place.groups()
            if empty:
                continue
            tag = None if self.tag is None else _tag(row, self.tag)
            if last_part and int(first) <= last_part:
                if words[-1].tag in (None, OUTSIDE):
                    words[-1].tag = tag
                continue
            last_part = int(last) if last else 0
            words.append(TaggedWord(number, row[self.form], tag))
            gaps.append("" if _GLUED in row[_MISC].split("|") else " ")
        return Sentence(words, gaps)


@dataclass(frozen=True, slots=True)
class OwnConllu:
    """The layout of a file that `write` made.

    Attributes:
        layout: of the word lines.
    """

    layout: Conllu
    one_line: bool = False
    scheme: TagScheme | None = None

    def is_comment(self, line: str) -> bool:
        """Whether a line is a comment; the line with the id is part of its sentence."""
        return line.startswith("#") and not line.startswith(_SENTENCE_ID)

    def sentence(self, lines: Sequence[NumberedLine]) -> Sentence:
        """The words of a sentence's lines, with the text between and around them."""
        first, *rest = lines
        identity = _unescaped(first[1].removeprefix(_SENTENCE_ID)) if first[1].startswith(_SENTENCE_ID) else None
        by_number = dict(lines if identity is None else rest)
        if not by_number:
            raise BadLine.unlike(*first, "lines of words below it")
        sentence = self.layout.sentence(list(by_number.items()))
        words, gaps = sentence.words, sentence.gaps or []
        notes = [dict(_notes(split_line(by_number[word.line], self.layout.separator))) for word in words]
        gaps = [_unescaped(said[_AFTER]) if _AFTER in said else gap for gap, said in zip(gaps, notes, strict=True)]
        for word in words:
            word.tag = word.tag and _unescaped(word.tag)
        before, after = (notes[0].get(_BEFORE, ""), notes[-1].get(_AFTER, "")) if notes else ("", "")
        return Sentence(words, gaps, identity, (_unescaped(before), _unescaped(after)))


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


def write(documents: Iterable[Document], options: WriteOptions) -> Iterator[str]:
    """A line for each word, with the tag in MISC; scores are left out, and overlapping mentions but the first."""
    yield f"{_GENERATOR}\n"
    for document in documents:
        words = words_for_lines(document)
        if not words:
            options.left_out(document)
            continue
        text = document.text
        lines = [f"# text = {text.translate(_BLANKS)}", f"{_SENTENCE_ID}{_escaped(document.id)}"]
        gaps = [text[end:start] for (_, end), (start, _) in pairwise([*words, (len(text), len(text))])]
        tags = spans_to_tags(document.spans, words)
        for i, ((start, end), tag, gap) in enumerate(zip(words, tags, gaps, strict=True)):
            misc = [] if tag == OUTSIDE else [f"{_TAG}={_escaped(tag)}"]
            if i == 0 and start:
                misc.append(f"{_BEFORE}={_escaped(text[:start])}")
            if i + 1 < len(words) and not gap:
                misc.append(_GLUED)
            elif gap != ("" if i + 1 == len(words) else " "):
                misc.append(f"{_AFTER}={_escaped(gap)}")
            lines.append("\t".join([str(i + 1), text[start:end], *["_"] * 7, "|".join(misc) or "_"]))
        yield "\n".join(lines) + "\n\n"


def _escaped(value: str) -> str:
    return value.translate(_TO_ESCAPE)


def _unescaped(value: str) -> str:
    return _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[0]), value) if "\\" in value else value
