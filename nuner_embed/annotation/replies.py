"""Texts with an LLM's replies: read from files of whoever asked, and turned into an annotated corpus."""

import ast
import csv
import gzip
import io
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nuner_embed.annotation.alignment import Occurrences, align, is_uninformative
from nuner_embed.annotation.parser import Parsed, parse_reply
from nuner_embed.annotation.report import (
    EMPTY,
    NONE_FOUND,
    REFUSED,
    REPLIES_SUFFIX,
    UNFINISHED,
    UNINFORMATIVE,
    UNREADABLE,
    AnnotationReport,
)
from nuner_embed.arguments import Paths, StrPath, as_paths
from nuner_embed.corpora.corpus import STANDARD_INPUT
from nuner_embed.corpora.parquet import open_parquet, parquet_rows
from nuner_embed.corpora.records import Reject, shown
from nuner_embed.corpora.streams import COMPRESSION_SUFFIXES, open_bytes, read_lines
from nuner_embed.documents import Document, is_text
from nuner_embed.errors import AnnotationError, CorpusError
from nuner_embed.files import atomic_write, expand, parse_json
from nuner_embed.limits import LINE_MIB, MIB

_TEXT_KEYS = ("text", "input")
_REPLY_KEYS = ("reply", "output")
_EXPECTED = 'a text ("text" or "input") and an LLM\'s reply to it ("reply" or "output")'
_SUFFIXES = (".jsonl", ".csv", ".parquet")
_LARGEST_FIELD = 10_000_000
_LARGEST_ROW = LINE_MIB * MIB
# Finish reasons of OpenAI, Anthropic, Google and Mistral, in lower case.
_LENGTH = {"length", "max_tokens", "model_length", "model_context_window_exceeded"}
FILTERED = {"content_filter", "refusal", "safety", "recitation", "prohibited_content", "blocklist", "spii"}


@dataclass(frozen=True, slots=True)
class Reply:
    """A text with the reply of an LLM.

    Attributes:
        id: of the record, or FILE:LINE if it has none.
        text: the text.
        reply: the answer, as text or in lines; None for a record that cannot be read (a `numind/NuNER` row whose
            list is broken).
        finish_reason: why the answer ended, in the server's words; "" if unknown.
    """

    id: str
    text: str
    reply: str | Sequence[str] | None
    finish_reason: str = ""

    @property
    def cut(self) -> bool:
        """Whether the answer was cut short, by a limit of tokens or by a filter."""
        return self.finish_reason.lower() in _LENGTH or self.refused

    @property
    def refused(self) -> bool:
        """Whether the server says that it refused."""
        return self.finish_reason.lower() in FILTERED


def read_replies(paths: Paths) -> Iterator[Reply]:
    """All records of `.jsonl`, `.csv` and `.parquet` files, each also `.gz` or `.zst`; "-" is standard input, JSONL.

    Raises:
        CorpusError: a file that cannot be read, is of another kind, or has a record without text or reply.
    """
    for argument in as_paths(paths):
        if os.fspath(argument) == STANDARD_INPUT:
            for line, record in _json_lines(sys.stdin.buffer, STANDARD_INPUT):
                yield _reply(record, STANDARD_INPUT, line)
            continue
        path = expand(argument)
        plain = path.with_suffix("") if path.suffix.lower() in COMPRESSION_SUFFIXES else path
        kind = plain.suffix.lower()
        if not path.is_file():
            raise CorpusError(str(argument), None, "a directory; name its files" if path.is_dir() else "no such file")
        if kind not in _SUFFIXES:
            reason = (
                f"holds no replies that can be read: expected {', '.join(_SUFFIXES)} with {_EXPECTED}; "
                "to ask an LLM about plain texts, name it with --llm"
            )
            raise CorpusError(str(argument), None, reason)
        for line, record in _records(path, kind):
            yield _reply(record, path.name, line)


def _records(path: Path, kind: str) -> Iterator[tuple[int, Any]]:
    if kind == ".parquet":
        yield from _parquet_rows(path)
        return
    with open_bytes(path, path.name) as stream:
        yield from _json_lines(stream, path.name) if kind == ".jsonl" else _csv_rows(stream, path.name)


def _json_lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, Any]]:
    for number, line in read_lines(stream, name):
        if not isinstance(line, str):
            raise CorpusError(name, number, line.reason if isinstance(line, Reject) else "not valid UTF-8")
        if line.strip():
            try:
                yield number, parse_json(line)
            except ValueError as error:
                raise CorpusError(name, number, f"broken JSON: {error}") from None


def _csv_rows(stream: IO[bytes], name: str) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(_LARGEST_FIELD)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    characters = 0  # of the present row, which may have several lines within quotes

    def lines() -> Iterator[str]:
        nonlocal characters
        while line := text.readline(_LARGEST_ROW):
            characters += len(line)
            if characters >= _LARGEST_ROW:
                raise csv.Error(f"a row has more than {_LARGEST_ROW:,} characters")
            yield line

    rows = csv.DictReader(lines())
    try:
        for row in rows:
            characters = 0
            yield rows.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise CorpusError(name, rows.line_num + 1, f"not valid CSV in UTF-8: {error}") from None
    finally:
        text.detach()  # otherwise it would close the stream, which the caller closes


def _parquet_rows(path: Path) -> Iterator[tuple[int, Any]]:
    with open_parquet(path, path.name) as opened:
        there = opened.file.schema_arrow.names
        columns = [name for name in ("id", *_TEXT_KEYS, *_REPLY_KEYS) if name in there]
        for number, row in enumerate(parquet_rows(opened, path.name, columns), start=1):
            if row is None:
                raise CorpusError(path.name, number, "not valid UTF-8; write the columns from valid text")
            yield number, row


def _reply(record: Any, name: str, line: int) -> Reply:
    if not isinstance(record, dict):
        raise CorpusError(name, line, f"expected an object with {_EXPECTED}, found {shown(record)}")
    text = next((record[key] for key in _TEXT_KEYS if isinstance(record.get(key), str)), None)
    key = next((key for key in _REPLY_KEYS if key in record), None)
    if text is None or key is None:
        raise CorpusError(name, line, f"expected {_EXPECTED}, found {shown(sorted(map(str, record)))}")
    if not is_text(text):
        raise CorpusError(name, line, "the text holds a lone surrogate, which is not text")
    return Reply(
        _identity(record.get("id")) or f"{name}:{line}",
        text,
        _listed(record[key]) if key == "output" else _plain(record[key]),
        finish_reason=finish if isinstance(finish := record.get("finish_reason"), str) else "",
    )


def _identity(value: Any) -> str:
    """The id of a record, if it is an integer or a valid text; else an empty text."""
    return str(value) if type(value) is int or (isinstance(value, str) and is_text(value)) else ""


def _plain(value: Any) -> str | Sequence[str] | None:
    lines = value if isinstance(value, list) else [value]
    if not all(isinstance(line, str) and is_text(line) for line in lines):
        return None
    return lines if isinstance(value, list) else str(value)


def _listed(value: Any) -> str | Sequence[str] | None:
    """An `output` of numind/NuNER: a list of annotations, mostly as a Python literal."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about "\\d" in a text, which Python takes for a bad escape
                value = ast.literal_eval(value.strip())
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
    return _plain(value)


def annotated(
    replies: Iterable[Reply], report: AnnotationReport, *, occurrences: Occurrences = "all"
) -> Iterator[Document]:
    """Yields the sentences that are kept, with concepts as labels of their spans, and counts into the report.

    A sentence is left out if its reply cannot be read, ends within its reasoning, is a refusal, holds no annotation, or
    has the concept "concept" (section 3.1 of the paper). It is also left out if the sentence contains none of its
    annotations, because a model would learn that the sentence holds no mention.
    """
    for reply in replies:
        report.replies += 1
        if reply.reply is None:
            report.dropped_sentences[UNREADABLE] += 1
            continue
        parsed = parse_reply(reply.reply, cut=reply.cut)
        if not parsed.entries:
            report.dropped_sentences[_why_empty(reply, parsed)] += 1
        elif is_uninformative(parsed.entries):
            report.dropped_sentences[UNINFORMATIVE] += 1
        else:
            alignment = align(reply.text, parsed.entries, occurrences)
            if not alignment.spans:
                report.dropped_sentences[NONE_FOUND] += 1
                continue
            report.keep(len(parsed.entries), alignment, parsed.drops)
            yield Document(reply.id, reply.text, spans=alignment.spans)


def _why_empty(reply: Reply, parsed: Parsed) -> str:
    if parsed.unfinished:
        return UNFINISHED
    return REFUSED if parsed.refused or reply.refused else EMPTY


def write_annotated(path: Path, documents: Iterable[Document]) -> None:
    """Writes JSONL, `{"id", "text", "spans"}` a line, atomically; gzip where the name ends in `.gz`."""
    with atomic_write(path) as stream:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile(fileobj=stream, mode="wb", filename="", mtime=0) as packed:
                _write(packed, documents)
        else:
            _write(stream, documents)


def require_other_files(written: Sequence[Path], read: Sequence[Path]) -> None:
    """Checks that no file is both read and written.

    Raises:
        AnnotationError: the output, which is the first file of `written`, has the name of a file of kept replies; or a
            file is both read and written.
    """
    if written[0].name.removesuffix(".gz").endswith(REPLIES_SUFFIX):
        raise AnnotationError(f"{written[0]}: files of this name hold kept replies; name another output")
    for output in written:
        if output.exists() and any(path.exists() and output.samefile(path) for path in read):
            raise AnnotationError(f"{output} is a file that is read; name another output")


def convert_replies(paths: Paths, output: StrPath, *, occurrences: Occurrences = "all") -> AnnotationReport:
    """Makes an annotated corpus from files of replies; see `read_replies`.

    Args:
        paths: of the replies.
        output: a `.jsonl` or `.jsonl.gz` file.
        occurrences: which matches of an entity in its text are annotated.

    Raises:
        CorpusError: a file cannot be read, or holds no replies.
        AnnotationError: the output is one of the files.
    """
    output = Path(output)
    require_other_files([output], [Path(path) for path in as_paths(paths)])
    report = AnnotationReport()
    write_annotated(output, annotated(read_replies(paths), report, occurrences=occurrences))
    return report


def _write(stream: IO[bytes] | gzip.GzipFile, documents: Iterable[Document]) -> None:
    ids: Counter[str] = Counter()
    for document in documents:
        ids[document.id] += 1
        again = ids[document.id]  # records of several files may share an id; documents of a corpus may not
        record = {
            "id": document.id if again == 1 else f"{document.id}#{again}",
            "text": document.text,
            "spans": [{"start": span.start, "end": span.end, "label": span.label} for span in document.spans],
        }
        stream.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
