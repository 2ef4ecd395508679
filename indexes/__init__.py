"""Searching the embeddings of stores."""

from nuner_embed.indexes.exact import Neighbours, NumericsDiffer, nearest

__all__ = ["Neighbours", "NumericsDiffer", "nearest"]
