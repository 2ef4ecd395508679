"""The searches of the demo, over the bundled corpus."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nuner_embed.documents import Document
from nuner_embed.indexes import Index, embed_mentions, examples_of, find, marked_document


@dataclass(frozen=True, slots=True)
class Search:
    """A search, as the command line would have it.

    Attributes:
        queries: mentions in their context; several are examples of one kind of thing.
        filter: an SQL condition over the rows, or None.
        command: what one would type.
    """

    queries: tuple[str, ...]
    filter: str | None
    command: str


SEARCHES = (
    Search(
        ("We saw the rings of [[Saturn]] through the telescope.",),
        None,
        'nuner-embed search index "We saw the rings of [[Saturn]] through the telescope." --unique surface -k 5',
    ),
    Search(
        ("She moved to [[Antwerp]] for the job.",),
        "document_id LIKE 'football%' OR document_id LIKE 'finance%'",
        'nuner-embed search index "She moved to [[Antwerp]] for the job." --unique surface -k 5 '
        "--filter \"document_id LIKE 'football%' OR document_id LIKE 'finance%'\"",
    ),
    Search(
        (
            "Take one tablet of [[ibuprofen]] after a meal.",
            "The doctor stopped the [[antibiotic]] on the third day.",
            "She has been on [[insulin]] since she was nine.",
            "[[Aspirin]] thins the blood.",
            "He was given [[morphine]] for the pain.",
        ),
        None,
        "nuner-embed search index --like medicines.jsonl --unique surface -k 5",
    ),
)


def run_searches(index: Index, model: Path) -> list[list[dict[str, Any]]]:
    """The hits of each search."""
    from nuner_embed.encoding.load import load_encoder

    encoder = load_encoder(str(model), **index.bundle.recipe)
    found = []
    for search in SEARCHES:
        documents: list[Document] = [marked_document(query) for query in search.queries]
        if len(documents) > 1:
            vector, _ = examples_of(index, encoder, documents).query(index)
        else:
            vector = embed_mentions(index, encoder, documents)[0]
        found.append(find(index, vector, 5, unique="surface", filter=search.filter).to_pylist())
    return found
