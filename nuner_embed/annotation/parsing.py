"""Lines of an LLM's reply as annotations: forgiving, and counted."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# without the blanks around them: a runaway reply may hold a hundred thousand in a line
_SEPARATOR = re.compile(r"<\s?>|&lt;\s?&gt;")
_BARE = re.compile(r"(?<=\s)(?:<|&lt;)(?=\s)")
_NUMBERING = re.compile(r"^(?:[-*•–]|\(?\d{1,3}[.):])\s+")
_MARKUP = (("**", "**"), ("`", "`"), ('"', '"'), ("“", "”"), ("'", "'"), ("[", "]"))
_FENCE = re.compile(r"`{3,}\w*|-{3,}|\|?(?:\s*:?-{3,}:?\s*\|)+\s*")
_REFUSAL = re.compile(
    r"\b(?:I(?:'m| am) (?:sorry|unable|not able)|I (?:can(?:'t|not| not)|won't|do not feel)|as an AI|cannot assist)",
    re.IGNORECASE,
)
_HEADS = {"entity", "entities", "entity from the text", "the entity", "the entity, copied exactly from the text"}

# Why a line, an annotation or a whole sentence is left out; reports count by these words.
NO_SEPARATOR = "line without <>"
NO_CONCEPT = "line without an entity or a concept"
HEAD = "line that repeats the format"
CUT = "last line of a reply that was cut short"


@dataclass(frozen=True, slots=True)
class Entry:
    """One annotation as the LLM wrote it.

    Attributes:
        entity: as written, numbering and markup included.
        concept: with single blanks, otherwise as written.
        description: of the concept, or "".
    """

    entity: str
    concept: str
    description: str = ""

    def spellings(self) -> Iterator[str]:
        """The entity as written, then without numbering, then without the markup around it."""
        yield self.entity
        bare = _NUMBERING.sub("", self.entity)
        if bare != self.entity:
            yield bare
        for before, after in _MARKUP:
            if bare.startswith(before) and bare.endswith(after) and len(bare) > len(before) + len(after):
                yield bare[len(before) : -len(after)].strip()


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a reply holds.

    Attributes:
        entries: its annotations, in order.
        drops: lines left out, by reason.
        refused: the reply holds no annotation and reads like a refusal.
    """

    entries: tuple[Entry, ...]
    drops: Counter[str]
    refused: bool


def parse_reply(reply: str | Sequence[str], *, cut: bool = False) -> Parsed:
    """Reads `entity <> concept <> description`, a line an annotation.

    A bare `<` in place of the separator, a missing description, numbering, bullets, markup, fences and blank lines
    are forgiven.

    Args:
        reply: the LLM's text, or its lines.
        cut: the reply ended before the LLM did, so that its last line is not to be trusted.
    """
    lines = reply.splitlines() if isinstance(reply, str) else list(reply)
    drops: Counter[str] = Counter()
    if cut and lines and not (isinstance(reply, str) and reply.endswith("\n")):
        lines.pop()
        drops[CUT] += 1
    entries = []
    for line in lines:
        line = line.strip()
        if not line or _FENCE.fullmatch(line):
            continue
        found = _read_line(line)
        if isinstance(found, Entry):
            entries.append(found)
        else:
            drops[found] += 1
    text = reply if isinstance(reply, str) else "\n".join(reply)
    return Parsed(tuple(entries), drops, refused=not entries and bool(_REFUSAL.search(text)))


def _read_line(line: str) -> Entry | str:
    """An annotation, or why there is none."""
    if line.startswith("|") and line.endswith("|"):
        line = line.strip("| ")
    fields = _SEPARATOR.split(line, maxsplit=2)
    if len(fields) == 1:
        fields = _BARE.split(line, maxsplit=2)
    if len(fields) == 1:
        return NO_SEPARATOR
    entity, concept, *description = fields
    if len(fields) == 2:
        concept, *description = _BARE.split(concept, maxsplit=1)  # no concept has a bare < in it
    entity, concept = entity.strip(), " ".join(concept.split())
    concept = concept.removeprefix("**").removesuffix("**").strip()
    if not entity or not concept:
        return NO_CONCEPT
    if _NUMBERING.sub("", entity).strip("*`[]").lower() in _HEADS and "concept" in concept.lower():
        return HEAD
    return Entry(entity, concept, " ".join(description[0].split()) if description else "")
