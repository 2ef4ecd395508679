"""Some texts of the demo with the mentions that were found in them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from nuner_embed.documents import Document, Span
from nuner_embed.store.reader import Store

_SHOWN = ("medicine-002", "football-004", "software-003", "birdwatching-005")


def found_in(store: Store, documents: Sequence[Document]) -> list[Document]:
    """A sentence of some fields each, with the mentions of the store."""
    spans: dict[str, list[Span]] = defaultdict(list)
    for row in store.table(["document_id", "start", "end", "score"]).to_pylist():
        spans[row["document_id"]].append(Span(row["start"], row["end"], None, row["score"]))
    return [replace(one, spans=tuple(spans[one.id])) for one in documents if one.id in _SHOWN]
