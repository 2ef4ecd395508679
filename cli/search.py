"""`nuner-embed search`."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuner_embed.cli.options import json_option

if TYPE_CHECKING:
    from nuner_embed.encoding.encoder import TextEncoder
    from nuner_embed.indexes import Index
    from nuner_embed.indexes.vectors import Floats

_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query that is ready to be searched for: its name, its vector, and the texts that it comes from."""

    name: str
    query: str
    vector: "Floats"
    texts: Collection[str]


@click.command(epilog='Example: nuner-embed search index "He signed for the [[Falcons]] in 2018." --unique surface')
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("query", required=False)
@click.option(
    "--like",
    metavar="FILE",
    help="Find what is like the spans of a corpus; those labelled - are what not to find. From five spans on a linear "
    "scorer, below their centroid.",
)
@click.option("--queries", metavar="FILE", help='A .txt with a query a line, or a .jsonl with {"id"?, "query"}.')
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the hits as Parquet.")
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Hits for each query.")
@click.option("--filter", "filter_", metavar="EXPR", help="An SQL condition over rows, such as \"label = 'river'\".")
@click.option("--unique", type=click.Choice(["surface", "document"]), help="The best hit of each text, or document.")
@click.option("--exclude-document", is_flag=True, help="Leave out hits from the very texts that the query comes from.")
@click.option(
    "--context", type=click.IntRange(0), default=60, show_default=True, help="Characters to each side of a hit."
)
@click.option("--model", help="The encoder.  [default: the one that the index was made with]")
@click.option("--threads", type=click.IntRange(0, 1024), default=0, help="[default: one a core]")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print the hits as CSV that no spreadsheet takes for formulas.")
def search(
    index: Path,
    query: str | None,
    like: str | None,
    queries: str | None,
    output: Path | None,
    filter_: str | None,
    exclude_document: bool,
    model: str | None,
    threads: int,
    as_json: bool,
    as_csv: bool,
    **options: Any,
) -> None:
    """Search INDEX for mentions used like QUERY, a text whose mention stands in [[double brackets]].

    Without brackets the whole text is the mention. Scores are cosines (or as the index's metric has it).
    """
    from nuner_embed.cli import hits
    from nuner_embed.indexes import Index
    from nuner_embed.indexes.building import threads as faiss_threads

    if sum(value is not None for value in (query, like, queries)) != 1:
        raise click.UsageError("give one of QUERY, --like FILE and --queries FILE")
    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")
    with Index.open(index) as opened, faiss_threads(threads):
        if filter_ is not None:
            opened.check_filter(filter_)
        encoder = _load_encoder(opened, model, threads)
        asked = _asked(opened, encoder, query, like, queries)
        with hits.writer(output, as_json=as_json, as_csv=as_csv, several=queries is not None) as write:
            for some in _in_groups(asked):
                write(some, _search(opened, some, filter=filter_, own=exclude_document, **options))


def _load_encoder(opened: "Index", model: str | None, threads: int) -> "TextEncoder":
    from nuner_embed.cli.progress import note
    from nuner_embed.encoding.load import load_encoder
    from nuner_embed.errors import ModelError
    from nuner_embed.indexes.queries import require_encoder

    bundle = opened.bundle
    name = model or bundle.model
    try:
        encoder = load_encoder(name, threads=threads, **bundle.recipe)
    except ModelError as error:
        if model:
            raise
        raise ModelError(f"the index was made with {name!r}: {error}; name that model's place with --model") from None
    require_encoder(opened, encoder)
    if encoder.numeric_hash not in bundle.numeric_hashes:
        note("queries are computed in another way than the rows were; scores may differ in their last digits")
    return encoder


def _asked(
    opened: "Index", encoder: "TextEncoder", query: str | None, like: str | None, queries: str | None
) -> Iterator[_Asked]:
    from nuner_embed import Corpus
    from nuner_embed.cli.progress import note
    from nuner_embed.documents import Document
    from nuner_embed.indexes import embed_mentions, examples_of, marked_document
    from nuner_embed.indexes.query_file import read_queries

    if query is not None:
        document = marked_document(query)
        yield _Asked(query, query, embed_mentions(opened, encoder, [document])[0], {document.text})
    elif like is not None:
        with Corpus([like]) as corpus:
            documents = [item for item in corpus if isinstance(item, Document)]
        examples = examples_of(opened, encoder, documents)
        vector, what = examples.query(opened)
        note(f"{what} of {len(examples.positives)} examples and {len(examples.negatives)} counter-examples")
        yield _Asked(like, like, vector, {document.text for document in documents})
    elif queries is not None:
        for some in _in_groups(read_queries(queries)):
            vectors = embed_mentions(opened, encoder, [one.document for one in some])
            for one, vector in zip(some, vectors, strict=True):
                yield _Asked(one.id, one.query, vector, {one.document.text})


def _in_groups(items: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while group := list(islice(rest, _AT_ONCE)):
        yield group


def _search(opened: "Index", asked: Sequence[_Asked], *, own: bool, **options: Any) -> Any:
    import numpy as np

    from nuner_embed.indexes import find

    exclude = [one.texts for one in asked] if own else None
    return find(opened, np.stack([one.vector for one in asked]), exclude=exclude, **options)
