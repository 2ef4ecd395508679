"""`.jsonl`: a JSON object a line."""

import json
from collections.abc import Iterator
from typing import IO

from nuner_embed.corpora.lines import read_lines
from nuner_embed.corpora.objects import Annotations, Record, read_objects
from nuner_embed.corpora.records import Item, reject
from nuner_embed.limits import LINE_MIB, MIB

_EXPECTED = "each line must be one whole object"


def read_jsonl(stream: IO[bytes], name: str, annotations: Annotations, limit: int = LINE_MIB * MIB) -> Iterator[Item]:
    """Every line that is not blank; see `read_objects` for the keys.

    Raises:
        CorpusError: the tags can be read in more than one way.
    """
    return read_objects(_objects(stream, name, limit), name, annotations)


def _objects(stream: IO[bytes], name: str, limit: int) -> Iterator[Record | Item]:
    for number, line in read_lines(stream, name, limit=limit):
        if not isinstance(line, str):
            yield number, line
            continue
        if not line or line.isspace():
            continue
        try:  # without `parse_json`, whose look at the depth costs a twentieth: here nothing follows the nesting down
            yield Record(number, json.loads(line), line)
        except json.JSONDecodeError as error:
            yield reject(name, number, f"broken JSON at character {error.colno}: {error.msg}; {_EXPECTED}", line)
        except RecursionError:
            yield reject(name, number, f"JSON nested too deeply; {_EXPECTED}", line)
        except ValueError as error:
            yield reject(name, number, str(error), line)
