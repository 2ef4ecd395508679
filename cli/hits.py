"""Hits as tables, JSON, CSV and Parquet."""

import contextlib
import csv
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuner_embed.cli import streams
from nuner_embed.printable import cell, json_text, printable, readable

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.text import Text

Write = Callable[[list[Any], "pa.Table"], None]
_JSON = ("rank", "score", "id", "document_id", "start", "end", "text", "label", "context")
_CSV = ("query", *_JSON)


def csv_line(cells: Iterable[Any], *, of_terminal: bool = False) -> str:
    """A line of CSV in which no cell is a formula to a spreadsheet; for a terminal, control characters are escaped."""
    line = io.StringIO()
    shown = (printable(one) if of_terminal and isinstance(one, str) else one for one in cells)
    csv.writer(line, lineterminator="\n").writerow([cell(one) for one in shown])
    return line.getvalue()


@contextlib.contextmanager
def writer(output: Path | None, *, as_json: bool, as_csv: bool, several: bool) -> Iterator[Write]:
    """A function that writes the hits of a group of queries, to a Parquet file or to standard output.

    Args:
        output: a Parquet file, which appears when all hits are written; None for standard output.
        as_json: print `{"query", "hits"}`; for several queries, one line each.
        as_csv: print CSV with a header.
        several: there may be more than one query.
    """
    if output is not None:
        with _parquet(output) as write:
            yield write
    elif as_json:
        yield lambda asked, hits: _print_json(asked, hits, several)
    elif as_csv:
        yield _csv()
    else:
        yield _print_tables


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from nuner_embed.files import atomic_write

    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(atomic_write(path))
        file: Any = None

        def write(asked: list[Any], hits: pa.Table) -> None:
            nonlocal file
            numbers = hits["query"]
            for name, values in (("query", [one.query for one in asked]), ("query_id", [one.name for one in asked])):
                column = pa.array(values, pa.string()).take(numbers.combine_chunks())
                hits = hits.set_column(0, name, column) if name == "query" else hits.add_column(0, name, column)
            if file is None:
                file = stack.enter_context(pq.ParquetWriter(stream, hits.schema, compression="zstd"))
            file.write_table(hits)

        yield write


def _by_query(asked: list[Any], hits: "pa.Table") -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    found: list[list[dict[str, Any]]] = [[] for _ in asked]
    for hit in hits.to_pylist():
        found[hit["query"]].append(hit)
    yield from zip(asked, found, strict=True)


def _print_json(asked: list[Any], hits: "pa.Table", several: bool) -> None:
    for one, found in _by_query(asked, hits):
        value = {"query": one.query, "hits": [{name: hit[name] for name in _JSON} for hit in found]}
        if several:
            value = {"id": one.name, **value}
        streams.write(json_text(value, indent=None if several else 2) + "\n")


def _csv() -> Write:
    of_terminal = streams.on_terminal()
    streams.write(csv_line(_CSV))

    def write(asked: list[Any], hits: "pa.Table") -> None:
        for one, found in _by_query(asked, hits):
            rows = ((one.query, *(hit[name] for name in _JSON)) for hit in found)
            streams.write("".join(csv_line(row, of_terminal=of_terminal) for row in rows))

    return write


def _print_tables(asked: list[Any], hits: "pa.Table") -> None:
    from nuner_embed.cli.tables import result_console

    for one, found in _by_query(asked, hits):
        if len(asked) > 1:
            result_console().print(readable(one.query), style="bold", soft_wrap=True)
        show_hits(found)


def show_hits(hits: list[dict[str, Any]]) -> None:
    """Prints rows of what `find` returns as a table."""
    from nuner_embed.cli.tables import result_console

    console = result_console()
    console.print(table(hits, marked=not console.is_terminal))


def table(hits: list[dict[str, Any]], *, marked: bool) -> Any:
    """Hits as a table for a terminal.

    Args:
        hits: rows of what `find` returns.
        marked: put mentions in double brackets, for output without colours.
    """
    from rich.text import Text

    from nuner_embed.cli.tables import Table

    if not hits:
        return Text("nothing found")
    made = Table()
    made.add_column("", justify="right", no_wrap=True)
    made.add_column("score", justify="right", no_wrap=True)
    made.add_column("in context", overflow="fold", ratio=1)
    labelled = any(hit["label"] for hit in hits)
    if labelled:
        made.add_column("label", overflow="fold")
    made.add_column("document", overflow="fold", style="dim")
    for hit in hits:
        cells = [hit["label"] or ""] if labelled else []
        score = f"{hit['score']:.3f}"
        made.add_row(str(hit["rank"]), score, in_context(hit, marked=marked), *cells, hit["document_id"])
    return made


def in_context(hit: dict[str, Any], *, marked: bool) -> "Text":
    """The text around a hit, with the mention highlighted."""
    from rich.text import Text

    context = hit["context"]
    start, end = hit["start"] - hit["context_start"], hit["end"] - hit["context_start"]
    open_, close = ("[[", "]]") if marked else ("", "")
    before = ("…" if hit["context_start"] else "") + readable(context[:start])
    return Text.assemble(before, (open_ + readable(context[start:end]) + close, "bold yellow"), readable(context[end:]))
