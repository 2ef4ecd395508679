"""Searching the embeddings of stores."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuner_embed.corpora.marked import marked_document
    from nuner_embed.indexes.base import SearchParameters
    from nuner_embed.indexes.changes import NumericsDiffer
    from nuner_embed.indexes.index import Hits, Index
    from nuner_embed.indexes.queries import Examples, embed_mentions, examples_of
    from nuner_embed.indexes.retrieval import at_least, find, find_concepts

# Imported when asked for: the command line reads the choices in `base` without NumPy or FAISS.
_MODULES = {
    "Examples": "queries",
    "Hits": "index",
    "Index": "index",
    "NumericsDiffer": "changes",
    "SearchParameters": "base",
    "at_least": "retrieval",
    "embed_mentions": "queries",
    "examples_of": "queries",
    "find": "retrieval",
    "find_concepts": "retrieval",
    "marked_document": "queries",
}

__all__ = [
    "Examples",
    "Hits",
    "Index",
    "NumericsDiffer",
    "SearchParameters",
    "at_least",
    "embed_mentions",
    "examples_of",
    "find",
    "find_concepts",
    "marked_document",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
