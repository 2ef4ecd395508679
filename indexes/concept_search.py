"""Searching an index by the names of entity types, without any example."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nuner_embed.arguments import as_names
from nuner_embed.errors import IndexBundleError, StoreMismatch
from nuner_embed.indexes.hits import Unique, find, surface_key
from nuner_embed.indexes.index import Index
from nuner_embed.indexes.vectors import Floats

if TYPE_CHECKING:
    from nuner_embed.encoders.concepts import ConceptEncoder

# Where several names are asked for, so many times k rows that lie near all of them are looked at one by one.
_LOOKED_AT, _AT_LEAST = 20, 500


def find_concepts(
    index: Index,
    concepts: "ConceptEncoder",
    wanted: str | Sequence[str],
    unwanted: str | Sequence[str] = (),
    k: int = 10,
    *,
    unique: Unique | None = None,
    **options: Any,
) -> pa.Table:
    """The k rows of an index that are most probably of some types, and of none of some others.

    Args:
        index: of the model that the concept encoder belongs to, and of the metric that it was trained with.
        concepts: the concept encoder.
        wanted: names of types, or one; a row is to be of all of them.
        unwanted: names of types that it is not to be of, or one.
        k: how many; fewer come back where there are no more.
        unique: see `find`; where there are several names, of the rows that are looked at.
        options: `filter`, `context`, see `find`.

    Returns:
        What `find` returns, with one query. The score is the probability that the row is of every wanted type and of no
        unwanted one, each taken for itself; where the model is not calibrated, it is the mean cosine (or inner product)
        with the wanted names less that with the unwanted ones.

    Raises:
        StoreMismatch: the index was made with another model.
        IndexBundleError: it has another metric, or other layers than the last.
        ValueError: no wanted name, or one that is no name.
    """
    _require_same_model(index, concepts)
    wanted, unwanted = as_names(wanted), as_names(unwanted)
    if not wanted:
        raise ValueError("name at least one type that is wanted")
    vectors = concepts.encode([*wanted, *unwanted])
    index = index.snapshot()
    if len(vectors) == 1:
        hits = find(index, vectors, k, unique=unique, **options)
        return _scored(hits, _agreement(concepts, hits["score"].to_numpy()[:, None], 1), k)
    direction = vectors[: len(wanted)].mean(axis=0)
    if unwanted:
        direction = direction - vectors[len(wanted) :].mean(axis=0) / 2
    hits = find(index, direction, max(_AT_LEAST, _LOOKED_AT * k), **options)
    cosines = index.vectors(hits["id"].to_numpy()) @ vectors.T
    return _scored(hits, _agreement(concepts, cosines, len(wanted)), k, unique)


def _require_same_model(index: Index, concepts: "ConceptEncoder") -> None:
    bundle = index.bundle
    if bundle.metric != concepts.metric:
        raise IndexBundleError(
            f"{index.path} compares by {bundle.metric}; concepts of {concepts.model} are compared by {concepts.metric}"
            f": build the index with --metric {concepts.metric}"
        )
    if concepts.semantic_hash_of_texts(bundle.recipe) != bundle.semantic_hash:
        raise StoreMismatch(
            f"{index.path} was made with {bundle.model or 'another model'} ({bundle.semantic_hash[:12]}), to which the "
            f"concept encoder of {concepts.model} does not belong"
        )
    if list(bundle.recipe["layers"]) != [-1]:
        raise IndexBundleError(
            f"{index.path} holds layers {bundle.recipe['layers']}; concepts agree with the last one alone: encode with "
            "--layers -1"
        )


def _agreement(concepts: "ConceptEncoder", cosines: Floats, wanted: int) -> Floats:
    """The score of rows, (n,), from their cosines with the names, (n, names), those wanted first."""
    if concepts.facts.calibration is None:
        scores: Floats = cosines[:, :wanted].mean(axis=1)
        return scores - cosines[:, wanted:].mean(axis=1) if cosines.shape[1] > wanted else scores
    probabilities = concepts.probabilities(cosines)
    together: Floats = probabilities[:, :wanted].prod(axis=1) * (1 - probabilities[:, wanted:]).prod(axis=1)
    return together


def _scored(hits: pa.Table, scores: Floats, k: int, unique: Unique | None = None) -> pa.Table:
    """The k best hits by other scores, ranked anew; of those that are to be unique, the first each."""
    order = np.argsort(-scores, kind="stable")
    if unique:
        texts = hits["text" if unique == "surface" else "document_id"].to_pylist()
        keys = [surface_key(texts[i]) if unique == "surface" else texts[i] for i in order]
        order = order[sorted(np.unique(keys, return_index=True)[1])] if keys else order
    order = order[:k]
    taken = hits.take(pa.array(order))
    place = hits.column_names.index
    taken = taken.set_column(place("score"), "score", pa.array(scores[order].astype(np.float32)))
    return taken.set_column(place("rank"), "rank", pa.array(np.arange(1, len(order) + 1)))


def at_least(hits: pa.Table, score: float) -> pa.Table:
    """The hits with a score of so much or more."""
    import pyarrow.compute as pc  # some 50 ms, which building an index does without

    return hits.filter(pc.greater_equal(hits["score"], score))
