"""Tables and coloured texts on standard output, in which nothing of others' acts.

A string is never markup of rich, and is escaped; a `rich.text.Text` is taken as it is: make it with `text`.
"""

import os
import sys
from typing import Any

import rich.console
import rich.table
from rich.text import Text

from nuner_embed.cli.streams import Output
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
