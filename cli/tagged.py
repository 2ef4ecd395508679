"""Documents with found mentions: as JSONL, as CoNLL, or as highlights for people."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuner_embed.cli.hits import plain, result_console

if TYPE_CHECKING:
    from rich.text import Text

    from nuner_embed.documents import Document

Write = Callable[[Sequence["Document"]], None]
_CONLL = (".conll", ".bio", ".iob", ".tsv")
# legible on light and on dark grounds
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


@contextlib.contextmanager
def writer(output: Path | None, *, as_json: bool) -> Iterator[Write]:
    """Where tagged documents go, a group at a time: a file that appears once all is written, or standard output."""
    if output is None:
        yield _print_jsonl if as_json else Highlights().show
        return
    lines = _line_format(output)
    from nuner_embed.cli.options import counted
    from nuner_embed.cli.progress import note
    from nuner_embed.files import atomic_write

    empty = 0
    with atomic_write(output) as stream:

        def write(documents: Sequence["Document"]) -> None:
            nonlocal empty
            for document in documents:
                text = lines(document)
                empty += not text
                stream.write(text.encode())

        yield write
    if empty:
        note(f"{counted(empty, 'document')} without a word left out: CoNLL has no place for them")


def _line_format(path: Path) -> Callable[["Document"], str]:
    if path.suffix in _CONLL:
        return conll_block
    if path.suffix == ".jsonl":
        return lambda document: json_line(document) + "\n"
    raise click.UsageError(f"-o {path}: the name must end in .jsonl or in one of {', '.join(_CONLL)}")


def json_line(document: "Document") -> str:
    """A document as a line of JSONL."""
    spans = [
        {"start": s.start, "end": s.end, "label": s.label} | ({} if s.score is None else {"score": round(s.score, 4)})
        for s in document.spans
    ]
    return json.dumps({"id": document.id, "text": document.text, "spans": spans}, ensure_ascii=False)


def conll_block(document: "Document") -> str:
    """A document as lines of word, tab and BIO tag, and an empty line; nothing for one without words.

    Raises:
        ProbeError: a label that no line of CoNLL can hold.
    """
    from nuner_embed.encoding.words import split_words
    from nuner_embed.errors import ProbeError
    from nuner_embed.tags import spans_to_tags

    for span in document.spans:
        if span.label and not span.label.isprintable():
            raise ProbeError(f"the type {span.label!r} holds what CoNLL cannot; write a .jsonl file")

    words = list(document.words) if document.words is not None else split_words(document.text)
    tags = spans_to_tags(document.spans, words)
    lines = [f"{document.text[start:end]}\t{tag}\n" for (start, end), tag in zip(words, tags, strict=True)]
    return "".join(lines) + "\n" if lines else ""


def _print_jsonl(documents: Sequence["Document"]) -> None:
    for document in documents:
        click.echo(json_line(document))


class Highlights:
    """Prints texts with their mentions set off: in colour on a terminal, in brackets elsewhere."""

    def __init__(self) -> None:
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
            parts += [plain(document.text[done : span.start])]
            mention = plain(document.text[span.start : span.end])
            if self._console.is_terminal:
                parts += [(mention, f"bold {colour}"), (f" {plain(label)}", f"dim {colour}")]
            else:
                parts += [f"[{mention}|{plain(label)}]"]
            done = span.end
        return Text.assemble(*parts, plain(document.text[done:]))
