"""`nuner-embed index`."""

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuner_embed.cli import streams
from nuner_embed.cli.options import (
    Within,
    counted,
    filter_seconds_option,
    json_option,
    output_folder_option,
    print_facts,
    print_json,
    require_apart,
    size,
    threads_option,
)
from nuner_embed.indexes.base import AUTO, BACKENDS, KINDS
from nuner_embed.limits import ID_LINE_BYTES

if TYPE_CHECKING:
    from nuner_embed.indexes import Index
    from nuner_embed.indexes.bundle import SegmentEntry

_index_argument = click.argument("index", type=click.Path(path_type=Path))
_gpu_option = click.option(
    "--gpu",
    is_flag=True,
    help="Train inverted lists on a GPU; searches still run on the CPU. This option was never run on a GPU.",
)
_ID_DIGITS = 18  # so many fit into 64 bits
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class Bytes(click.ParamType[int]):
    """A number of bytes: 500000, 500MB, 2GB."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Reads a number and its unit."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", value.strip().lower())
        if not found or not float(found[1]):
            self.fail(f"{value!r} is not a size such as 500MB or 2GB", param, ctx)
        return round(float(found[1]) * _UNITS[found[2]])


@click.group(epilog="Example: nuner-embed index build store -o index")
def index() -> None:
    """Build, change and check an index over the rows of stores."""


@index.command(epilog="Example: nuner-embed index build store -o index --target-recall 0.98 --max-memory 500MB")
@click.argument("store", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_folder_option("Directory to write the index to.")
@click.option(
    "--kind",
    metavar="|".join([*KINDS, AUTO, "FACTORY"]),
    help="; ".join(backend.help for backend in BACKENDS.values())
    + "; auto measures each FAISS kind on a sample and builds the fastest one that fits.  "
    "[default: flat below 200,000 rows, else auto]",
)
@click.option(
    "--metric",
    type=click.Choice(["cosine", "dot", "l2"]),
    default="cosine",
    show_default=True,
    help="Measure that compares a query with a row.",
)
@click.option(
    "--target-recall",
    type=Within(0, 1, min_open=True),
    default=0.95,
    show_default=True,
    help="Recall@10 to reach: the share of the ten nearest rows that a search finds.",
)
@click.option(
    "--max-memory",
    type=Bytes(),
    metavar="SIZE",
    help="Maximum memory of the index, such as 500MB.  [default: unlimited]",
)
@threads_option
@_gpu_option
@click.option("--force", is_flag=True, help="Replace an index in the directory.")
@json_option
def build(store: tuple[Path, ...], output: Path, as_json: bool, **options: Any) -> None:
    """Build an index over the rows of one or several STOREs of the same encoder.

    An index of fewer than 200,000 rows is exact by default. For approximate kinds, the command measures the recall with
    queries that are not in the index, and stores the recall and the search settings that reach the target. The index is
    complete in itself; the stores may be deleted.
    """
    from nuner_embed.cli.progress import RowProgress, conclude
    from nuner_embed.indexes import Index

    require_apart(output, store, folder=True)
    with _bad_options(), RowProgress() as progress:
        built = Index.build(list(store), output, progress=progress, **options)
    _report(built, as_json)
    conclude(
        read=", ".join(map(str, store)),
        made=f"{output}, {counted(len(built), 'row')}",
        then=_how_to_search(output),
    )


@index.command(epilog="Example: nuner-embed index add index store-2")
@_index_argument
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--again", is_flag=True, help="Add the rows even if the index holds them already.")
@threads_option
@_gpu_option
@json_option
def add(index: Path, store: Path, again: bool, threads: int, gpu: bool, as_json: bool) -> None:
    """Add the rows of STORE to INDEX as a new segment."""
    from nuner_embed.cli.progress import RowProgress, conclude
    from nuner_embed.indexes import Index

    with Index.open(index) as opened:
        before = len(opened)
        with _bad_options(), RowProgress() as progress:
            opened.add(store, again=again, threads=threads, gpu=gpu, progress=progress)
        _report(opened, as_json)
        conclude(
            read=f"{store}, {counted(len(opened) - before, 'row')}",
            made=f"{index}, {_rows_and_segments(opened)}",
            then=_how_to_search(index),
        )


@index.command(epilog="""Example: nuner-embed index remove index --filter "label = 'river'" """)
@_index_argument
@click.option(
    "--document",
    "documents",
    multiple=True,
    metavar="ID",
    help="Remove all rows of the document with this id. May be repeated.",
)
@click.option("--filter", "filter_", metavar="EXPR", help="Remove all rows for which this SQL condition is true.")
@filter_seconds_option
@click.option(
    "--ids",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Remove the rows whose ids are in this file, one id per line.",
)
@json_option
def remove(
    index: Path,
    documents: tuple[str, ...],
    filter_: str | None,
    filter_seconds: float,
    ids: Path | None,
    as_json: bool,
) -> None:
    """Remove rows from INDEX; compact then frees the space of these rows."""
    from nuner_embed.cli.progress import conclude
    from nuner_embed.indexes import Index

    if not documents and filter_ is None and ids is None:
        raise click.UsageError("name what to remove: --document, --filter or --ids")
    listed = _read_ids(ids) if ids else []
    with Index.open(index, filter_seconds=filter_seconds) as opened:
        before = len(opened)
        if filter_ is not None:
            opened.check_filter(filter_)  # before anything is removed
        removed = opened.remove(listed) if ids else 0
        if documents:
            quoted = ", ".join("'" + document.replace("'", "''") + "'" for document in documents)
            removed += opened.remove_where(f"document_id IN ({quoted})")
        if filter_ is not None:
            removed += opened.remove_where(filter_)
        _report(opened, as_json, removed=removed)
        conclude(
            read=f"{index}, {counted(before, 'row')}",
            made=f"{index}, {counted(removed, 'row')} removed, {len(opened):,} left",
            then=f"nuner-embed index compact {index}, which frees the space of the removed rows"
            if removed
            else _how_to_search(index),
        )


@index.command(epilog="Example: nuner-embed index compact index")
@_index_argument
@threads_option
@json_option
def compact(index: Path, threads: int, as_json: bool) -> None:
    """Merge all segments of INDEX into one, without the removed rows."""
    from nuner_embed.cli.progress import RowProgress, conclude
    from nuner_embed.indexes import Index

    with Index.open(index) as opened:
        before = _rows_and_segments(opened)
        with _bad_options(), RowProgress() as progress:
            changed = opened.compact(threads=threads, progress=progress)
        _report(opened, as_json)
        conclude(
            read=f"{index}, {before}",
            made=f"{index}, {_rows_and_segments(opened)}" + ("" if changed else ", unchanged"),
            then=_how_to_search(index),
        )


@index.command(epilog="Example: nuner-embed index info index --json")
@_index_argument
@json_option
def info(index: Path, as_json: bool) -> None:
    """Show what INDEX holds, its recall, and what auto measured."""
    from nuner_embed.indexes import Index

    with Index.open(index) as opened:
        if as_json:
            print_json(_facts(opened))
            return
        facts = _facts(opened)
        shown = {key: value for key, value in facts.items() if key != "segments" and value not in (None, [])}
        shown |= {"bytes_resident": size(facts["bytes_resident"]), "bytes_on_disk": size(facts["bytes_on_disk"])}
        if facts["max_memory"]:
            shown["max_memory"] = size(facts["max_memory"])
        shown["recipe"] = ", ".join(f"{key} {value}" for key, value in facts["recipe"].items())
        shown["numeric_hashes"] = ", ".join(facts["numeric_hashes"])
        print_facts(shown)
        for segment in opened.bundle.segments:
            _show_segment(segment)


@index.command(epilog="Example: nuner-embed index verify index")
@_index_argument
@json_option
def verify(index: Path, as_json: bool) -> None:
    """Check the files of INDEX, and search for some of its rows.

    The exit code is 1 if a file is damaged or a search does not find what it should.
    """
    from nuner_embed.cli.progress import conclude
    from nuner_embed.indexes import Index

    with Index.open(index) as opened:
        problems = opened.verify()
        if as_json:
            print_json({"passed": not problems, "segments": len(opened.bundle.segments), "problems": problems})
        for problem in problems:
            streams.say(f"{index}: {problem}")
        if problems:
            streams.say("build the index again from its stores")
            sys.exit(1)
        conclude(
            read=f"{index}, {_rows_and_segments(opened)}",
            made="nothing; the files are intact" + (", and searches find what they should" if len(opened) else ""),
            then=_how_to_search(index),
        )


def _facts(opened: "Index") -> dict[str, Any]:
    bundle = opened.bundle
    return {
        "path": str(opened.path),
        "rows": len(opened),
        "removed": bundle.removed,
        "granularity": bundle.granularity,
        "metric": bundle.metric,
        "kind": bundle.kind,
        "target_recall": bundle.target_recall,
        "max_memory": bundle.max_memory,
        "bytes_resident": bundle.bytes_resident,
        "bytes_on_disk": sum(file.bytes for segment in bundle.segments for file in segment.files.values()),
        "dim": bundle.dim,
        "dtype": bundle.dtype,
        "model": bundle.model,
        "recipe": bundle.recipe,
        "semantic_hash": bundle.semantic_hash,
        "numeric_hashes": list(bundle.numeric_hashes),
        "columns": opened.columns,
        "segments": [
            {key: value for key, value in segment.to_dict().items() if key != "files"} for segment in bundle.segments
        ],
    }


def _rows_and_segments(opened: "Index") -> str:
    return f"{counted(len(opened), 'row')} in {counted(len(opened.bundle.segments), 'segment')}"


def _how_to_search(index: Path) -> str:
    return f'nuner-embed search {index} "... [[mention]] ..."'


def _report(opened: "Index", as_json: bool, removed: int | None = None) -> None:
    if as_json:
        print_json(_facts(opened) | ({} if removed is None else {"removed_now": removed}))
        return
    if removed is not None:
        streams.show(f"{counted(removed, 'row')} removed")
    show_index(opened)


def show_index(opened: "Index") -> None:
    """Prints what is in an index and how well its newest segment finds."""
    bundle = opened.bundle
    removed = f", {bundle.removed:,} more removed" if bundle.removed else ""
    streams.show(f"{_rows_and_segments(opened)}{removed}, {size(bundle.bytes_resident)} in memory")
    for segment in bundle.segments[-1:]:
        _show_segment(segment)


def _show_segment(segment: "SegmentEntry") -> None:
    """What is in a segment, how well it finds, and what auto saw."""
    found = segment.recall
    measured = "recall not measured"
    if found.queries and None not in (found.recall, found.low, found.high):
        measured = f"recall@10 {found.recall:.3f} ({found.low:.3f} to {found.high:.3f}, {found.queries} queries)"
    elif found.recall:
        measured = "exact"
    rate = f", {found.queries_per_second:,.0f} queries/s" if found.queries_per_second else ""
    wanted = {name: getattr(segment.parameters, name) for name in segment.parameters.__struct_fields__}
    tried = ", ".join(f"{name} {value}" for name, value in wanted.items() if value > 1) or "nprobe 1"
    lines = [
        f"segment {segment.name}: {counted(segment.rows, 'row')}, {segment.factory}, {size(segment.bytes_resident)}",
        f"  {measured}{rate}: {found.why}",
    ]
    if measured != "exact":
        lines.append(f"  search settings: {tried}")
    if segment.why != "asked for":
        lines.append(f"  {segment.kind}: {segment.why}")
    streams.show(*lines)
    if not segment.trials:
        return
    from nuner_embed.cli.tables import Table, result_console

    table = Table()
    for name in (
        "  measured",
        "rows",
        "recall@10",
        "queries/s",
        "build s",
        "expected queries/s",
        "expected memory",
        "",
    ):
        table.add_column(name, justify="left" if name in ("  measured", "") else "right")
    for trial in segment.trials:
        table.add_row(
            f"  {trial.kind}",
            f"{trial.sample_rows:,}",
            f"{trial.recall:.3f}",
            f"{trial.queries_per_second:,.0f}",
            f"{trial.build_seconds:.1f}",
            f"{trial.expected_queries_per_second:,.0f}",
            size(trial.expected_bytes),
            "chosen" if trial.kind == segment.kind else "" if trial.fits else "does not fit",
        )
    result_console().print(table)


def _read_ids(path: Path) -> list[int]:
    from nuner_embed.errors import NunerEmbedError

    ids = []
    with path.open("rb") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(ID_LINE_BYTES), b""), start=1):
            text = line.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").strip()
            if text and not (text.isdigit() and len(text) <= _ID_DIGITS):
                shown = text[:40].decode("utf-8", "replace")
                raise NunerEmbedError(
                    f"{path}:{number}: {shown!r} is not an id; expected one whole number per line, such as search "
                    '--json gives as "id"'
                )
            if text:
                ids.append(int(text))
    return ids


class _bad_options:  # noqa: N801 - a context manager used as a statement
    """Bad values of options, which only FAISS can tell, as usage errors."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
            raise click.UsageError(str(error)) from None
