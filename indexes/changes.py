"""The next state of an index: with a segment of rows from stores, or with all remaining rows in one segment."""

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nuner_embed.artifacts import is_free, replacing
from nuner_embed.errors import IndexBundleError, StoreError, StoreMismatch
from nuner_embed.files import hash_of, naming
from nuner_embed.indexes.builder import Part, Plan, Work, write_segment
from nuner_embed.indexes.bundle import Bundle
from nuner_embed.indexes.directory import KIND, changing_alone, new_segment, parts_folder, successor
from nuner_embed.indexes.segment import Segment
from nuner_embed.indexes.vectors import CHUNK_ROWS, Metric, prepared, require_metric
from nuner_embed.store.reader import Shard, Store
from nuner_embed.store.shard import GROUP_ROWS
from nuner_embed.tables import Dtype, Granularity


class NumericsDiffer(UserWarning):
    """Vectors of one encoder were computed by different runtimes or settings; scores differ in their last digits."""


# Every part of a compacted segment but the last holds at least so many rows.
_PART_ROWS = 100_000


def empty_bundle(
    stores: Sequence[Store], kind: str | None, metric: Metric, target_recall: float, max_memory: int | None
) -> Bundle:
    """The manifest of an index that holds no row yet; encoder, recipe and row type are those of the first store.

    Raises:
        ValueError: there is no store, no such metric, or no such recall.
    """
    if not stores:
        raise ValueError("no store to build an index of")
    if not 0 < target_recall <= 1:
        raise ValueError(f"target_recall must be above 0 and at most 1, not {target_recall}")
    require_metric(metric)
    first = stores[0]
    granularity: Granularity = next(name for name in get_args(Granularity) if name == first.granularity)
    dtype: Dtype = next(name for name in get_args(Dtype) if name == first.dtype)
    return Bundle(
        model=first.manifest["model"],
        semantic_hash=first.semantic_hash,
        numeric_hashes=(),
        recipe=first.recipe.to_dict(),
        granularity=granularity,
        dim=first.dim,
        dtype=dtype,
        metric=metric,
        kind=kind,
        target_recall=target_recall,
        max_memory=max_memory,
    )


def create(directory: Path, bundle: Bundle, stores: Sequence[Store], work: Work, *, force: bool) -> None:
    """Builds an index in a folder beside its place, and renames the folder when the index is complete.

    Raises:
        IndexBundleError: the directory is taken; or see `with_stores`.
        IndexLocked: another process is building the index, or changing the one that is to be replaced.
    """
    real = Path(os.path.realpath(directory))
    with contextlib.ExitStack() as until_published, replacing(real, KIND, force=force) as folder:
        # an index is not replaced while another process changes it, nor changed while it is replaced
        if not is_free(real):
            until_published.enter_context(changing_alone(real))
            bundle = successor(real, bundle)
        with_stores(folder, bundle, stores, work).write(folder)


def with_stores(directory: Path, bundle: Bundle, stores: Sequence[Store], work: Work, *, again: bool = False) -> Bundle:
    """Writes a segment with the rows of the stores; returns the state with that segment.

    If the index had rows before, and the new ones are too few to train its kind, the new segment is flat.

    Raises:
        StoreMismatch: a store has another encoder, row type or dtype than the index.
        IndexBundleError: there is no row, or the store was added before.
        ValueError: see `builder.write_segment`.
    """
    for store in stores:
        _require_same(bundle, store)
    added = [fingerprint(store) for store in stores]
    for store, mark in zip(stores, added, strict=True):
        if added.count(mark) > 1:
            raise IndexBundleError(f"{store.path} is named twice, or another store holds the same vectors; name one")
        if not again and bundle.rows and mark in bundle.stores:
            raise IndexBundleError(
                f"{store.path} was added before; nothing was added. --again (in Python again=True) adds all its "
                "rows again, even rows that the index still holds"
            )
    shards = [shard for store in stores for shard in store.shards if shard.rows]
    rows = sum(shard.rows for shard in shards)
    if not rows:
        raise IndexBundleError(f"{' and '.join(str(store.path) for store in stores)}: there is no row to index")
    parts = [
        Part(shard.rows, _chunks(shard, bundle.metric), shard.path("parquet"), shard.path("documents.parquet"))
        for shard in shards
    ]
    ids = np.arange(bundle.next_id, bundle.next_id + rows, dtype=np.int64)
    plan = _plan(bundle, bundle.bytes_resident, work, or_flat=bundle.next_id > 0)
    entry = write_segment(new_segment(directory, bundle), parts, ids, bundle.dim, bundle.dtype, plan)
    hashes = dict.fromkeys([*bundle.numeric_hashes, *(store.numeric_hash for store in stores)])
    if len(hashes) > 1:
        warnings.warn("the index holds vectors that were computed in different ways", NumericsDiffer, stacklevel=4)
    return replace(
        bundle,
        segments=(*bundle.segments, entry),
        stores=tuple(dict.fromkeys([*bundle.stores, *added])),
        next_id=bundle.next_id + rows,
        next_segment=bundle.next_segment + 1,
        numeric_hashes=tuple(hashes),
    )


def compacted(
    directory: Path, bundle: Bundle, segments: Sequence[tuple[Segment, NDArray[np.bool_] | None]], work: Work
) -> Bundle:
    """Writes one segment with all rows that are kept; returns the state with that segment alone."""
    without = replace(bundle, segments=(), tombstones=None, tombstones_sha256=None, removed=0)
    kept = [
        (segment, np.arange(len(segment.ids)) if marked is None else np.flatnonzero(marked))
        for segment, marked in segments
    ]
    if not any(len(rows) for _, rows in kept):
        return replace(without, stores=())
    folder = new_segment(directory, bundle)
    loose = parts_folder(folder)
    loose.mkdir(parents=True)
    try:
        parts = list(_write_parts(loose, kept))
        ids = np.concatenate([segment.ids[rows] for segment, rows in kept])
        plan = _plan(bundle, 0, work, or_flat=True)
        entry = write_segment(folder, parts, ids, bundle.dim, bundle.dtype, plan)
    finally:
        shutil.rmtree(loose, ignore_errors=True)
    return replace(without, segments=(entry,), next_segment=bundle.next_segment + 1)


def fingerprint(store: Store) -> str:
    """A hash of the contents of a store."""
    return hash_of([shard.sha256 for shard in store.shards])


def _plan(bundle: Bundle, resident: int, work: Work, *, or_flat: bool) -> Plan:
    left = None if bundle.max_memory is None else bundle.max_memory - resident
    return Plan(bundle.kind, bundle.metric, bundle.target_recall, left, work, or_flat)


def _chunks(shard: Shard, metric: Metric) -> Iterator[NDArray[np.floating[Any]]]:
    for first in range(0, shard.rows, CHUNK_ROWS):
        chunk = prepared(shard.vectors[first : first + CHUNK_ROWS], metric)
        if not np.isfinite(chunk).all():
            raise StoreError(f"{shard.path('npy')} holds a number that is not finite; encode the corpus again")
        yield chunk


def _require_same(bundle: Bundle, store: Store) -> None:
    if store.semantic_hash != bundle.semantic_hash:
        raise StoreMismatch(
            f"{store.path} ({store.semantic_hash[:12]}) comes from another encoder or recipe than the index "
            f"({bundle.semantic_hash[:12]}); their vectors cannot be compared"
        )
    if store.granularity != bundle.granularity:
        raise StoreMismatch(f"{store.path} has {store.granularity} rows, the index {bundle.granularity} rows")
    if store.dtype != bundle.dtype:
        raise StoreMismatch(f"{store.path} holds {store.dtype}, the index {bundle.dtype}; encode it with that --dtype")


def _write_parts(folder: Path, kept: list[tuple[Segment, NDArray[np.int64]]]) -> Iterator[Part]:
    """Collects the kept rows into parts of 100,000 rows or more; within a part, no two documents share an id."""
    tables: list[tuple[pa.Table, pa.Table]] = []
    vectors: list[Iterator[NDArray[np.floating[Any]]]] = []
    import pyarrow.compute as pc  # takes some 50 ms to import, and building an index does not need it

    seen = pa.array([], pa.string())
    number = size = 0

    def close() -> Part:
        rows, documents = folder / f"{number}.parquet", folder / f"{number}.documents.parquet"
        for path, several in ((rows, [pair[0] for pair in tables]), (documents, [pair[1] for pair in tables])):
            with naming(path), path.open("wb") as stream:
                pq.write_table(pa.concat_tables(several), stream, compression="zstd", row_group_size=GROUP_ROWS)
        return Part(size, chain(*vectors), rows, documents)

    for segment, chosen in kept:
        for part, (begin, end) in enumerate(zip(segment.rows.bounds[:-1], segment.rows.bounds[1:], strict=True)):
            here = chosen[np.searchsorted(chosen, begin) : np.searchsorted(chosen, end)]
            if not len(here):
                continue
            table = segment.table(here)
            documents = segment.rows.documents(part, table["document_id"].unique())
            if tables and (size >= _PART_ROWS or pc.any(pc.is_in(documents["document_id"], value_set=seen)).as_py()):
                yield close()
                tables, vectors, seen, size = [], [], pa.array([], pa.string()), 0
                number += 1
            tables.append((table, documents))
            vectors.append(_stored(segment, here))
            seen = pa.concat_arrays([seen, documents["document_id"].combine_chunks()])
            size += len(here)
    yield close()


def _stored(segment: Segment, rows: NDArray[np.int64]) -> Iterator[NDArray[np.floating[Any]]]:
    places = segment.order.places(rows)
    for first in range(0, len(rows), CHUNK_ROWS):
        yield segment.vectors.matrix[places[first : first + CHUNK_ROWS]]
