"""`.jsonl`: a JSON object a line."""

import json
import sys
from collections.abc import Iterator
from typing import IO, Any

from nuner_embed.corpora.decoding import read_lines
from nuner_embed.corpora.records import Item, reject, shown
from nuner_embed.documents import Document, Span, is_text, join_words

_EXPECTED = "each line must be one whole object"
_LARGEST_FLOAT = sys.float_info.max


def read_jsonl(stream: IO[bytes], name: str) -> Iterator[Item]:
    """Every line that is not blank; keys that are not known are left alone."""
    for number, line in read_lines(stream, name):
        if not isinstance(line, str):
            yield number, line
            continue
        if not line or line.isspace():
            continue
        try:
            yield number, parse_record(json.loads(line), f"{name}:{number}")
        except json.JSONDecodeError as error:
            yield reject(name, number, f"broken JSON at character {error.colno}: {error.msg}; {_EXPECTED}", line)
        except (ValueError, RecursionError) as error:
            yield reject(name, number, str(error) or "JSON nested too deeply", line)


def parse_record(record: Any, default_id: str) -> Document:
    """One object as a document.

    Raises:
        ValueError: saying what was expected and what was found.
    """
    if not isinstance(record, dict):
        raise ValueError(f'expected an object with "text", found {shown(record)}')
    identity = record.get("id", default_id)
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        raise ValueError(f'"id" must be a string or a whole number, not {shown(identity)}')
    words = None
    if "text" in record:
        text = record["text"]
        if not isinstance(text, str):
            raise ValueError(f'"text" must be a string, not {shown(text)}')
    elif "tokens" in record:
        text, words = join_words(_words(record["tokens"]))
    else:
        raise ValueError(f'expected "text" or "tokens", found {shown(sorted(record))}')
    return Document(str(identity), text, words, parse_spans(record.get("spans")))


def parse_spans(values: Any) -> tuple[Span, ...]:
    """A list of `{"start", "end", "label"?, "score"?}` as spans; None is no span.

    Raises:
        ValueError: saying what was expected and what was found.
    """
    if values is None:
        return ()
    if not isinstance(values, list):
        raise ValueError(f'"spans" must be a list, not {shown(values)}')
    return tuple(_span(value) for value in values)


def _span(value: Any) -> Span:
    if not isinstance(value, dict):
        raise ValueError(f'a span must be an object with "start" and "end", not {shown(value)}')
    start, end, label, score = (value.get(key) for key in ("start", "end", "label", "score"))
    if type(start) is not int or type(end) is not int:
        raise ValueError(f'a span needs whole numbers "start" and "end", found {shown(value)}')
    if label is not None and not isinstance(label, str):
        raise ValueError(f'a span\'s "label" must be a string, not {shown(label)}')
    if label is not None and not is_text(label):
        raise ValueError(f'a span\'s "label" holds a lone surrogate, which is not text: {shown(label)}')
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise ValueError(f'a span\'s "score" must be a number, not {shown(score)}')
    if isinstance(score, int) and abs(score) > _LARGEST_FLOAT:
        raise ValueError(f'a span\'s "score" must fit a 64-bit float, found {shown(score)}')
    return Span(start, end, label, score)


def _words(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        raise ValueError(f'"tokens" must be a list of words, none of them empty, not {shown(values)}')
    return values
