"""What a search should find, by the exact backend, which tests/indexes/test_exact.py compares with the definitions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuner_embed.indexes.exact import nearest
from nuner_embed.indexes.vectors import Floats, Metric, Vectors, prepared


def best_scores(
    vectors: NDArray[Any], queries: NDArray[Any], metric: Metric, k: int, allowed: NDArray[np.bool_] | None = None
) -> Floats:
    """The scores of the k best rows that are allowed, (q, min(k, allowed)), best first."""
    return nearest(Vectors(prepared(vectors, metric), metric), prepared(queries, metric), k, allowed)[0]


def all_scores(vectors: NDArray[Any], queries: NDArray[Any], metric: Metric) -> Floats:
    """The score of each query with each row, (q, n)."""
    scores, places = nearest(Vectors(prepared(vectors, metric), metric), prepared(queries, metric), len(vectors))
    found = np.empty_like(scores)
    np.put_along_axis(found, places, scores, axis=1)
    return found
