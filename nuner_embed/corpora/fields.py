"""The fields of lines, and tests of what a column of fields holds."""

import re
from collections.abc import Sequence
from itertools import pairwise

from nuner_embed.corpora.records import shown
from nuner_embed.limits import LINE_FIELDS
from nuner_embed.tags import OUTSIDE

NO_TAGS = "none"
_BLANKS = re.compile(r"[ \t]+")
_PREFIXED = re.compile(r"[BIESLUMbieslum][-_:/].+|.+[-_:/][BIESLUMbieslum]")
_BARE = frozenset("BIESLUMbieslum")
_BRACKET = re.compile(r"\*|\*\)|\([^()*\s]+(\*|\*?\))")
_COUNT = re.compile(r"[0-9]{1,18}")
_CHUNKS = frozenset(["NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "NC", "VC", "PC"])
_LEAST_OUTSIDE = 0.1  # of the words; recognises types without prefixes

Row = list[str]


def split_line(line: str, separator: str | None) -> Row:
    """Splits a line into fields at tabs, or at runs of blanks if the separator is None; at most `LINE_FIELDS` times."""
    if separator is not None or line.isascii():
        return line.split(separator, LINE_FIELDS)
    return _BLANKS.split(line.strip(" \t"), LINE_FIELDS)  # str.split would split words at no-break spaces


def split_words(line: str) -> Row:
    """The words of a line that holds a whole sentence."""
    return line.split() if line.isascii() else _BLANKS.split(line.strip(" \t"))


def find_separator(lines: Sequence[str]) -> str | None:
    """A tab if most lines hold one, else None: runs of blanks."""
    return "\t" if sum("\t" in line for line in lines) * 2 > len(lines) else None


def parted(separator: str | None) -> str:
    """The adjective for fields with this separator, for messages."""
    return "tab-separated" if separator else "blank-separated"


def seen(row: Row, separator: str | None) -> str:
    """A line's fields for a message."""
    fields = f"{parted(separator)} field{'s' if len(row) > 1 else ''}"
    return f"found {len(row)} {fields} such as {shown(row)}"


def is_prefixed(tag: str) -> bool:
    """Whether a tag looks like a prefix with a type."""
    return bool(_PREFIXED.fullmatch(tag))


def is_bracket(tag: str) -> bool:
    """Whether a tag has the form of CoNLL-2012: (ORG*, *, *) or (ORG)."""
    return bool(_BRACKET.fullmatch(tag))


def holds_tags(values: Sequence[str]) -> bool:
    """Whether a column's values are tags of mentions: prefixes and the like, or types among many words outside."""
    if holds_prefixes(values):
        return True
    outside = values.count(OUTSIDE)  # "o" is a word in several languages
    return outside > len(values) * _LEAST_OUTSIDE and all(any(map(str.isalnum, value)) for value in values if value)


def holds_prefixes(values: Sequence[str]) -> bool:
    """Whether a column's values are prefixes, with types or bare, or brackets, most of them at least."""
    if not values:
        return False
    outside = sum(value in (OUTSIDE, OUTSIDE.lower()) for value in values)
    prefixed = sum(map(is_prefixed, values))
    if prefixed * 10 >= len(values) * 9 or (outside and prefixed and (outside + prefixed) * 2 >= len(values)):
        return True
    if set(values) <= _BARE | {OUTSIDE, OUTSIDE.lower()}:
        return True
    return all(map(is_bracket, values)) and set(values) != {"*"}


def holds_chunks(values: Sequence[str]) -> bool:
    """Whether a column's values are tags of phrases (B-NP), not of mentions."""
    chunks = set(values) - {OUTSIDE, ""}
    return bool(chunks) and all(chunk[2:] in _CHUNKS for chunk in chunks)


def counts_words(sentences: Sequence[Sequence[str]]) -> bool:
    """Whether a column numbers the words of each sentence, from any first number."""
    for values in sentences:
        if not all(map(_COUNT.fullmatch, values)):
            return False
        if any(int(value) != int(values[0]) + i for i, value in enumerate(values)):
            return False
    return sum(map(len, sentences)) > len(sentences)


def repeats(sentences: Sequence[Sequence[str]]) -> bool:
    """Whether most values of a column equal the value of the line before, which is rare among words."""
    pairs = [a == b for values in sentences for a, b in pairwise(values)]
    return bool(pairs) and sum(pairs) * 2 >= len(pairs)


def is_constant(sentences: Sequence[Sequence[str]]) -> bool:
    """Whether a column is constant within every sentence, in enough lines to be no coincidence."""
    several = [values for values in sentences if len(values) > 1]
    if not all(len(set(values)) == 1 for values in several):
        return False
    return len(several) > 1 or any(len(values) > 2 for values in several)
