"""Exact search: every row of a store is compared with the query. Slow, right, and the measure of all indexes."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nuner_embed.encoding.store import Store
from nuner_embed.errors import StoreMismatch

_CHUNK_ROWS = 65536


class NumericsDiffer(UserWarning):
    """Stores of one meaning were written by different runtimes or settings; scores differ in their last digits."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest rows of some queries, best first.

    Attributes:
        scores: cosine similarity, (q, k) float32.
        stores: which of the stores searched each row is in, (q, k).
        rows: its number there, (q, k).
    """

    scores: NDArray[np.float32]
    stores: NDArray[np.int64]
    rows: NDArray[np.int64]


def nearest(stores: Store | Sequence[Store], queries: ArrayLike, k: int = 10) -> Neighbours:
    """The k rows with the highest cosine similarity to each query.

    Args:
        stores: one store or several of the same semantic hash.
        queries: (q, dim), or (dim,) for one.
        k: how many; fewer come back where the stores hold fewer rows.

    Raises:
        StoreMismatch: the stores do not mean the same.
        ValueError: queries of another width or not finite, k below 1, or no store.
    """
    opened = [stores] if isinstance(stores, Store) else list(stores)
    _require_one_meaning(opened)
    wanted = _unit(np.atleast_2d(np.asarray(queries, dtype=np.float32)))
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if wanted.shape[1] != opened[0].dim or not np.isfinite(wanted).all():
        raise ValueError(f"queries must be finite and (q, {opened[0].dim}), not {wanted.shape}")
    k = min(k, sum(map(len, opened)))
    scores = np.full((len(wanted), k), -np.inf, dtype=np.float32)
    owner = np.zeros((len(wanted), k), dtype=np.int64)
    rows = np.zeros((len(wanted), k), dtype=np.int64)
    for number, store in enumerate(opened):
        begin = 0
        chunks = (
            shard.vectors[first : first + _CHUNK_ROWS]
            for shard in store.shards
            for first in range(0, shard.rows, _CHUNK_ROWS)
        )
        for vectors in chunks:
            found, places = faiss.knn(
                wanted, _unit(vectors.astype(np.float32)), min(k, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT
            )
            merged = np.concatenate([scores, found], axis=1)
            best = np.argsort(-merged, axis=1, kind="stable")[:, :k]
            scores = np.take_along_axis(merged, best, axis=1)
            rows = np.take_along_axis(np.concatenate([rows, places + begin], axis=1), best, axis=1)
            owner = np.take_along_axis(np.concatenate([owner, np.full_like(places, number)], axis=1), best, axis=1)
            begin += len(vectors)
    return Neighbours(scores, owner, rows)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(lengths, np.float32(1e-12)))


def _require_one_meaning(stores: Sequence[Store]) -> None:
    if not stores:
        raise ValueError("no store to search")
    first: Any = stores[0]
    for other in stores[1:]:
        if other.semantic_hash != first.semantic_hash:
            raise StoreMismatch(
                f"{first.path} ({first.semantic_hash[:12]}) and {other.path} ({other.semantic_hash[:12]}) come from "
                "different encoders or recipes; their vectors cannot be compared"
            )
        if other.numeric_hash != first.numeric_hash:
            warnings.warn(
                f"{first.path} and {other.path} mean the same but were computed differently "
                f"({first.numeric_hash[:12]}, {other.numeric_hash[:12]})",
                NumericsDiffer,
                stacklevel=3,
            )
