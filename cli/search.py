"""`nuner-embed search`."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuner_embed.cli.options import (
    FileToWrite,
    counted,
    filter_seconds_option,
    how_to_read_parquet,
    json_option,
    reading_options,
    require_apart,
    threads_option,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from nuner_embed.documents import Document
    from nuner_embed.encoders.text import TextEncoder
    from nuner_embed.indexes import Index
    from nuner_embed.indexes.vectors import Floats

_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class _Asked:
    """Something to search for: its name, what was typed, and the documents whose spans it is."""

    name: str
    query: str
    documents: list["Document"]


@click.command(epilog='Example: nuner-embed search index "He signed for the [[Falcons]] in 2018." --unique surface')
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("query", required=False)
@click.option(
    "--like",
    metavar="FILE",
    help="Find mentions like the spans of this corpus, and unlike its spans with the label -. With ten spans or "
    "more, a linear scorer ranks the rows; with fewer, the centroid of the spans.",
)
@click.option(
    "--concept",
    "concepts",
    multiple=True,
    metavar="NAME",
    help='Find mentions of the type with this name, such as "nfl player". May be repeated: a hit must be of all types.',
)
@click.option(
    "--not",
    "unwanted",
    multiple=True,
    metavar="NAME",
    help="With --concept: leave out mentions of this type. May be repeated.",
)
@click.option(
    "--queries",
    metavar="FILE",
    help='A file of queries: a .txt with one query per line, or a .jsonl with lines {"id"?, "query"}.',
)
@click.option(
    "-o",
    "--output",
    type=FileToWrite(),
    metavar="FILE",
    help="Parquet file to write the hits to.",
)
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Number of hits per query.")
@click.option("--min-score", type=float, metavar="S", help="Leave out hits with a lower score.")
@click.option(
    "--filter",
    "filter_",
    metavar="EXPR",
    help="Search only rows for which this SQL condition is true, such as \"label = 'river'\".",
)
@filter_seconds_option
@click.option(
    "--unique",
    type=click.Choice(["surface", "document"]),
    help="Keep only the best hit of each surface text, or of each document.",
)
@click.option("--exclude-document", is_flag=True, help="Leave out hits from the texts that the query comes from.")
@click.option(
    "--context",
    type=click.IntRange(0),
    default=60,
    show_default=True,
    help="Number of characters to show on each side of a hit.",
)
@click.option("--model", help="The encoder for the query.  [default: the encoder that made the index]")
@reading_options
@threads_option
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print the hits as CSV; no spreadsheet reads a cell as a formula.")
def search(
    index: Path,
    query: str | None,
    like: str | None,
    concepts: tuple[str, ...],
    unwanted: tuple[str, ...],
    queries: str | None,
    output: Path | None,
    min_score: float | None,
    filter_: str | None,
    filter_seconds: float,
    exclude_document: bool,
    model: str | None,
    reading: dict[str, Any],
    threads: int,
    as_json: bool,
    as_csv: bool,
    **options: Any,
) -> None:
    """Search INDEX for mentions used like the mention in QUERY, a text with its mention in [[double brackets]].

    Without brackets, the whole text is the mention. The scores are cosines, or values of the metric of the index. With
    --concept and a calibrated model, the scores are probabilities; see nuner-embed concepts calibrate.
    """
    from nuner_embed.cli import hits
    from nuner_embed.cli.progress import RowProgress, note
    from nuner_embed.indexes import Index, at_least, find

    if sum(bool(value) for value in (query is not None, like, queries, concepts)) != 1:
        raise click.UsageError("give one of QUERY, --like FILE, --concept NAME and --queries FILE")
    if like is None and any(value not in (None, ()) for value in reading.values()):
        name = next(name for name, value in reading.items() if value not in (None, ()))
        raise click.UsageError(f"--{name.replace('_', '-')} goes with --like FILE")
    if min_score is not None and math.isnan(min_score):
        raise click.UsageError("--min-score must be a number")
    if unwanted and not concepts:
        raise click.UsageError("--not goes with --concept")
    if concepts and exclude_document:
        raise click.UsageError("--exclude-document goes with queries that come from a text")
    if as_json and as_csv:
        raise click.UsageError("give --json or --csv, not both")
    if output is not None and (as_json or as_csv):
        raise click.UsageError("-o writes Parquet; leave it out for --json or --csv")
    require_apart(output, [index, like, queries, model])
    opening = Index.open(index, filter_seconds=filter_seconds)
    with opening as opened, opened.threads(threads), RowProgress("queries") as progress:
        if filter_ is not None:
            opened.check_filter(filter_)
        if not len(opened):
            note(f"{index} holds no row; nuner-embed index add puts some into it")
        least = -float("inf") if min_score is None else min_score
        writing = hits.writer(output, as_json=as_json, as_csv=as_csv, several=queries is not None)
        if concepts:
            found = _of_types(opened, model, threads, concepts, unwanted, filter=filter_, **options)
            hits_found = at_least(found, least)
            with writing as write:
                write([_named(concepts, unwanted)], hits_found)
            _conclude(index, len(opened), 1, hits_found.num_rows, output)
            return
        asked = _asked(query, like, queries, reading)  # bad input is seen before the encoder is loaded
        encoder = _load_encoder(opened, model, threads)
        total = 0
        with writing as write:
            for first in range(0, len(asked), _AT_ONCE):
                some = asked[first : first + _AT_ONCE]
                vectors = _examples(opened, encoder, some[0]) if like else _mentions(opened, encoder, some)
                own = [{document.text for document in one.documents} for one in some] if exclude_document else None
                found = at_least(find(opened, vectors, filter=filter_, exclude=own, **options), least)
                write(some, found)
                total += found.num_rows
                progress("searching", first + len(some), len(asked))
        _conclude(index, len(opened), len(asked), total, output)


def _conclude(index: Path, rows: int, queries: int, found: int, output: Path | None) -> None:
    from nuner_embed.cli.progress import conclude

    conclude(
        read=f"{index}, {counted(rows, 'row')}; {counted(queries, 'query', 'queries')}",
        made=f"{output or 'standard output'}, {counted(found, 'hit')}",
        then=how_to_read_parquet(output)
        if output
        else "--filter, --unique and -k select other hits; -o FILE saves the hits",
    )


def _asked(query: str | None, like: str | None, queries: str | None, reading: dict[str, Any]) -> list[_Asked]:
    from nuner_embed import Corpus
    from nuner_embed.documents import Document
    from nuner_embed.errors import CorpusError
    from nuner_embed.indexes import marked_document
    from nuner_embed.indexes.queries import read_queries

    if query is not None:
        return [_Asked(query, query, [marked_document(query)])]
    if like is not None:
        with Corpus([like], **reading) as corpus:
            return [_Asked(like, like, [item for item in corpus if isinstance(item, Document)])]
    asked = [_Asked(one.id, one.query, [one.document]) for one in read_queries(queries or "")]
    if not asked:
        raise CorpusError(str(queries), None, "holds no query")
    return asked


def _named(concepts: tuple[str, ...], unwanted: tuple[str, ...]) -> _Asked:
    name = " and ".join(concepts) + "".join(f", not {name}" for name in unwanted)
    return _Asked(name, name, [])


def _of_types(
    opened: "Index", model: str | None, threads: int, wanted: tuple[str, ...], unwanted: tuple[str, ...], **options: Any
) -> "pa.Table":
    from nuner_embed.cli.progress import note
    from nuner_embed.encoders.concepts import ConceptEncoder
    from nuner_embed.indexes import find_concepts

    with _named_model(opened, model) as name:
        texts = None if model else (opened.bundle.recipe, opened.bundle.semantic_hash)
        concepts = ConceptEncoder.open(name, threads=threads, texts=texts)
    if concepts.facts.calibration is None:
        what = "cosines" if concepts.metric == "cosine" else "inner products"
        note(f"{concepts.model} is not calibrated: scores are {what}, not probabilities")
    try:
        return find_concepts(opened, concepts, wanted, unwanted, **options)
    except ValueError as error:  # a name that is none
        raise click.UsageError(str(error)) from None


@contextlib.contextmanager
def _named_model(opened: "Index", model: str | None) -> Iterator[str]:
    """The model that was asked for, or else the index's, which may be somewhere else by now."""
    from nuner_embed.errors import ModelError

    name = model or opened.bundle.model
    try:
        yield name
    except ModelError as error:
        if model:
            raise
        raise ModelError(
            f"the index was made with {name!r}: {error}; name the directory of that model with --model"
        ) from None


def _load_encoder(opened: "Index", model: str | None, threads: int) -> "TextEncoder":
    from nuner_embed.cli.progress import note
    from nuner_embed.encoders.loader import load_encoder, load_named_encoder, recipe_keywords
    from nuner_embed.indexes.queries import require_encoder

    bundle = opened.bundle
    with _named_model(opened, model) as name:
        if model:
            encoder = load_encoder(name, threads=threads, **recipe_keywords(bundle.recipe))
        else:  # the index's word is a stranger's
            encoder = load_named_encoder(name, bundle.recipe, bundle.semantic_hash, threads=threads)
    require_encoder(opened, encoder)
    if encoder.numeric_hash not in bundle.numeric_hashes:
        note("the queries and the rows are computed in different ways; scores may differ in their last digits")
    return encoder


def _mentions(opened: "Index", encoder: "TextEncoder", asked: list[_Asked]) -> "Floats":
    from nuner_embed.indexes import embed_mentions

    return embed_mentions(opened, encoder, [document for one in asked for document in one.documents])


def _examples(opened: "Index", encoder: "TextEncoder", asked: _Asked) -> "Floats":
    from nuner_embed.cli.progress import note
    from nuner_embed.indexes import examples_of

    examples = examples_of(opened, encoder, asked.documents)
    vector, what = examples.query(opened)
    without = f" and {counted(len(examples.negatives), 'counter-example')}" if len(examples.negatives) else ""
    note(f"{what} of {counted(len(examples.positives), 'example')}{without}")
    return vector
