"""Documents with found mentions: as JSONL, as CoNLL, as CSV, or as highlights for people."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuner_embed.cli import streams
from nuner_embed.cli.hits import csv_line
from nuner_embed.printable import json_text, printable, readable

if TYPE_CHECKING:
    from rich.text import Text

    from nuner_embed.corpora.corpus import Corpus
    from nuner_embed.documents import Document

Write = Callable[[Sequence["Document"]], None]
Tag = Callable[[Sequence["Document"]], Sequence["Document"]]
_AT_ONCE = 512
_CSV_HEAD = ("document_id", "start", "end", "text", "label", "score")
_CONLL = (".conll", ".bio", ".iob", ".tsv")
# legible on light and on dark grounds
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


def tag_corpus(corpus: "Corpus", tag: Tag, write: Write) -> int:
    """Tags a corpus a group of documents at a time, and returns how many mentions were found.

    Args:
        corpus: its own spans are not looked at.
        tag: finds the mentions.
        write: takes what was tagged, see `writer`.
    """
    from nuner_embed.cli.progress import RowProgress
    from nuner_embed.documents import Document

    total = corpus.survey().documents
    mentions = done = 0
    with RowProgress("documents") as progress:
        group: list[Document] = []
        for item in corpus:
            if isinstance(item, Document):
                group.append(item)
            if len(group) == _AT_ONCE or done + len(group) == total:
                found = tag(group)
                write(found)
                mentions += sum(len(document.spans) for document in found)
                done += len(group)
                progress("tagging", done, total)
                group = []
    return mentions


def conclude_tagging(read: Sequence[str], corpus: "Corpus", mentions: int, output: Path | None) -> None:
    """Says what was read, what was found and where it went, and what to do next.

    Args:
        read: what the user typed for the corpus.
        corpus: which was tagged.
        mentions: that were found.
        output: the file that holds them; None for standard output.
    """
    from nuner_embed.cli.options import counted
    from nuner_embed.cli.progress import conclude

    if output is None:
        then = "-o spans.jsonl, spans.csv or spans.conll keeps them in a file"
    elif output.suffix == ".csv":
        then = f"open {output} in a spreadsheet"
    else:
        then = f"nuner-embed encode {output} -o store --rows mention"
    conclude(
        read=f"{', '.join(read)}, {counted(corpus.survey().documents, 'document')}",
        made=f"{output or 'standard output'}, {counted(mentions, 'mention')}",
        then=then,
    )


@contextlib.contextmanager
def writer(output: Path | None, *, as_json: bool) -> Iterator[Write]:
    """Where tagged documents go, a group at a time: a file that appears once all is written, or standard output."""
    if output is None:
        yield _print_jsonl if as_json else Highlights().show
        return
    if as_json:
        raise click.UsageError("-o names a file; leave it out for --json")
    lines = _line_format(output)
    from nuner_embed.cli.options import counted
    from nuner_embed.cli.progress import note
    from nuner_embed.files import atomic_write

    empty = 0
    with atomic_write(output) as stream:
        if lines is csv_rows:
            stream.write(csv_line(_CSV_HEAD).encode())

        def write(documents: Sequence["Document"]) -> None:
            nonlocal empty
            for document in documents:
                text = lines(document)
                empty += not text
                stream.write(text.encode())

        yield write
    if empty and lines is conll_block:
        note(f"{counted(empty, 'document')} without a word left out: CoNLL has no place for them")


def _line_format(path: Path) -> Callable[["Document"], str]:
    if path.suffix in _CONLL:
        return conll_block
    if path.suffix == ".csv":
        return csv_rows
    if path.suffix == ".jsonl":
        return lambda document: json_line(document) + "\n"
    raise click.UsageError(f"-o {path}: the name must end in .jsonl, .csv or in one of {', '.join(_CONLL)}")


def json_line(document: "Document") -> str:
    """A document as a line of JSONL."""
    return json.dumps(_record(document), ensure_ascii=False)


def _record(document: "Document") -> dict[str, Any]:
    spans = [
        {"start": s.start, "end": s.end, "text": document.text[s.start : s.end], "label": s.label}
        | ({} if s.score is None else {"score": round(s.score, 4)})
        for s in document.spans
    ]
    return {"id": document.id, "text": document.text, "spans": spans}


def conll_block(document: "Document") -> str:
    """A document as lines of word, tab and BIO tag, and an empty line; nothing for one without words.

    Raises:
        ProbeError: a label that no line of CoNLL can hold.
    """
    from nuner_embed.errors import ProbeError
    from nuner_embed.tags import spans_to_tags
    from nuner_embed.words import split_words

    for span in document.spans:
        if span.label and not span.label.isprintable():
            raise ProbeError(f"the type {span.label!r} holds what CoNLL cannot; write a .jsonl file")

    words = list(document.words) if document.words is not None else split_words(document.text)
    tags = spans_to_tags(document.spans, words)
    lines = [f"{document.text[start:end]}\t{tag}\n" for (start, end), tag in zip(words, tags, strict=True)]
    return "".join(lines) + "\n" if lines else ""


def csv_rows(document: "Document") -> str:
    """A row for each mention of a document, columns as in `_CSV_HEAD`; a spreadsheet takes no cell for a formula."""
    return "".join(
        csv_line(
            (document.id, s.start, s.end, document.text[s.start : s.end], s.label,
             None if s.score is None else round(s.score, 4))
        )
        for s in document.spans
    )  # fmt: skip


def _print_jsonl(documents: Sequence["Document"]) -> None:
    for document in documents:
        streams.write(json_text(_record(document)) + "\n")


class Highlights:
    """Prints texts with their mentions set off: in colour on a terminal, in brackets elsewhere."""

    def __init__(self) -> None:
        from nuner_embed.cli.tables import result_console

        self._console = result_console()
        self._colours: dict[str, str] = {}

    def show(self, documents: Sequence["Document"]) -> None:
        """Prints some documents, a line each."""
        for document in documents:
            self._console.print(self.text(document), soft_wrap=True)

    def text(self, document: "Document") -> "Text":
        """A document with its mentions set off; of overlapping ones the first."""
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
