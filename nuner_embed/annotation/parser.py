"""Parsing the annotations in an LLM's reply, with tolerance for markup and small mistakes.

A reply may hold the LLM's reasoning before its answer; bullets, numbers, quotes, brackets, emphasis and punctuation may
surround an entity or a concept. The parser removes all of these.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from nuner_embed.limits import REPLY_ANNOTATIONS

_BULLET = re.compile(r"[-+*>•◦▪▫·●○■□‣⁃∙–—]\s+(?:\[[ xX]\]\s+)?")
_NUMBER = re.compile(
    r"(?:\*\*)?(?:\(?(?:\d{1,3}|[a-z]|[ivx]{1,4})\\?[.):]{1,2}|\[(?:\d{1,3}|[a-z])\]:?)(?:\*\*)?\s+", re.IGNORECASE
)
_FIELD = re.compile(r"(?:\*\*)?(?:entity|concept|type|description)(?:\*\*)?:(?:\*\*)?\s+", re.IGNORECASE)
_PAIRS = [
    ("***", "***"), ("**", "**"), ("__", "__"), ("~~", "~~"), ("``", "``"), ("*", "*"), ("_", "_"), ("`", "`"),
    ('"', '"'), ("'", "'"), ("“", "”"), ("„", "“"), ("„", "”"), ("‘", "’"), ("‚", "‘"), ("«", "»"), ("»", "«"),
    ("‹", "›"), ("「", "」"), ("『", "』"), ("[", "]"), ("(", ")"), ("{", "}"), ("<", ">"),
]  # fmt: skip
_UNPAIRED = ("*", "`", '"“”„«»')
_PUNCTUATION = ".,;:!?…"
_ABBREVIATION = re.compile(r"\w\.\w{1,3}\.$")  # "city in the U.S."
_WITHIN_A_WORD = re.compile(r"(?<=\w)['’](?=\w)")
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()<>#+.!|~-])")
# A runaway reply may hold thousands of brackets; nothing under more than a few layers is an entity.
_MOST_LAYERS = 8


def without_bullet(text: str) -> str:
    """Text without the bullet, and the name of a field as in "Entity: Kiel", at its beginning."""
    return _without(_FIELD, _without(_BULLET, text))


def without_number(text: str) -> str:
    """Text without the number or letter of a list at its beginning, and what `without_bullet` takes away."""
    return without_bullet(_without(_NUMBER, text))


def layers(text: str) -> Iterator[str]:
    """The text, then the text without its markup, layer by layer: `**"Kiel"**:`, `**"Kiel"**`, `"Kiel"`, `Kiel`."""
    yield text
    for _ in range(_MOST_LAYERS):
        inner = _inner(text)
        if inner in ("", text):
            return
        yield inner
        text = inner


def bare(text: str) -> str:
    """Text without bullet and markup around it."""
    *_, last = layers(without_bullet(text))
    return last


def _without(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.match(text)
    return text[found.end() :] if found else text


def _inner(text: str) -> str:
    if text[:1].isalnum() and text[-1:].isalnum() and "\\" not in text:  # the common case
        return text
    for before, after in _PAIRS:
        if text.startswith(before) and text.endswith(after):
            inner = text[len(before) : -len(after)]
            plain = _WITHIN_A_WORD.sub("", inner)
            if before not in plain and after not in plain:  # '"a" and "b"' is not within quotes
                return inner.strip()
    if text.endswith(tuple(_PUNCTUATION)) and not _ABBREVIATION.search(text):
        return text.rstrip(_PUNCTUATION).rstrip()
    for marks in _UNPAIRED:
        inner = text.strip(marks)
        # a mark at one end alone, or two different marks
        if inner != text and not any(mark in inner for mark in marks):
            return inner.strip()
    return _ESCAPED.sub(r"\1", text)


# Marks of reasoning that servers leave in replies: of Qwen and DeepSeek, Seed, Mistral,
# Kimi, Cohere, and of the gpt-oss "harmony" format. Where one is the entity of an annotation, the text is about it.
_NO_ENTITY = r"(?![^\S\n]*(?:<\s?>|&lt;\s?&gt;))"
_NAMES = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection)"
_OPENING = re.compile(
    rf"^[^\S\n]*(?:<{_NAMES}(?:\s[^<>\n]*)?>|\[THINK\]|◁think▷|<\|(?:START_THINKING|begin_of_thought)\|>"
    rf"|(?:<\|start\|>assistant)?<\|channel\|>\s?(?:analysis|commentary)\b[^<\n]*<\|message\|>){_NO_ENTITY}",
    re.IGNORECASE | re.MULTILINE,
)
_CLOSING = re.compile(
    rf"(?:</{_NAMES}\s*>|\[/THINK\]|◁/think▷|<\|(?:END_THINKING|end_of_thought)\|>"
    rf"|<\|channel\|>\s?final\b[^<\n]*<\|message\|>){_NO_ENTITY}",
    re.IGNORECASE,
)
# Marks that end a turn in chat templates, and tags that some models put around an answer.
_AROUND = re.compile(
    r"<\|(?:im_end|end|return|eot_id|endoftext|START_RESPONSE|END_RESPONSE)\|>|<end_of_turn>|</?(?:answer|response)>"
    rf"{_NO_ENTITY}",
    re.IGNORECASE,
)


def answer_of(reply: str) -> tuple[str, bool]:
    """A reply without its reasoning, and whether the reply ends within its reasoning.

    Text before an end mark is reasoning even without a begin mark, which many chat templates put into the prompt.
    """
    parts, place, unfinished = [], 0, False
    while opening := _OPENING.search(reply, place):
        parts.append(reply[place : opening.start()])
        closing = _CLOSING.search(reply, opening.end())
        unfinished = closing is None
        place = closing.end() if closing else len(reply)
    answer = "".join([*parts, reply[place:]])
    *_, answer = _CLOSING.split(answer)
    return _AROUND.sub("\n", answer), unfinished


# No others: a text may hold line breaks such as U+2028, which an LLM copies.
_LINE_END = re.compile(r"\r\n|[\r\n]")
# without the blanks around them: a runaway reply may hold a hundred thousand in a line
_SEPARATOR = re.compile(r"<\s?>|&lt;\s?&gt;|\\<\s?\\?>")
_BARE = re.compile(r"(?<=\s)(?:<|&lt;)(?=\s)")
_CELL_END = re.compile(r"(?<!\\)\|")
_RULE = r"\s*(?::?-{2,}:?|:-:?|-:)\s*"
_UNDER_THE_HEAD = re.compile(rf"\|?(?:{_RULE}\|)+(?:{_RULE})?")
_NOTHING = re.compile(r"(?:`{3,}|~{3,})\w*|-{3,}|\*{3,}")
_REFUSAL = re.compile(
    r"\b(?:I(?:'m| am) (?:sorry|unable|not able)|I (?:can(?:'t|not| not)|won't|do not feel)|as an AI|cannot assist)",
    re.IGNORECASE,
)
_HEADS = {"entity", "entities", "entity from the text", "the entity", "the entity, copied exactly from the text"}
# At the top of a reply these are a table's head; further down "name" and "label" may be words of the text.
_FIRST_HEADS = _HEADS | {"name", "mention", "term", "text", "span", "phrase", "word", "words", "entity name"}
_SECOND_HEADS = {"concept", "concepts", "type", "types", "entity type", "category", "label", "class", "tag"}
# "Here is the list, entity <> concept:"
_ANNOUNCED = re.compile(r"\bentit(?:y|ies)$", re.IGNORECASE)
_NUMBER_HEADS = {"#", "no", "no.", "nr", "nr.", "number", ""}

# Reasons for leaving out a line; reports count by these texts.
NO_SEPARATOR = "line without <>"
NO_CONCEPT = "line without an entity or a concept"
HEAD = "line that repeats the format"
TOO_MANY = f"line after the first {REPLY_ANNOTATIONS:,} annotations"
CUT = "last line of a reply that was cut short"


@dataclass(frozen=True, slots=True)
class Entry:
    """One annotation as written by the LLM.

    Attributes:
        entity: as written, bullet, number and markup included.
        concept: with single blanks and without markup, otherwise as written.
        description: of the concept, or "".
    """

    entity: str
    concept: str
    description: str = ""

    def spellings(self) -> Iterator[list[str]]:
        """Possible spellings of the entity in the text, likeliest first: without a bullet, then without a number too.

        Each item is a list, in which markup is removed layer by layer.
        """
        with_number = without_bullet(self.entity)
        yield list(layers(with_number))
        if (plain := without_number(with_number)) != with_number:
            yield list(layers(plain))


@dataclass(frozen=True, slots=True)
class Parsed:
    """The contents of a reply.

    Attributes:
        entries: the annotations, in order.
        drops: lines left out, by reason.
        refused: the reply holds no annotation and reads like a refusal.
        unfinished: the reply ends within its reasoning.
    """

    entries: tuple[Entry, ...]
    drops: Counter[str]
    refused: bool
    unfinished: bool = False


def parse_reply(reply: str | Sequence[str], *, cut: bool = False) -> Parsed:
    """Reads `entity <> concept <> description`, a line an annotation, or a Markdown table of these columns.

    A bare `<` in place of the separator, a missing description, numbers, bullets, markup, fences and blank lines are
    forgiven. The LLM's reasoning is removed.

    Args:
        reply: the LLM's text, or its lines.
        cut: the reply was cut short, so that its last line is not used.
    """
    whole = reply if isinstance(reply, str) else "\n".join(reply)
    answer, unfinished = answer_of(whole)
    lines = _LINE_END.split(answer) if isinstance(reply, str) or answer != whole else list(reply)
    drops: Counter[str] = Counter()
    if cut and not unfinished and lines and lines.pop().strip():
        drops[CUT] += 1
    entries: list[Entry] = []
    numbered = table = False
    lines = [line.strip() for line in lines]
    for line, below in zip_longest(lines, lines[1:], fillvalue=""):
        if not line or _NOTHING.fullmatch(line) or _UNDER_THE_HEAD.fullmatch(line):
            continue
        if _UNDER_THE_HEAD.fullmatch(below):
            table, numbered = True, bare(_cells(line)[0]).lower() in _NUMBER_HEADS
            drops[HEAD] += 1
            continue
        if len(entries) == REPLY_ANNOTATIONS:
            drops[TOO_MANY] += 1
            continue
        found = _read_line(line, table=table, numbered=numbered, first=not entries)
        if isinstance(found, Entry):
            entries.append(found)
        else:
            drops[found] += 1
    return Parsed(tuple(entries), drops, not entries and bool(_REFUSAL.search(answer)), unfinished)


def _read_line(line: str, *, table: bool, numbered: bool, first: bool) -> Entry | str:
    """The annotation in a line, or the reason why there is none.

    Args:
        line: without blanks at its ends.
        table: the line is below the head of a table.
        numbered: the first column of the table holds numbers.
        first: the line is before the first annotation.
    """
    fields = _fields(line, table=table, numbered=numbered)
    if len(fields) == 1:
        return NO_SEPARATOR
    entity, concept, description = (" ".join(field.split()) for field in [*fields, ""][:3])
    concept = bare(concept)
    if not entity or not any(map(str.isalnum, concept)):
        return NO_CONCEPT
    return HEAD if _is_head(entity, concept, first=first) else Entry(fields[0].strip(), concept, description)


def _fields(line: str, *, table: bool, numbered: bool) -> list[str]:
    """Entity, concept and perhaps a description; the whole line if it has no separator."""
    in_pipes = line.startswith("|") and line.endswith("|")
    fields = _SEPARATOR.split(line.strip("| ") if in_pipes else line, maxsplit=2)
    if len(fields) == 1 and (in_pipes or table):
        fields = _cells(line)[1 if numbered else 0 :][:3]
    if len(fields) == 1:
        fields = _BARE.split(line, maxsplit=2)
    elif len(fields) == 2:
        fields = [fields[0], *_BARE.split(fields[1], maxsplit=1)]  # no concept has a bare < in it
    return fields or [line]


def _cells(row: str) -> list[str]:
    cells = _CELL_END.split(row.removeprefix("|").removesuffix("|"))
    return [cell.replace("\\|", "|").strip() for cell in cells]


def _is_head(entity: str, concept: str, *, first: bool) -> bool:
    concept = concept.lower()
    if "concept" not in concept and not (first and concept in _SECOND_HEADS):
        return False
    head = bare(without_number(entity)).lower()
    if head in _HEADS and "concept" in concept:
        return True
    if _ANNOUNCED.search(head) and concept in ("concept", "its concept"):
        return True
    return first and head in _FIRST_HEADS and concept in _SECOND_HEADS
