"""The contract of corpus formats, and their registry.

A format is a module of this package with a function `read` (a `Reader`) and, where documents can be written in the
format too, a function `write` (a `Writer`). A line in `FORMATS` makes the format known; a line in `WRITTEN_ONLY` one
that is written and not read.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import IO, Protocol, cast

from nuner_embed.corpora.records import Item
from nuner_embed.documents import Document
from nuner_embed.limits import LINE_MIB, MIB


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a corpus.

    Attributes:
        path: where the file lies.
        name: what ids and messages call the file: its path relative to the argument that named it.
        format: a key of `FORMATS`.
    """

    path: Path
    name: str
    format: str

    def open(self) -> AbstractContextManager[IO[bytes]]:
        """Opens the file for reading, decompressed; see `open_bytes` for the errors."""
        from nuner_embed.corpora.streams import open_bytes

        return open_bytes(self.path, self.name)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The user's options for reading a corpus, and the remarks of the readers.

    Attributes:
        text_column: the column of Parquet files that holds the text, or the key in the `data` of Label Studio's tasks.
        id_column: likewise for the id; None for the column `id`, if there is one.
        tag_names: the names of tags or labels that are numbers, in order.
        word_column: the field of a line in column files that holds the word: its number from 1, or its name in the
            file's first line; None to find the field by what the fields hold.
        tag_column: likewise for the tag; "none" for words without tags.
        marked: whether double brackets mark mentions in `.txt` files.
        max_line_mib: greatest length of a line, sentence or task, in mebibytes of decompressed data.
        unread: keys that look like annotations and were not read, with the first place of each; filled by readers.
        remarks: other sentences for the user, with the first place of each; filled by readers.
    """

    text_column: str = "text"
    id_column: str | None = None
    tag_names: tuple[str, ...] = ()
    word_column: int | str | None = None
    tag_column: int | str | None = None
    marked: bool = False
    max_line_mib: int = LINE_MIB
    unread: dict[str, str] = field(default_factory=dict, compare=False)
    remarks: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def line_bytes(self) -> int:
        """`max_line_mib` in bytes."""
        return self.max_line_mib * MIB


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options of a writer.

    Attributes:
        model: name of the model that found the mentions, for formats that record it.
        left_out: called with each document that the format cannot hold.
    """

    model: str = "nuner-embed"
    left_out: Callable[[Document], None] = lambda document: None


class Reader(Protocol):
    """Reads one file."""

    def __call__(self, source: Source, options: ReadOptions) -> Iterator[Item]:
        """The records of a file in order, each with its number: a document, or a `Reject` for a bad record.

        Raises:
            CorpusError: the rest of the file cannot be read.
        """
        ...


class Writer(Protocol):
    """Writes one file."""

    def __call__(self, documents: Iterable[Document], options: WriteOptions) -> Iterator[str] | Iterator[bytes]:
        """The text or the bytes of a file in pieces; text is made from one document after the other.

        Raises:
            CorpusError: the format cannot hold a document.
        """
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """A corpus format.

    Attributes:
        name: as for `--format`; the name of the module has "_" in place of "-".
        suffixes: of its files, each perhaps followed by one of compression.
        written: what a written file holds or serves for, as a phrase after "a .suffix file"; "" if none is written.
        in_directories: whether files of these suffixes in a directory are read without `--format`.
        beside: the suffix of a file of the same name that belongs to each file; "" if none does. In a directory such a
            pair is read once, and of such a format no other files are read.
    """

    name: str
    suffixes: tuple[str, ...]
    written: str = ""
    in_directories: bool = True
    beside: str = ""

    @property
    def read(self) -> Reader:
        """The format's reader."""
        return cast(Reader, self._module().read)

    @property
    def write(self) -> Writer:
        """The format's writer; only where `written` is not empty."""
        return cast(Writer, self._module().write)

    def _module(self) -> ModuleType:
        return importlib.import_module(f"nuner_embed.corpora.{self.name.replace('-', '_')}")


FORMATS = {
    one.name: one
    for one in (
        Format("txt", (".txt",)),
        Format("jsonl", (".jsonl",), "with spans"),
        Format("conll", (".conll", ".bio", ".iob", ".iob2", ".tsv"), "with BIO tags"),
        Format("conllu", (".conllu",), "with BIO tags in its last field"),
        Format("parquet", (".parquet",)),
        Format("brat", (".ann",), beside=".txt"),
        # Many .json files in folders are no corpus, such as the report of an annotation.
        Format("label-studio", (".json",), "to correct in Label Studio", in_directories=False),
    )
}
# Formats of which nothing is read.
WRITTEN_ONLY = (Format("docbin", (".spacy",), "to train spaCy on"),)
WRITERS = {suffix: one for one in (*FORMATS.values(), *WRITTEN_ONLY) if one.written for suffix in one.suffixes}
SUFFIXES = {suffix: one for one in FORMATS.values() for suffix in one.suffixes}
KNOWN_SUFFIXES = ", ".join(SUFFIXES)


def known_format(name: str) -> Format:
    """The format of a name.

    Raises:
        ValueError: there is none.
    """
    if name not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {name!r}")
    return FORMATS[name]
