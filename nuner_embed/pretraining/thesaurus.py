"""A thesaurus of concepts: what else the mentions of a concept may be called.

A file of lines with three columns, separated by tabs: the concept, its synonyms, and its broader types from specific to
general. Each list is separated by vertical bars; `-` stands for none.
"""

import gzip
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nuner_embed.arguments import StrPath
from nuner_embed.errors import PretrainingError
from nuner_embed.files import expand

_SYNONYMS: Final = 2  # of a concept; a third is loose as a rule
_COLUMNS: Final = 3


@dataclass(frozen=True, slots=True)
class Thesaurus:
    """Further names of concepts.

    Attributes:
        synonyms: of each concept, the first two.
        broader: of each concept, its broader types.
        sha256: of the file.
    """

    synonyms: Mapping[str, tuple[str, ...]]
    broader: Mapping[str, tuple[str, ...]]
    sha256: str

    def others(self, concept: str) -> tuple[str, ...]:
        """The synonyms and broader types of a concept; none if the thesaurus does not have the concept."""
        return (*self.synonyms.get(concept, ()), *self.broader.get(concept, ()))

    def coverage(self, concepts: Sequence[str]) -> str:
        """How many of some concepts the thesaurus has, for people."""
        known = sum(concept in self.synonyms for concept in concepts)
        return f"the thesaurus has {known:,} of the {len(concepts):,} concepts"

    @classmethod
    def read(cls, path: StrPath) -> "Thesaurus":
        """Reads a file, which may be compressed by gzip.

        Raises:
            PretrainingError: the file cannot be read, a line has another form, or a concept has two lines; the message
                names the line.
        """
        file = expand(path)
        try:
            content = file.read_bytes()
            text = (gzip.decompress(content) if file.suffix == ".gz" else content).decode("utf-8-sig")
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise PretrainingError(f"{file}: the thesaurus cannot be read: {error}") from None
        lines: dict[str, int] = {}
        synonyms, broader = {}, {}
        for number, line in enumerate(text.split("\n"), start=1):  # a name may hold other characters that end lines
            if not line.strip():
                continue
            columns = line.split("\t")
            if len(columns) != _COLUMNS:
                raise PretrainingError(
                    f"{file}, line {number}: expected concept, synonyms and broader types separated by tabs, found "
                    f"{len(columns)} columns"
                )
            concept = columns[0].strip()
            if not concept:
                raise PretrainingError(f"{file}, line {number}: the concept is empty")
            if lines.setdefault(concept, number) != number:
                raise PretrainingError(
                    f"{file}, line {number}: {concept[:60]!r} has a line already, line {lines[concept]}; make one line "
                    "of both"
                )
            synonyms[concept] = _listed(columns[1])[:_SYNONYMS]
            broader[concept] = _listed(columns[2])
        if not lines:
            raise PretrainingError(f"{file}: the thesaurus holds no concept")
        return cls(synonyms, broader, hashlib.sha256(content).hexdigest())


def _listed(column: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in column.split("|") if name.strip() not in ("", "-"))
