"""Hits with the text around each of them, found by vectors or by the names of entity types."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from nuner_embed.arguments import as_names
from nuner_embed.errors import IndexBundleError, StoreMismatch
from nuner_embed.indexes.index import Index
from nuner_embed.indexes.vectors import Floats

if TYPE_CHECKING:
    from nuner_embed.encoders.concepts import ConceptEncoder

Unique = Literal["surface", "document"]
# Factor by which more rows are fetched, at first and each time again, where some hits will be dropped.
_SURPLUS = 4
_FOUND_AT_ONCE = 2_000_000
# With several names, that many times k rows near all of them are scored one by one, and at least 500.
_LOOKED_AT, _AT_LEAST = 20, 500


def find(
    index: Index,
    queries: ArrayLike,
    k: int = 10,
    *,
    filter: str | None = None,
    unique: Unique | None = None,
    exclude: Sequence[Collection[str]] | None = None,
    context: int = 60,
) -> pa.Table:
    """The k best rows for each query, with the text around them.

    Args:
        index: to search.
        queries: (q, dim), or (dim,) for one.
        k: hits for each query; fewer are returned if there are no more.
        filter: see `Index.search`.
        unique: "surface" keeps the best row of each text, whatever its case; "document" the best of each document.
        exclude: for each query, the texts whose rows are left out: those from which the query comes.
        context: most characters on each side of a row; the text is cut between words where possible.

    Returns:
        One row a hit: `query` (its number), `rank` (from 1), `score`, `id`, the columns of the index's rows, `context`
        and `context_start` (its first character in the document). Queries in their order, best first.

    Raises:
        IndexBundleError, ValueError: see `Index.search`.
    """
    if unique is not None and unique not in get_args(Unique):
        raise ValueError(f"unique must be {' or '.join(get_args(Unique))}, not {unique!r}")
    index = index.snapshot()
    wanted = np.atleast_2d(np.asarray(queries, dtype=np.float32))
    origins = [()] * len(wanted) if exclude is None else list(exclude)
    fetch = k * _SURPLUS if unique or exclude else k
    pending = list(range(len(wanted)))
    chosen: dict[int, list[tuple[float, int]]] = {}
    while pending:
        at_once = max(1, _FOUND_AT_ONCE // fetch)
        short = []
        for first in range(0, len(pending), at_once):
            some = pending[first : first + at_once]
            found = index.search(wanted[some], fetch, filter=filter)
            keys = _Keys(index, found.ids, unique, texts=any(origins))
            for query, scores, ids in zip(some, found.scores.tolist(), found.ids.tolist(), strict=True):
                chosen[query] = keys.select(scores, ids, k, origins[query])
                if len(chosen[query]) < k and len(ids) == fetch:  # there may be more
                    short.append(query)
        pending, fetch = short, fetch * _SURPLUS
    return _table(index, [chosen[query] for query in range(len(wanted))], context)


def surface_key(text: str) -> str:
    """A key that is equal for texts that differ only in case and white space."""
    return " ".join(text.casefold().split())


class _Keys:
    """Decides which hits are kept."""

    def __init__(self, index: Index, ids: NDArray[np.int64], unique: Unique | None, *, texts: bool) -> None:
        self._unique = unique
        known = np.unique(ids)
        rows = index.rows(known, ["document_id", "text"], texts=texts)
        self._document = dict(zip(known.tolist(), rows["document_id"].to_pylist(), strict=True))
        self._surface = dict(zip(known.tolist(), rows["text"].to_pylist(), strict=True)) if unique else {}
        self._text = dict(zip(known.tolist(), rows["document_text"].to_pylist(), strict=True)) if texts else {}

    def select(self, scores: list[float], ids: list[int], k: int, origin: Collection[str]) -> list[tuple[float, int]]:
        """The first k hits that neither come from the query's own text nor repeat the key of an earlier hit."""
        seen = set()
        kept: list[tuple[float, int]] = []
        for score, id_ in zip(scores, ids, strict=True):
            if origin and self._text[id_] in origin:
                continue
            key = self._key(id_)
            if key in seen:
                continue
            seen.add(key)
            kept.append((score, id_))
            if len(kept) == k:
                break
        return kept

    def _key(self, id_: int) -> Any:
        if self._unique == "surface":
            return surface_key(self._surface[id_])
        return self._document[id_] if self._unique == "document" else id_


def _around(text: str, start: int, end: int, context: int) -> tuple[int, str]:
    """The text around a row, cut between words, and the place in the text where it begins.

    Raises:
        IndexBundleError: the row does not lie in the text.
    """
    if not 0 <= start <= end <= len(text):
        raise IndexBundleError(
            f"the index is damaged: a row covers characters {start} to {end} of a text with {len(text)} characters; "
            "build the index again"
        )
    first, last = max(0, start - context), min(len(text), end + context)
    if first > 0 and not text[first - 1].isspace():
        first = next((i for i in range(first, start) if text[i].isspace()), first)
    if last < len(text) and not text[last].isspace():
        last = next((i for i in range(last, end, -1) if text[i - 1].isspace()), last)
    return first, text[first:last]


def _table(index: Index, chosen: list[list[tuple[float, int]]], context: int) -> pa.Table:
    flat = [(query, rank, *hit) for query, hits in enumerate(chosen) for rank, hit in enumerate(hits, start=1)]
    query, rank, score, ids = zip(*flat, strict=True) if flat else ((), (), (), ())
    known, place = np.unique(np.array(ids, np.int64), return_inverse=True)
    rows = index.rows(known, texts=True).take(pa.array(place.ravel()))
    around = (
        [
            _around(text, start, end, context)
            for text, start, end in zip(
                *(rows[name].to_pylist() for name in ("document_text", "start", "end")), strict=True
            )
        ]
        if flat
        else []
    )
    table = pa.table(
        {
            "query": pa.array(query, pa.int64()),
            "rank": pa.array(rank, pa.int64()),
            "score": pa.array(score, pa.float32()),
            "id": pa.array(ids, pa.int64()),
        }
    )
    for name in index.columns:
        table = table.append_column("row_score" if name == "score" else name, rows[name])
    table = table.append_column("context", pa.array([text for _, text in around], pa.string()))
    return table.append_column("context_start", pa.array([start for start, _ in around], pa.int64()))


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
    """The k rows of an index that are most probably of all wanted types and of no unwanted type.

    Args:
        index: of the model that the concept encoder belongs to, and of the metric that it was trained with.
        concepts: the concept encoder.
        wanted: names of types, or one; a row is to be of all of them.
        unwanted: names of types, or one; a row is to be of none of them.
        k: number of hits; fewer are returned if there are no more.
        unique: see `find`; with several names, unique among the rows that are scored one by one.
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
            f"{index.path} uses the metric {bundle.metric}; concepts of {concepts.model} are compared by "
            f"{concepts.metric}: build the index with --metric {concepts.metric}"
        )
    if concepts.semantic_hash_of_texts(bundle.recipe) != bundle.semantic_hash:
        raise StoreMismatch(
            f"{index.path} was made with {bundle.model or 'another model'} ({bundle.semantic_hash[:12]}), to which the "
            f"concept encoder of {concepts.model} does not belong"
        )
    if list(bundle.recipe["layers"]) != [-1]:
        raise IndexBundleError(
            f"{index.path} holds layers {bundle.recipe['layers']}; concepts can be compared with the last layer only; "
            "encode with --layers -1"
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
    """The k best hits by new scores, with new ranks; with `unique`, the best of each text or document."""
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
    """The hits whose score is at least `score`."""
    import pyarrow.compute as pc  # takes some 50 ms to import, and building an index does not need it

    return hits.filter(pc.greater_equal(hits["score"], score))
