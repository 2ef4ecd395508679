"""Texts with an LLM's replies to them, from whoever asked: ours, `replies.jsonl`, rows of `numind/NuNER`."""

import ast
import csv
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nuner_embed.arguments import Paths, as_paths
from nuner_embed.corpora.corpus import STANDARD_INPUT
from nuner_embed.corpora.parquet import open_parquet, parquet_rows
from nuner_embed.corpora.records import Reject, shown
from nuner_embed.corpora.streams import COMPRESSION_SUFFIXES, open_bytes, read_lines
from nuner_embed.documents import is_text
from nuner_embed.errors import CorpusError
from nuner_embed.files import expand, parse_json
from nuner_embed.limits import LINE_MIB, MIB

_TEXT_KEYS = ("text", "input")
_REPLY_KEYS = ("reply", "output")
_EXPECTED = 'a text ("text" or "input") and an LLM\'s reply to it ("reply" or "output")'
_SUFFIXES = (".jsonl", ".csv", ".parquet")
_LARGEST_FIELD = 10_000_000
_LARGEST_ROW = LINE_MIB * MIB
# Why an LLM stopped, in the words of OpenAI, Anthropic, Google and Mistral, in lower case.
_LENGTH = {"length", "max_tokens", "model_length", "model_context_window_exceeded"}
FILTERED = {"content_filter", "refusal", "safety", "recitation", "prohibited_content", "blocklist", "spii"}


@dataclass(frozen=True, slots=True)
class Reply:
    """One text and what an LLM said of it.

    Attributes:
        id: FILE:LINE unless the record has one.
        text: what it was asked about.
        reply: its answer, as text or in lines; None for a record that cannot be read (a `numind/NuNER` row whose
            list is broken).
        finish_reason: why the answer ended, in the server's words; "" if unknown.
    """

    id: str
    text: str
    reply: str | Sequence[str] | None
    finish_reason: str = ""

    @property
    def cut(self) -> bool:
        """The answer was cut short, by a limit of tokens or by a filter."""
        return self.finish_reason.lower() in _LENGTH or self.refused

    @property
    def refused(self) -> bool:
        """The server says that it refused."""
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
    characters = 0  # of the row that is read: quotes may hold line after line

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
        text.detach()  # or it would close what is closed elsewhere


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
    """A record's id, where it is one that text can hold."""
    return str(value) if type(value) is int or (isinstance(value, str) and is_text(value)) else ""


def _plain(value: Any) -> str | Sequence[str] | None:
    lines = value if isinstance(value, list) else [value]
    if not all(isinstance(line, str) and is_text(line) for line in lines):
        return None
    return lines if isinstance(value, list) else str(value)


def _listed(value: Any) -> str | Sequence[str] | None:
    """An `output` of numind/NuNER: a list of annotations, mostly written out as Python would write it."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of "\\d" in somebody's text, which Python takes for a bad escape
                value = ast.literal_eval(value.strip())
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
    return _plain(value)
