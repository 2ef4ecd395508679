"""`.json`: the tasks of Label Studio, in the form of its export "JSON" and of its import.

A task is an object: `data` holds the text, `annotations` what people marked, `predictions` what a model found. Label
Studio counts the characters of a text as Python does, in code points; versions before 2022 counted UTF-16 code units,
of which an emoji has two. Regions contain their texts: if these fit only the older way, the task is read that way.
"""

import json
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import IO, Any

from nuner_embed.corpora.base import ReadOptions, Source, WriteOptions
from nuner_embed.corpora.records import Item, reject, shown
from nuner_embed.corpora.span_lists import parse_spans
from nuner_embed.documents import Document, Span
from nuner_embed.errors import CorpusError
from nuner_embed.limits import MIB

_EXPECTED = 'an array of Label Studio\'s tasks, each an object with "data" (the export named JSON, not JSON-MIN)'
_OTHERS = "write other records as a .jsonl file, one per line"
_PIECE = 1 << 18
_KEPT = 2000  # characters of a task that is rejected
_BLANKS = " \t\n\r"
_BLANKS_AND_MARK = _BLANKS + "\ufeff"
_SEVERAL = "of several annotations of a task the one marked as ground truth is read, or the first"
_UNREVIEWED = "tasks that nobody annotated are read with the model's predictions, beside tasks that people annotated"
_OTHER_TEXT = "the text that a region carries does not stand at its place"


def read(source: Source, options: ReadOptions) -> Iterator[Item]:
    """Every task, one at a time; the number of the task takes the place of a line number.

    The id is that of `data`, of the task, or FILE:NUMBER. Mentions are those of the annotation marked as ground truth,
    or of the first; annotations that were cancelled do not count. A task without annotations has those of its first
    prediction, with their scores.

    Raises:
        CorpusError: the file is no array of tasks, or holds broken JSON.
    """
    reader = _Reader(source.name, options)
    with source.open() as stream:
        elements = _elements(stream, source.name, options.line_bytes)
        for number, (task, raw) in enumerate(elements, start=1):
            if number == 1 and not (isinstance(task, dict) and isinstance(task.get("data"), dict)):
                raise CorpusError(source.name, None, f"expected {_EXPECTED}, found {shown(task)}; {_OTHERS}")
            yield reader.item(number, task, raw)


class _Reader:
    def __init__(self, name: str, options: ReadOptions) -> None:
        self._name = name
        self._options = options
        self._seen: set[str] = set()  # "annotations" and "predictions", once mentions were read from these

    def item(self, number: int, task: Any, raw: str) -> Item:
        try:
            return number, self._document(task, f"{self._name}:{number}")
        except (ValueError, RecursionError) as error:
            return reject(self._name, number, f"task {number}: {error}", raw)

    def _document(self, task: Any, where: str) -> Document:
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(data, dict):
            raise ValueError(f'expected an object with "data", found {shown(task)}')
        key = self._options.text_column
        text = data.get(key)
        if not isinstance(text, str):
            texts = [name for name, value in data.items() if isinstance(value, str)]
            advice = f"; use --text-column {texts[0]}" if key not in data and texts else ""
            raise ValueError(f'"data" must hold a string {key!r}, found {shown(data)}{advice}')
        id_key = self._options.id_column
        if id_key is not None and id_key not in data:
            raise ValueError(f'"data" must hold {id_key!r}, found {shown(data)}')
        identity = data.get(id_key or "id", task.get("id", where))
        if isinstance(identity, bool) or not isinstance(identity, str | int):
            raise ValueError(f"the id must be a string or a whole number, not {shown(identity)}")
        return Document(str(identity), text, spans=self._spans(task, text, where))

    def _spans(self, task: dict[str, Any], text: str, where: str) -> tuple[Span, ...]:
        made = [one for one in _objects(task, "annotations") if not one.get("was_cancelled")]
        if len(made) > 1:
            self._options.remarks.setdefault(_SEVERAL, where)
        source = "annotations" if made else "predictions"
        made = sorted(made, key=lambda one: not one.get("ground_truth"))[:1] or _objects(task, source)[:1]
        if made:
            self._seen.add(source)
        if len(self._seen) > 1:
            self._options.remarks.setdefault(_UNREVIEWED, where)
        results = [result for one in made for result in _objects(one, "result")]
        regions = [region for region in map(_region, results) if region is not None]
        for kind in (str(result.get("type")) for result in results if result.get("type") != "labels"):
            if kind.endswith("labels"):  # of stretches of HTML or of a dialogue, which are no characters of the text
                self._options.unread.setdefault(kind, where)
        places, certain = _places(text, regions)
        if not certain:
            self._options.remarks.setdefault(_OTHER_TEXT, where)
        return tuple(
            Span(start, end, span.label, span.score)
            for region, (start, end) in zip(regions, places, strict=True)
            for span in region.spans
        )


@dataclass(frozen=True, slots=True)
class _Region:
    """An annotated region of a text.

    Attributes:
        start: of the first character, as Label Studio counts.
        end: one past the last character.
        text: of the region according to the export; "" if not given.
        spans: one for each label.
    """

    start: int
    end: int
    text: str
    spans: tuple[Span, ...]


def _region(result: dict[str, Any]) -> _Region | None:
    """The region of a result of an annotation; None for relations, choices and the like."""
    value = result.get("value")
    if not isinstance(value, dict) or (result.get("type") != "labels" and "labels" not in value):
        return None
    score = result.get("score", value.get("score"))
    fields = {
        "start": value.get("start"),
        "end": value.get("end"),
        "labels": value.get("labels") or None,
        "score": score,
    }
    spans = parse_spans([fields])
    text = value.get("text")
    return _Region(spans[0].start, spans[0].end, text if isinstance(text, str) else "", spans)


def _objects(record: dict[str, Any], key: str) -> list[dict[str, Any]]:
    held = record.get(key) or []
    if not isinstance(held, list):
        raise ValueError(f'"{key}" must be a list, not {shown(held)}')
    return [one for one in held if isinstance(one, dict)]  # some exports give only the numbers of predictions


def _places(text: str, regions: list[_Region]) -> tuple[list[tuple[int, int]], bool]:
    """The character offsets of regions, and whether the text at these offsets is that of the regions."""
    points = [(one.start, one.end) for one in regions]
    if _hold(text, regions, points):
        return points, True
    if not text.isascii():
        units = [0, *accumulate(1 + (character > "\uffff") for character in text)]
        at = {unit: place for place, unit in enumerate(units)}
        places = [(at[start], at[end]) for start, end in points if start in at and end in at]
        if len(places) == len(points) and _hold(text, regions, places):
            return places, True
    return points, False


def _hold(text: str, regions: list[_Region], places: list[tuple[int, int]]) -> bool:
    """Whether the text at each place is that of the region, apart from blanks and line ends."""
    return all(
        0 <= start < end <= len(text) and (not region.text or _bare(region.text) == _bare(text[start:end]))
        for region, (start, end) in zip(regions, places, strict=True)
    )


def _bare(text: str) -> str:
    return "".join(text.replace("\\n", "").split())


def _elements(stream: IO[bytes], name: str, limit: int) -> Iterator[tuple[Any, str]]:
    """The elements of a JSON array one after the other, each with the beginning of its text.

    Raises:
        CorpusError: the file is no array, is broken JSON, or has an element that is too long.
    """
    buffer = _Buffer(stream, name, limit)
    first = buffer.next_character()
    if not first:
        return
    if first != "[":
        raise CorpusError(name, None, f"expected {_EXPECTED}, found {shown(buffer.rest(60))}; {_OTHERS}")
    buffer.take()
    if buffer.next_character() == "]":
        buffer.take()
    else:
        while True:
            yield buffer.value()
            following = buffer.next_character()
            buffer.take()
            if following == "]":
                break
            if following != ",":
                raise buffer.broken("expected a comma or the end of the array")
    if buffer.next_character():
        raise buffer.broken("expected nothing after the array")


class _Buffer:
    """The rest of a file's text, read piece by piece when it is needed."""

    def __init__(self, stream: IO[bytes], name: str, limit: int) -> None:
        self._stream, self._name, self._limit = stream, name, limit
        self._decoder = getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder()
        self._text = ""
        self._place = 0
        self._line = 1
        self._ended = False

    def next_character(self) -> str:
        """The next character that is not blank, without taking it; "" at the end."""
        blanks = _BLANKS_AND_MARK if self._line == 1 and not self._place else _BLANKS
        while True:
            while self._place < len(self._text) and self._text[self._place] in blanks:
                self.take()
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._more(_PIECE):
                return ""

    def take(self) -> None:
        """Takes a character."""
        self._line += self._text[self._place : self._place + 1] == "\n"
        self._place += 1

    def rest(self, most: int) -> str:
        """The next characters."""
        return self._text[self._place : self._place + most]

    def value(self) -> tuple[Any, str]:
        """Takes a JSON value; returns the value and the beginning of its text."""
        self.next_character()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._place)
                if end - self._place > self._limit:
                    raise self._too_long()
                if end < len(self._text) or self._ended:  # otherwise a number may continue
                    raw = self._text[self._place : min(end, self._place + _KEPT)]
                    self._line += self._text.count("\n", self._place, end)
                    self._place = end
                    return value, raw
            except json.JSONDecodeError as error:
                if self._ended:
                    raise self.broken(error.msg, error.pos) from None
            except RecursionError:
                raise self.broken("nested too deeply") from None
            except ValueError as error:
                raise self.broken(str(error)) from None
            held = len(self._text) - self._place
            if held > self._limit:
                raise self._too_long()
            self._more(max(_PIECE, held))

    def broken(self, reason: str, place: int | None = None) -> CorpusError:
        """The error for broken JSON at a place, or at the current place."""
        line = self._line + (0 if place is None else self._text.count("\n", self._place, place))
        return CorpusError(self._name, line, f"broken JSON in this line: {reason}; export the tasks again")

    def _too_long(self) -> CorpusError:
        reason = f"the task has more than {self._limit / MIB:g} MiB; read longer ones with --max-line-mib"
        return CorpusError(self._name, self._line, reason)

    def _more(self, size: int) -> bool:
        """Reads another piece and drops the text already taken; returns False at the end."""
        piece = self._stream.read(size)
        try:
            text = self._decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            raise CorpusError(self._name, None, f"not valid UTF-8: {error.reason}; convert the file to UTF-8") from None
        self._ended = not piece
        self._text = self._text[self._place :] + text
        self._place = 0
        return not self._ended


def write(documents: Iterable[Document], options: WriteOptions) -> Iterator[str]:
    """An array of tasks, one on each line, with mentions as predictions for a `<Labels name="label" toName="text">`.

    The id is in `data`, so that an export contains it; words are left out.
    """
    yield "["
    for i, document in enumerate(documents):
        task = {"data": {"text": document.text, "id": document.id}, "predictions": [_prediction(document, options)]}
        yield (",\n" if i else "\n") + json.dumps(task, ensure_ascii=False)
    yield "\n]\n"


def _prediction(document: Document, options: WriteOptions) -> dict[str, Any]:
    scores = [span.score for span in document.spans if span.score is not None]
    result = [
        {"id": f"m{i}", "from_name": "label", "to_name": "text", "type": "labels"}
        | ({} if span.score is None else {"score": round(span.score, 4)})
        | {
            "value": {
                "start": span.start,
                "end": span.end,
                "text": document.text[span.start : span.end],
                "labels": [] if span.label is None else [span.label],
            }
        }
        for i, span in enumerate(document.spans)
    ]
    mean = {"score": round(sum(scores) / len(scores), 4)} if scores else {}  # by which Label Studio sorts tasks
    return {"model_version": options.model, **mean, "result": result}
