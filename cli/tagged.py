"""Tagged documents: written in a corpus format or as CSV, or shown with their mentions highlighted."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuner_embed.cli import streams
from nuner_embed.cli.hits import csv_line
from nuner_embed.corpora.base import WRITERS, WriteOptions, Writer
from nuner_embed.printable import json_text, printable, readable

if TYPE_CHECKING:
    from rich.text import Text

    from nuner_embed.corpora.corpus import Corpus
    from nuner_embed.documents import Document

Write = Callable[[Iterable["Document"]], None]
Tag = Callable[[Sequence["Document"]], Sequence["Document"]]
_AT_ONCE = 512
_CSV = ".csv"
_CSV_HEAD = ("document_id", "start", "end", "text", "label", "score")
# legible on light and dark backgrounds
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


def tag_corpus(corpus: "Corpus", tag: Tag, write: Write) -> int:
    """Tags a corpus a group of documents at a time, and returns how many mentions were found.

    Args:
        corpus: what to tag; spans that it has already are ignored.
        tag: finds the mentions of a group of documents.
        write: takes the tagged documents; see `writer`.
    """
    from nuner_embed.cli.progress import RowProgress
    from nuner_embed.documents import Document

    total = corpus.survey().documents
    mentions = 0

    def tagged(progress: RowProgress) -> "Iterator[Document]":
        nonlocal mentions
        documents = (item for item in corpus if isinstance(item, Document))
        done = 0
        while group := list(islice(documents, _AT_ONCE)):
            for document in tag(group):
                mentions += len(document.spans)
                yield document
            done += len(group)
            progress("tagging", done, total)

    with RowProgress("documents") as progress:
        write(tagged(progress))
    return mentions


def conclude_tagging(read: Sequence[str], corpus: "Corpus", mentions: int, output: Path | None) -> None:
    """Prints what was read, how many mentions were found and where they were written, and what to do next.

    Args:
        read: the arguments that name the corpus.
        corpus: the corpus that was tagged.
        mentions: the number of mentions found.
        output: the file that holds them; None for standard output.
    """
    from nuner_embed.cli.options import counted
    from nuner_embed.cli.progress import conclude

    if output is None:
        then = "-o spans.jsonl, spans.csv or spans.conll saves the mentions to a file"
    elif output.suffix == _CSV:
        then = f"open {output} in a spreadsheet"
    elif output.suffix == ".spacy":
        then = f"train a pipeline of spaCy on {output}: spacy train config.cfg --paths.train {output}"
    elif output.suffix == ".json":
        then = f"import {output} into a project of Label Studio, and correct there what was found"
    else:
        then = f"nuner-embed encode {output} -o store --rows mention"
    conclude(
        read=f"{', '.join(read)}, {counted(corpus.survey().documents, 'document')}",
        made=f"{output or 'standard output'}, {counted(mentions, 'mention')}",
        then=then,
    )


@contextlib.contextmanager
def writer(output: Path | None, model: str = "nuner-embed", *, as_json: bool) -> Iterator[Write]:
    """A function that writes all tagged documents, to standard output or to a file that appears when it is complete.

    Args:
        output: the file; None for standard output.
        model: what found the mentions, for formats that record a name.
        as_json: print JSONL instead of highlighted texts.
    """
    if output is None:
        yield _print_jsonl if as_json else Highlights().show
        return
    if as_json:
        raise click.UsageError("-o names a file; leave it out for --json")
    from nuner_embed.cli.options import counted
    from nuner_embed.cli.progress import note
    from nuner_embed.files import atomic_write

    left_out: list[str] = []
    write = _format_writer(output)
    options = WriteOptions(model, lambda document: left_out.append(document.id))
    with atomic_write(output) as stream:

        def write_all(documents: Iterable["Document"]) -> None:
            for piece in write(documents, options):
                stream.write(piece.encode() if isinstance(piece, str) else piece)

        yield write_all
    if left_out:
        note(f"left out {counted(len(left_out), 'document')} without a word, for which CoNLL has no place")


def _format_writer(path: Path) -> Writer:
    if path.suffix == _CSV:
        return _write_csv
    known = WRITERS.get(path.suffix)
    if known is None:
        raise click.UsageError(f"-o {path}: the name must end in one of {', '.join([_CSV, *WRITERS])}")
    return known.write


def _write_csv(documents: Iterable["Document"], options: WriteOptions) -> Iterator[str]:
    yield csv_line(_CSV_HEAD)
    yield from map(csv_rows, documents)


def csv_rows(document: "Document") -> str:
    """A CSV row for each mention of a document, columns as in `_CSV_HEAD`; no cell is a formula to a spreadsheet."""
    return "".join(
        csv_line(
            (document.id, s.start, s.end, document.text[s.start : s.end], s.label,
             None if s.score is None else round(s.score, 4))
        )
        for s in document.spans
    )  # fmt: skip


def _print_jsonl(documents: Iterable["Document"]) -> None:
    from nuner_embed.corpora.jsonl import json_record

    for document in documents:
        streams.write(json_text(json_record(document)) + "\n")


class Highlights:
    """Prints texts with their mentions in colour on a terminal, and in brackets elsewhere."""

    def __init__(self) -> None:
        from nuner_embed.cli.tables import result_console

        self._console = result_console()
        self._colours: dict[str, str] = {}

    def show(self, documents: Iterable["Document"]) -> None:
        """Prints each document on a line."""
        for document in documents:
            self._console.print(self.text(document), soft_wrap=True)

    def text(self, document: "Document") -> "Text":
        """A document with its mentions highlighted; of overlapping mentions only the first."""
        from rich.text import Text

        parts: list[Any] = []
        done = 0
        for span in sorted(document.spans, key=lambda span: span.start):
            if span.start < done:
                continue
            label = span.label or ""
            colour = self._colours.setdefault(label, _COLOURS[len(self._colours) % len(_COLOURS)])
            parts += [readable(document.text[done : span.start])]
            mention = readable(document.text[span.start : span.end])
            if self._console.is_terminal:
                parts += [(mention, f"bold {colour}"), (f" {printable(label)}", f"dim {colour}")]
            else:
                parts += [f"[{mention}|{printable(label)}]"]
            done = span.end
        return Text.assemble(*parts, readable(document.text[done:]))
