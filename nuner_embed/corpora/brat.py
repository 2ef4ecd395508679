"""`.ann`: mentions in the standoff format of BRAT, beside the text, which is a `.txt` file of the same name.

A line is `T1<tab>Label 0 4<tab>Oslo`, with character offsets; a mention in pieces has several, `0 4;9 13`. Lines of
relations, events, attributes and notes begin with another letter.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from nuner_embed.corpora.base import ReadOptions, Source
from nuner_embed.corpora.records import Item, reject, shown
from nuner_embed.corpora.streams import COMPRESSION_SUFFIXES, open_bytes, read_lines
from nuner_embed.documents import Document, Span
from nuner_embed.errors import CorpusError
from nuner_embed.limits import MIB

_MENTION = re.compile(r"T\S*\t(\S+) (\d{1,12} \d{1,12}(?:;\d{1,12} \d{1,12})*)(?:\t(.*))?")
_PIECES = "mentions in several pieces are read as one, from the first piece to the last"
_EXPECTED = "'T1<tab>Label 0 4<tab>Oslo'"


def read(source: Source, options: ReadOptions) -> Iterator[Item]:
    """One document: the text beside the file, with the mentions of the file; the id is the file's name without suffix.

    Raises:
        CorpusError: there is no text beside the file, or a file cannot be read.
    """
    name, text = _text_beside(source, options.line_bytes)
    if text is None:
        reason = f"the text has more than {options.line_bytes / MIB:g} MiB; read longer ones with --max-line-mib"
        yield reject(name, 1, reason, "")
        return
    spans: list[Span] = []
    with source.open() as stream:
        for number, line in read_lines(stream, source.name, limit=options.line_bytes):
            if not isinstance(line, str):
                yield number, line
                return
            if not line.startswith("T"):
                continue
            try:
                spans.append(_span(line, text, f"{source.name}:{number}", options))
            except ValueError as error:
                yield reject(source.name, number, str(error), line)
                return
    try:
        yield 1, Document(_stem(source.name), text, spans=tuple(spans))
    except ValueError as error:
        yield reject(source.name, 1, str(error), text)


def _span(line: str, text: str, where: str, options: ReadOptions) -> Span:
    found = _MENTION.fullmatch(line)
    if found is None:
        raise ValueError(f"a mention of BRAT is a line such as {_EXPECTED}, not {shown(line)}")
    label, offsets, surface = found.groups()
    pieces = [(int(start), int(end)) for start, _, end in (piece.partition(" ") for piece in offsets.split(";"))]
    if len(pieces) > 1:
        options.remarks.setdefault(_PIECES, where)
    if not all(0 <= start < end <= len(text) for start, end in pieces):
        raise ValueError(f"the offsets {offsets} must lie in the text's {len(text)} characters, and not be empty")
    there = " ".join(text[start:end] for start, end in pieces)
    if surface and _bare(surface) != _bare(there):
        raise ValueError(
            f"{shown(surface)} does not stand at {offsets} of the text, but {shown(there)}; the text was changed, or "
            "its line ends"
        )
    return Span(min(start for start, _ in pieces), max(end for _, end in pieces), label)


def _bare(text: str) -> str:
    """A text without white space: BRAT writes a blank in place of a line end."""
    return "".join(text.split())


def _stem(name: str) -> str:
    """The name of a file without its suffix, and without one of compression."""
    path = Path(name)
    if path.suffix.lower() in COMPRESSION_SUFFIXES:
        path = path.with_suffix("")
    return path.with_suffix("").as_posix()


def _text_beside(source: Source, limit: int) -> tuple[str, str | None]:
    """The name of the text's file, and the text; None for the text if it is too long.

    Raises:
        CorpusError: there is no such file, or it is not valid UTF-8.
    """
    stem, name = Path(_stem(str(source.path))), _stem(source.name)
    for suffix in (".txt", *(f".txt{packed}" for packed in COMPRESSION_SUFFIXES)):
        path = stem.with_name(stem.name + suffix)
        if not path.is_file():
            continue
        with open_bytes(path, name + suffix) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            return name + suffix, None
        try:
            return name + suffix, content.decode("utf-8")
        except UnicodeDecodeError as error:
            reason = f"not valid UTF-8 at byte {error.start + 1}; convert the file to UTF-8"
            raise CorpusError(name + suffix, None, reason) from None
    raise CorpusError(source.name, None, f"the text of these mentions is missing: expected {stem.name}.txt beside it")
