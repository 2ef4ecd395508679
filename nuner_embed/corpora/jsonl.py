"""`.jsonl`: one JSON object on each line."""

import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

from nuner_embed.corpora.base import ReadOptions, Source, WriteOptions
from nuner_embed.corpora.objects import Record, read_objects
from nuner_embed.corpora.records import Item, reject
from nuner_embed.corpora.streams import read_lines
from nuner_embed.documents import Document

_EXPECTED = "each line must be one whole object"


def read(source: Source, options: ReadOptions) -> Iterator[Item]:
    """Every line that is not blank; see `read_objects` for the keys.

    Raises:
        CorpusError: the tags can be read in more than one way.
    """
    with source.open() as stream:
        yield from read_objects(_objects(stream, source.name, options.line_bytes), source.name, options)


def _objects(stream: IO[bytes], name: str, limit: int) -> Iterator[Record | Item]:
    for number, line in read_lines(stream, name, limit=limit):
        if not isinstance(line, str):
            yield number, line
            continue
        if not line or line.isspace():
            continue
        try:  # not `parse_json`, whose check of the depth takes 5% of the time: nothing here recurses into the value
            yield Record(number, json.loads(line), line)
        except json.JSONDecodeError as error:
            yield reject(name, number, f"broken JSON at character {error.colno}: {error.msg}; {_EXPECTED}", line)
        except RecursionError:
            yield reject(name, number, f"JSON nested too deeply; {_EXPECTED}", line)
        except ValueError as error:
            yield reject(name, number, str(error), line)


def write(documents: Iterable[Document], options: WriteOptions) -> Iterator[str]:
    """A line for each document, with its mentions and their texts; words are left out."""
    for document in documents:
        yield json.dumps(json_record(document), ensure_ascii=False) + "\n"


def json_record(document: Document) -> dict[str, Any]:
    """A document as the object of its line."""
    spans = [
        {"start": s.start, "end": s.end, "text": document.text[s.start : s.end], "label": s.label}
        | ({} if s.score is None else {"score": round(s.score, 4)})
        | ({} if s.scores is None else {"scores": {name: round(score, 4) for name, score in s.scores.items()}})
        for s in document.spans
    ]
    return {"id": document.id, "text": document.text, "spans": spans}
