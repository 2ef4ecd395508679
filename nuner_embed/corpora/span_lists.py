"""Lists of spans in the forms of various tools: objects, triples, or one list for each field."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

from nuner_embed.corpora.records import shown
from nuner_embed.documents import Span, is_text

_STARTS = ("start", "start_offset")
_ENDS = ("end", "end_offset")
LABELS = ("label", "labels", "type", "entity_type", "entity_group", "tag")
_OTHER_TEXT = frozenset({"id", "text", "word", "source"})
_LARGEST_FLOAT = sys.float_info.max

Named = Callable[[Any], Any]
Places = Sequence[tuple[int, int]]
# what the numbers of a span count; the end is the last token, or the token after it
Counting = Literal["characters", "tokens", "tokens, end left out"]


def is_span_list(value: Any) -> bool:
    """Whether a value looks like spans: a list of objects with start and end, of triples, or an object of lists."""
    if isinstance(value, dict):
        return all(isinstance(_first(value, keys), list) for keys in (_STARTS, _ENDS))
    if not isinstance(value, list) or not value:
        return False
    item = value[0]
    if isinstance(item, dict):
        return all(type(_first(item, keys)) is int for keys in (_STARTS, _ENDS))
    return _is_triple(item) and type(item[0]) is type(item[1]) is int


def _is_triple(value: Any) -> bool:
    """Whether a value is a list of start, end and perhaps a label."""
    return isinstance(value, list) and len(value) in (2, 3)


def parse_spans(value: Any, key: str = "spans", named: Named = lambda label: label) -> tuple[Span, ...]:
    """Spans of a record: None, a list of objects or triples, or an object that holds a list for each of their fields.

    Args:
        value: of the record.
        key: of the value, for messages.
        named: returns the name of a label that is a number.

    Raises:
        ValueError: the value is no list of spans.
    """
    if isinstance(value, dict):
        value = _rows(value, key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError(f'"{key}" must be a list, not {shown(value)}')
    return tuple(span for item in value for span in _spans(item, named))


def find_counting(found: Sequence[tuple[Sequence[Span], Places]], key: str) -> Counting:
    """Finds out what spans count, from some records that have tokens and no text.

    Args:
        found: the spans and the token offsets of each record; the tokens are joined by blanks.
        key: of the spans, for messages.

    Raises:
        ValueError: spans count tokens, and it is uncertain whether the end is the last token or the token after it.
    """
    each = [(span, words) for spans, words in found for span in spans]
    whole = 0
    for spans, words in found:
        starts, ends = {start for start, _ in words}, {end for _, end in words}
        whole += sum(span.start in starts and span.end in ends for span in spans)
    short = [(span, words) for span, words in each if 0 <= span.start <= span.end <= len(words)]
    if whole * 2 >= len(each) or len(short) * 2 <= len(each):
        return "characters"
    last = any(span.start == span.end for span, _ in short)
    after = any(span.end == len(words) for span, words in short)
    if last == after:
        raise ValueError(
            f'"{key}" seems to count tokens, but the end of a span may be its last token or the token after it; '
            'write "ner": [[first, last, label]], or count characters of the tokens with blanks between them'
        )
    return "tokens" if last else "tokens, end left out"


def to_characters(spans: Sequence[Span], words: Places, counting: Counting, key: str) -> tuple[Span, ...]:
    """Converts spans to character offsets.

    Raises:
        ValueError: a span lies outside the tokens.
    """
    if counting == "characters":
        return tuple(spans)
    after = counting != "tokens"
    for span in spans:
        if not 0 <= span.start <= span.end - after < len(words):
            raise ValueError(
                f'"{key}" counts tokens, here from 0 to {len(words) - 1}; [{span.start}, {span.end}] is not among them'
            )
    return tuple(Span(words[span.start][0], words[span.end - after][1], span.label, span.score) for span in spans)


def unread_labels(value: Any) -> list[str]:
    """Keys of span objects that may hold labels under unknown names."""
    item = value[0] if isinstance(value, list) and value else value
    if not isinstance(item, dict) or any(key in item for key in LABELS):
        return []
    held = {key: field[0] if isinstance(field, list) and field else field for key, field in item.items()}
    return [key for key, field in held.items() if isinstance(field, str) and key not in _OTHER_TEXT]


def _first(values: dict[str, Any], keys: tuple[str, ...]) -> Any:
    for key in keys:
        if values.get(key) is not None:
            return values[key]
    return None


def _rows(columns: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects of an object of lists."""
    lists = {name: field for name, field in columns.items() if isinstance(field, list)}
    if columns and not is_span_list(columns):
        raise ValueError(f'"{key}" must be a list, or an object with lists "start" and "end", not {shown(columns)}')
    if len({len(field) for field in lists.values()}) > 1:
        lengths = ", ".join(f"{len(field)} of {name!r}" for name, field in lists.items())
        raise ValueError(f'the lists in "{key}" must have the same length, found {lengths}')
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _spans(value: Any, named: Named) -> list[Span]:
    if _is_triple(value):
        value = dict(zip(("start", "end", "label"), value, strict=False))
    if not isinstance(value, dict):
        raise ValueError(f'a span must be an object with "start" and "end", or a list of these, not {shown(value)}')
    start, end, label, score = _first(value, _STARTS), _first(value, _ENDS), _first(value, LABELS), value.get("score")
    if type(start) is not int or type(end) is not int:
        raise ValueError(f'a span needs whole numbers "start" and "end", found {shown(value)}')
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise ValueError(f'a span\'s "score" must be a number, not {shown(score)}')
    if isinstance(score, int) and abs(score) > _LARGEST_FLOAT:
        raise ValueError(f'a span\'s "score" must fit a 64-bit float, found {shown(score)}')
    labels = label if isinstance(label, list) and label else [label]
    return [Span(start, end, _label(named(one)), score) for one in labels]


def _label(label: Any) -> str | None:
    if label is not None and not isinstance(label, str):
        raise ValueError(f'a span\'s "label" must be a string, not {shown(label)}')
    if label is not None and not is_text(label):
        raise ValueError(f'a span\'s "label" holds a lone surrogate, which is not text: {shown(label)}')
    return label
