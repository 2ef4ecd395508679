"""Searching the embeddings of stores."""

from nuner_embed.indexes.changes import NumericsDiffer
from nuner_embed.indexes.concept_search import at_least, find_concepts
from nuner_embed.indexes.hits import find
from nuner_embed.indexes.index import Hits, Index
from nuner_embed.indexes.kinds import SearchParameters
from nuner_embed.indexes.queries import Examples, embed_mentions, examples_of, marked_document

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
