"""A file of queries: a mention in its context a line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nuner_embed.corpora.lines import read_lines
from nuner_embed.corpora.records import Reject
from nuner_embed.documents import Document
from nuner_embed.errors import CorpusError, NunerEmbedError
from nuner_embed.files import expand
from nuner_embed.indexes.queries import marked_document
from nuner_embed.metadata import parse


@dataclass(frozen=True, slots=True)
class Query:
    """A query of a file.

    Attributes:
        id: as the file gives it, or FILE:LINE.
        query: as it stands there, with its brackets.
        document: its text, with the mention as its span.
    """

    id: str
    query: str
    document: Document


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a `.jsonl`."""

    query: str
    id: str | int | float | None = None


def read_queries(path: str | Path) -> Iterator[Query]:
    """Reads a `.txt` with a query a line, or a `.jsonl` with `{"id"?, "query"}` a line; blank lines are left out.

    Raises:
        CorpusError: a line that is none; names it.
    """
    file = expand(path)
    if file.suffix not in (".txt", ".jsonl"):
        raise CorpusError(str(path), None, 'queries come as .txt, a query a line, or as .jsonl with {"query": ...}')
    try:
        stream = file.open("rb")
    except OSError as error:
        raise CorpusError(str(path), None, f"cannot be read: {error.strerror}") from None
    with stream:
        for number, line in read_lines(stream, str(path)):
            if isinstance(line, Reject):
                raise CorpusError(str(path), number, line.reason)
            if isinstance(line, str) and line.strip():
                yield _query(str(path), number, line, as_json=file.suffix == ".jsonl")


def _query(name: str, number: int, line: str, *, as_json: bool) -> Query:
    identity = f"{name}:{number}"
    text = line
    try:
        if as_json:
            record = parse(line, _Line)
            text, identity = record.query, identity if record.id is None else str(record.id)
        return Query(identity, text, marked_document(text, identity))
    except json.JSONDecodeError as error:
        raise CorpusError(name, number, f"broken JSON at character {error.colno}: {error.msg}") from None
    except ValueError as error:
        raise CorpusError(name, number, f'expected an object with "query", a string, and "id" ({error})') from None
    except NunerEmbedError as error:
        raise CorpusError(name, number, str(error)) from None
