"""Tables and coloured texts on standard output, and the tables of a probe's scores.

A string is never taken for markup of rich, and is escaped, so that text from files cannot act on the terminal; a
`rich.text.Text` is printed as it is.
"""

import os
import sys
from typing import Any

import rich.console
import rich.table
from rich.text import Text

from nuner_embed.cli.options import counted
from nuner_embed.cli.streams import Output, show
from nuner_embed.evaluation.metrics import Scores
from nuner_embed.heads.labelled_words import NONE
from nuner_embed.printable import printable

_WIDTH = 110  # where standard output is no terminal


class Table(rich.table.Table):
    """A table without lines."""

    def __init__(self) -> None:
        super().__init__(box=None, header_style="bold", pad_edge=False)

    def add_row(self, *cells: str | Text, **options: Any) -> None:  # type: ignore[override]
        """Adds a row of strings, which are escaped, and texts."""
        super().add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in cells), **options)


def result_console() -> rich.console.Console:
    """Standard output for tables and texts: as wide as the terminal, 110 columns elsewhere."""
    return rich.console.Console(
        file=Output(),  # type: ignore[arg-type]
        highlight=False,
        markup=False,
        emoji=False,
        width=None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", _WIDTH)),
    )


def show_scores(scores: Scores, *, confusion: bool) -> None:
    """Prints the three figures with their full names, a line for each type, and on request the confusion matrix."""
    total = scores.spans.total()
    show(
        f"labels: {scores.scheme}",
        f"token macro-F1, None left out  {scores.token_macro_f1:6.1%}",
        f"token macro-F1 with None       {scores.token_macro_f1_with_none:6.1%}",
        f"span micro-F1, exact           {scores.span_micro_f1:6.1%}   precision {total.precision()[0]:.1%}, "
        f"recall {total.recall()[0]:.1%}",
        f"on {counted(scores.documents, 'sentence')}, {counted(int(scores.confusion.sum()), 'token')} (words)",
    )
    if scores.lost:
        show(
            f"not counted: {counted(scores.lost, 'annotated mention')} that words cannot show, overlapping an earlier "
            "one or holding no word"
        )
    show("")
    _show_types(scores)
    if confusion:
        show("")
        _show_confusion(scores)


def _show_types(scores: Scores) -> None:
    """Prints a line for each type that is annotated or was found, those with most mentions first."""
    tokens, spans = scores.tokens, scores.spans
    occurring = [i for i in range(1, len(scores.types) + 1) if tokens.annotated[i] or tokens.predicted[i]]
    table = Table()
    table.add_column("type", overflow="fold")
    for name in ("tokens", "precision", "recall", "F1", "spans", "precision", "recall", "F1"):
        table.add_column(name, justify="right", no_wrap=True)
    for i in sorted(occurring, key=lambda i: (-spans.annotated[i], -spans.predicted[i], scores.types[i - 1])):
        cells = []
        for counts in (tokens, spans):
            shares = (counts.precision()[i], counts.recall()[i], counts.f1()[i])
            cells += [f"{counts.annotated[i]:,}", *(f"{share:.1%}" for share in shares)]
        table.add_row(scores.types[i - 1], *cells)
    result_console().print(table)
    if absent := len(scores.types) - len(occurring):
        show(f"neither annotated nor found: {counted(absent, 'other type')}")


def _show_confusion(scores: Scores) -> None:
    """Prints the confusion matrix; the head of a column is the number before the name of the row.

    A terminal wraps lines that are wider than the terminal, as seventeen types may be; no column is left out.
    """
    show("tokens by annotated (row) and found (column) class")
    names = [f"{number} {printable(name)}" for number, name in enumerate((NONE, *scores.types))]
    cells = [[f"{count:,}" if count else "·" for count in row] for row in scores.confusion]
    heads = [str(number) for number in range(len(names))]
    first = max(map(len, names))
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for name, row in zip(["", *names], [heads, *cells], strict=True):
        shown = "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        show(f"{name:<{first}}  {shown}")
