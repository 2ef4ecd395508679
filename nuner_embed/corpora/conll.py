"""`.conll`, `.bio`, `.iob`, `.iob2`, `.tsv`: words with tags, a word a line or a sentence a line."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from nuner_embed.corpora.base import ReadOptions, Source, WriteOptions
from nuner_embed.corpora.conllu import find_conllu
from nuner_embed.corpora.fields import (
    NO_TAGS,
    Row,
    counts_words,
    find_separator,
    holds_chunks,
    holds_prefixes,
    holds_tags,
    is_bracket,
    is_constant,
    is_prefixed,
    parted,
    repeats,
    seen,
    split_line,
    split_words,
)
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
from nuner_embed.tags import BIO, OUTSIDE, TagScheme, spans_to_tags

_BAR = "|"
_MOST_BARS = 2
_WORD_NAMES = frozenset(["word", "words", "token", "tokens", "form", "text"])
_TAG_NAMES = frozenset(
    ["tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags", "ne", "entity", "entities", "iob", "bio"]
)
_PLACEHOLDERS = frozenset(["", "_", "-"])
_MOST_BLANKS = 2  # blanks in the median word; more mean whole texts
# of CoNLL-2012: word number, word, parse and named entity; predicates follow, as many as the sentence has
_NUMBER, _WORD, _PARSE, _ENTITY = 2, 3, 5, 10


def read(source: Source, options: ReadOptions) -> Iterator[Item]:
    """Every sentence, in whatever layout the file's first lines show, CoNLL-U among them; see `read_sentences`."""
    return read_sentences(source, options, find_layout)


def find_layout(lines: Sequence[str], options: ReadOptions) -> Layout:
    """Finds the layout of a file from its first lines.

    Raises:
        ValueError: it is uncertain which fields hold words and tags.
    """
    blocks = blocks_of(lines)
    flat = [line for block in blocks for line in block]
    return find_conllu(lines, options) or _find_one_line(flat, options) or find_columns(blocks, options)


@dataclass(frozen=True, slots=True)
class OneLine:
    """A sentence a line, each word with its tag behind a bar: `The|O ferry|B-BOAT` or `ferry|NN|B-BOAT`.

    Attributes:
        bars: number of bars after each word; the tag follows the last bar.
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
    """A line for each word, with a tab and a BIO tag, and an empty line after each document; ids are left out.

    Raises:
        CorpusError: a label has unprintable characters.
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


@dataclass(frozen=True, slots=True)
class Columns:
    """The layout of a column file.

    Attributes:
        separator: a tab, or None for runs of blanks.
        fields: fields of each line; the least number if `differ`.
        differ: whether the number of fields varies, as in CoNLL-2012.
        word: index of the field with the word, from 0.
        tag: index of the field with the tag; None for no tags.
        brackets: whether tags have the form (ORG*, *, *) and (ORG).
        header: the first line, if it names the fields.
        tags: the tags of the first sentences.
    """

    separator: str | None
    fields: int
    differ: bool
    word: int
    tag: int | None
    brackets: bool
    header: Row | None
    tags: frozenset[str]
    one_line: bool = False

    @property
    def scheme(self) -> TagScheme | None:
        """BIO for brackets; otherwise found from the tags."""
        return BIO if self.brackets else None

    def is_comment(self, line: str) -> bool:
        """Whether a line is a comment or names the fields; "#" may also be a word, or begin one."""
        if not line.startswith("#"):
            return self.header is not None and split_line(line, self.separator) == self.header
        row = split_line(line, self.separator)
        if self.word or not self._fits(row):
            return True
        if self.tag is None or row[self.word].strip() != "#":
            return False
        tag = row[self.tag].strip()
        is_tag = tag == OUTSIDE or tag in self.tags or is_prefixed(tag)
        return not is_tag and ("=" in line or ":" in line)

    def sentence(self, lines: Sequence[NumberedLine]) -> Sentence:
        """The words of a sentence's lines."""
        words = []
        inside = None  # the type of the bracket that is open
        for number, line in lines:
            row = split_line(line, self.separator)
            if not self._fits(row) or not row[self.word].strip():
                count = f"{'at least ' if self.differ else ''}{self.fields} {parted(self.separator)} fields"
                raise BadLine.unlike(number, line, f"{count} with a word in field {self.word + 1}")
            tag = None if self.tag is None else row[self.tag].strip()
            if self.brackets and tag is not None:
                tag, inside = _without_bracket(tag, inside, number, line)
            words.append(TaggedWord(number, row[self.word], tag))
        if inside is not None:
            number, line = lines[-1]
            raise BadLine.unlike(number, line, f'"*)", which closes "({inside}*", before the sentence ends')
        return Sentence(words)

    def _fits(self, row: Row) -> bool:
        return len(row) >= self.fields if self.differ else len(row) == self.fields


def _without_bracket(tag: str, inside: str | None, number: int, line: str) -> tuple[str, str | None]:
    """A bracket tag such as (ORG*, *, *) or (ORG) as a BIO tag, and the type of the bracket that is still open."""
    if tag == "*" and inside is None:
        return OUTSIDE, None
    if tag in ("*", "*)") and inside is not None:
        return f"I-{inside}", inside if tag == "*" else None
    if inside is not None or tag == "*)" or not is_bracket(tag):
        raise BadLine.unlike(number, line, '"(TYPE*", then "*" and "*)", or "(TYPE)", and no bracket within another')
    kind = tag.strip("(*)")
    return f"B-{kind}", None if tag.endswith(")") else kind


def find_columns(blocks: Sequence[Sequence[str]], options: ReadOptions) -> Columns:
    """Finds the columns of some sentences, each a list of lines without comments.

    Raises:
        ValueError: it is uncertain which fields hold words and tags, or a field that the user names does not exist.
    """
    return _Finder(blocks, options).find()


class _Finder:
    def __init__(self, blocks: Sequence[Sequence[str]], options: ReadOptions) -> None:
        self._said_word, self._said_tag = options.word_column, options.tag_column
        self._separator = find_separator([line for block in blocks for line in block])
        self._all = [[split_line(line, self._separator) for line in block] for block in blocks]
        counts = Counter(len(row) for rows in self._all for row in rows)
        self._fields = counts.most_common(1)[0][0] if counts else 1
        self._differ = self._is_conll_2012()
        self._header: Row | None = None
        if self._differ:
            self._fields = _ENTITY + 1
            self._keep(lambda row: len(row) >= self._fields)
            return
        first = next((row for rows in self._all for row in rows), [])
        if self._names_fields(first):
            self._header = first
        self._keep(lambda row: len(row) == self._fields and row is not self._header)

    def find(self) -> Columns:
        tag = self._chosen(self._said_tag, "--tag-column")
        word = self._chosen(self._said_word, "--word-column")
        if self._said_tag is None:
            tag = self._find_tag(word)
        if word is None:
            word = self._find_word(tag)
        if word == tag:
            raise ValueError(f"field {word + 1} cannot hold both words and tags; {self._seen()}")
        blanks = sorted(value.count(" ") for value in self._values(word))
        if blanks and blanks[len(blanks) // 2] > _MOST_BLANKS:
            raise self._uncertain(f"field {word + 1} holds whole texts, not words")
        tags = frozenset(self._values(tag)) if tag is not None else frozenset()
        brackets = bool(tags) and all(map(is_bracket, tags))
        return Columns(self._separator, self._fields, self._differ, word, tag, brackets, self._header, tags)

    def _keep(self, fits: Callable[[Row], bool]) -> None:
        self._sentences = [kept for rows in self._all if (kept := [row for row in rows if fits(row)])]

    def _is_conll_2012(self) -> bool:
        rows = [row for rows in self._all for row in rows]
        fitting = [row for row in rows if len(row) > _ENTITY + 1]
        return len(fitting) * 2 > len(rows) and all(
            row[_NUMBER].isdecimal() and "*" in row[_PARSE] and is_bracket(row[_ENTITY]) for row in fitting
        )

    def _names_fields(self, row: Row) -> bool:
        """Whether the first line is a header, with usual names of fields or with those that the user gives."""
        names = {name.strip().lower() for name in row}
        if len(row) != self._fields:
            return False
        said = {name.lower() for name in (self._said_word, self._said_tag) if isinstance(name, str)} - {NO_TAGS}
        return said <= names if said else bool(_WORD_NAMES & names) and bool(_TAG_NAMES & names)

    def _chosen(self, said: int | str | None, option: str) -> int | None:
        if said is None or said == NO_TAGS:
            return None
        if isinstance(said, str):
            names = [name.strip().lower() for name in self._header or []]
            if said.lower() not in names:
                raise ValueError(f"{option} {said}: the first line names no such field; {self._seen()}")
            return names.index(said.lower())
        if not 1 <= said <= self._fields:
            raise ValueError(f"{option} {said}: there are fields 1 to {self._fields}; {self._seen()}")
        return said - 1

    def _find_tag(self, word: int | None) -> int | None:
        """The field that holds tags; None if no field can hold any."""
        if self._differ:
            return _ENTITY
        if self._fields == 1:
            self._require_one_field()
            return None
        found = [
            column
            for column in range(self._fields)
            if column != word and holds_tags(self._values(column)) and not counts_words(self._by_sentence(column))
        ]
        numbers = self._fields_before_word()
        if len(found) > 1:
            found = [column for column in found if not holds_chunks(self._values(column))] or found
        if len(found) > 1:
            found = [column for column in found if holds_prefixes(self._values(column))] or found
        if len(found) > 1:
            found = [column for column in found if self._name(column) in _TAG_NAMES] or found
        if len(found) == 1:
            return found[0]
        if found == [2, 3] and numbers == 1 and self._fields == 4:  # GermEval: the outer tag and the inner one
            return 2
        if not found and self._fields - numbers == 1:
            return None
        which = ", ".join(str(column + 1) for column in found)
        raise self._uncertain(f"fields {which} hold tags" if found else "no field is certain to hold tags of mentions")

    def _find_word(self, tag: int | None) -> int:
        if self._differ:
            return _WORD
        if self._fields == 1:
            return 0
        named = [column for column in range(self._fields) if self._name(column) in _WORD_NAMES and column != tag]
        if len(named) == 1:
            self._require_blank_lines()
            return named[0]
        before, last = self._fields_before_word(), self._fields - 1
        if 0 < before <= last and before != tag:
            return before
        if tag == 0 and last == 1:
            return 1
        is_clear = tag is None or (tag > 0 and all(self._holds_no_word(column) for column in range(tag + 1, last + 1)))
        if before or not is_clear or (last > 1 and self._is_no_word(0)):
            raise self._uncertain("no field is certain to hold words")
        return 0

    def _is_no_word(self, column: int) -> bool:
        """Whether a field holds numbers, or repeats one value line after line, such as a document's name."""
        return repeats(self._by_sentence(column)) or all(map(str.isdecimal, self._values(column)))

    def _require_blank_lines(self) -> None:
        names = [self._name(column) or "" for column in range(self._fields)]
        if any(name.startswith("sent") for name in names):
            raise self._uncertain("a field marks the sentences, but blank lines should separate them")

    def _fields_before_word(self) -> int:
        """The number of fields before the word: the word's number, and fields that are constant within a sentence."""
        for column in range(self._fields):
            if counts_words(self._by_sentence(column)):
                return column + 1
            if not is_constant(self._by_sentence(column)):
                break
        return 0

    def _by_sentence(self, column: int) -> list[list[str]]:
        return [[row[column].strip() for row in rows] for rows in self._sentences]

    def _values(self, column: int) -> list[str]:
        return [value for values in self._by_sentence(column) for value in values]

    def _name(self, column: int) -> str | None:
        return None if self._header is None else self._header[column].strip().lower()

    def _holds_no_word(self, column: int) -> bool:
        values = self._values(column)
        return set(values) <= _PLACEHOLDERS or holds_tags(values)

    def _require_one_field(self) -> None:
        """Refuses files whose fields are separated by commas and the like."""
        rows = [row[0] for rows in self._sentences for row in rows]
        for mark in ",;|":
            last = [row.rpartition(mark)[2] for row in rows if mark in row[1:]]
            if sum(value == OUTSIDE or is_prefixed(value) for value in last) * 2 > len(rows):
                raise ValueError(f"fields must be separated by tabs or blanks, not by {mark!r}; {self._seen()}")

    def _uncertain(self, why: str) -> ValueError:
        return ValueError(
            f"{why}; {self._seen()}; use --word-column and --tag-column, each the number of a field or its name in "
            f"the first line (--tag-column {NO_TAGS}: words without tags)"
        )

    def _seen(self) -> str:
        row = next((row for rows in self._sentences for row in rows), self._header or [""])
        return seen(row, self._separator)
