"""A thesaurus of concepts: what else the mentions of a concept may be called.

A file of lines with three columns, separated by tabs: the concept, its synonyms, and its broader types from specific to
general. Each list is separated by vertical bars; `-` stands for none.
"""

import gzip
import hashlib
import zlib
from collections.abc import Mapping
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
        others: of each concept, its first two synonyms and all its broader types.
        sha256: of the file.
    """

    others: Mapping[str, tuple[str, ...]]
    sha256: str

    @classmethod
    def read(cls, path: StrPath) -> "Thesaurus":
        """Reads a file, which may be compressed by gzip.

        Raises:
            PretrainingError: the file cannot be read, or a line has another form; the message names the line.
        """
        file = expand(path)
        try:
            content = file.read_bytes()
            text = (gzip.decompress(content) if file.suffix == ".gz" else content).decode("utf-8-sig")
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise PretrainingError(f"{file}: the thesaurus cannot be read: {error}") from None
        others = {}
        for number, line in enumerate(text.split("\n"), start=1):  # a name may hold other characters that end lines
            if not line.strip():
                continue
            columns = line.split("\t")
            if len(columns) != _COLUMNS:
                raise PretrainingError(
                    f"{file}, line {number}: expected concept, synonyms and broader types separated by tabs, found "
                    f"{len(columns)} columns"
                )
            concept, synonyms, broader = columns
            if not concept.strip():
                raise PretrainingError(f"{file}, line {number}: the concept is empty")
            others[concept.strip()] = (*_listed(synonyms)[:_SYNONYMS], *_listed(broader))
        if not others:
            raise PretrainingError(f"{file}: the thesaurus holds no concept")
        return cls(others, hashlib.sha256(content).hexdigest())


def _listed(column: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in column.split("|") if name.strip() not in ("", "-"))
