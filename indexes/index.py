"""The index: FAISS over the rows of stores, alive and honest."""

import contextlib
import shutil
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from numpy.typing import ArrayLike, NDArray

from nuner_embed.encoding.store import Store
from nuner_embed.errors import IndexBundleError, IndexLocked, StoreMismatch
from nuner_embed.files import sha256_of, sync_folder
from nuner_embed.indexes.bundle import LOCK_FILE, SEGMENTS_FOLDER, Bundle
from nuner_embed.indexes.exact import NumericsDiffer
from nuner_embed.indexes.kinds import SearchParameters, factory_of
from nuner_embed.indexes.segment import Segment, SegmentEntry, write_segment
from nuner_embed.indexes.vectors import Floats, Metric, best, faiss_metric, prepared


@dataclass(frozen=True, slots=True)
class Hits:
    """What a search found, best first; k is what was asked for, or all there is.

    Attributes:
        scores: cosine, inner product or negative distance, (q, k) float32; higher is better.
        ids: of the rows, (q, k) int64.
    """

    scores: Floats
    ids: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _State:
    """The index at one moment; searches never see half of a change."""

    bundle: Bundle
    segments: tuple[Segment, ...]
    kept: tuple[NDArray[np.bool_] | None, ...]

    @property
    def rows(self) -> int:
        return sum(len(segment.ids) for segment in self.segments) - self.bundle.removed


class Index:
    """An index bundle, open for searching; `add`, `remove` and `compact` change it on disk.

    Any number of threads may search while one changes it; what another process changed is seen after `refresh`.

    Attributes:
        path: the directory.
    """

    def __init__(self, path: Path, state: _State) -> None:
        self.path = path
        self._state = state

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Opens an index.

        Raises:
            IndexBundleError: there is none, or a piece of it is missing or damaged.
        """
        directory = Path(path).expanduser()
        return cls(directory, _load(directory))

    @classmethod
    def build(
        cls,
        stores: Store | Iterable[Store],
        path: str | Path,
        *,
        kind: str = "flat",
        metric: Metric = "cosine",
        how: SearchParameters | None = None,
    ) -> Self:
        """Builds an index over the rows of one store, or of several of one meaning.

        Args:
            stores: complete stores; their vectors and rows are hard-linked into the index, or copied.
            path: a directory that does not exist yet.
            kind: "flat", "hnsw", "ivf", "ivf_pq", or a FAISS factory string.
            metric: "cosine", "dot" or "l2".
            how: how hard a search tries, in place of the defaults.

        Raises:
            IndexBundleError: the directory is taken, or there is no row.
            StoreMismatch: the stores do not mean the same.
            ValueError: no such kind or metric.
        """
        opened = [stores] if isinstance(stores, Store) else list(stores)
        directory = Path(path).expanduser()
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise IndexBundleError(f"{directory} exists already; name a new directory, or add to it")
        faiss_metric(metric)
        first = opened[0]
        bundle = Bundle(
            semantic_hash=first.semantic_hash,
            numeric_hashes=(),
            recipe=first.recipe.to_dict(),
            granularity=first.granularity,
            dim=first.dim,
            metric=metric,
            kind=kind,
            factory="",
            how=how or SearchParameters(),
        )
        work = directory.with_name(f".{directory.name}.tmp")
        shutil.rmtree(work, ignore_errors=True)
        try:
            work.mkdir(parents=True)
            _add(work, bundle, opened).write(work)
            if directory.exists():
                directory.rmdir()
            work.rename(directory)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return cls.open(directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open but files that are read; the memory goes with the object."""

    def __len__(self) -> int:
        return self._state.rows

    def __repr__(self) -> str:
        bundle = self._state.bundle
        return f"Index({str(self.path)!r}, {len(self)} {bundle.granularity} rows, {bundle.kind}, {bundle.metric})"

    @property
    def bundle(self) -> Bundle:
        """What the manifest says."""
        return self._state.bundle

    def refresh(self) -> None:
        """Looks at what others changed."""
        self._state = _load(self.path)

    def search(
        self, queries: ArrayLike, k: int = 10, *, among: NDArray[np.int64] | None = None,
        how: SearchParameters | None = None,
    ) -> Hits:  # fmt: skip
        """The k best rows for each query.

        Args:
            queries: (q, dim), or (dim,) for one.
            k: how many; fewer come back where the index, or `among`, holds fewer.
            among: ids that may be found, in any order; None for all.
            how: how hard to try, in place of what the index was tuned to.

        Raises:
            ValueError: queries of another width or not finite, or k below 1.
        """
        state = self._state
        wanted = np.atleast_2d(np.asarray(queries, dtype=np.float32))
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        if wanted.ndim != 2 or wanted.shape[1] != state.bundle.dim or not np.isfinite(wanted).all():
            raise ValueError(f"queries must be finite and (q, {state.bundle.dim}), not {wanted.shape}")
        wanted = prepared(wanted, state.bundle.metric)
        scores, ids = np.empty((len(wanted), 0), np.float32), np.empty((len(wanted), 0), np.int64)
        for segment, kept in zip(state.segments, state.kept, strict=True):
            keep = kept if among is None else _marked(segment, among, kept)
            found, rows = segment.search(wanted, k, how or state.bundle.how, keep)
            scores, ids = best(np.hstack([scores, found]), np.hstack([ids, segment.ids[rows]]), k)
        return Hits(scores, ids)

    def rows(self, ids: ArrayLike) -> pa.Table:
        """What the rows with these ids are, in the order given: `id` and the columns of the store.

        Raises:
            KeyError: an id that is not in the index.
        """
        wanted = np.asarray(ids, dtype=np.int64).ravel()
        tables, places = [], []
        for segment, kept in zip(self._state.segments, self._state.kept, strict=True):
            here = np.flatnonzero(np.isin(wanted, segment.ids))
            found = segment.rows_of(wanted[here])
            if kept is not None and not kept[found].all():
                raise KeyError(f"id {wanted[here][~kept[found]][0]} was removed")
            tables.append(segment.table(found).append_column("id", pa.array(wanted[here])))
            places.append(here)
        place = np.concatenate(places) if places else np.empty(0, np.int64)
        if len(place) != len(wanted):
            raise KeyError(f"no id {np.setdiff1d(wanted, wanted[place])[0]} in the index")
        return pa.concat_tables(tables).take(pa.array(np.argsort(place)))

    def ids(self) -> NDArray[np.int64]:
        """The ids of all rows, rising."""
        parts = [
            segment.ids[:] if kept is None else segment.ids[kept]
            for segment, kept in zip(self._state.segments, self._state.kept, strict=True)
        ]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def add(self, store: Store) -> None:
        """Adds a store's rows as a new segment.

        Raises:
            StoreMismatch: the store does not mean what the index means.
            IndexLocked: somebody else is changing the index.
        """
        with self._change() as bundle:
            self._commit(_add(self.path, bundle, [store]))

    def remove(self, ids: ArrayLike) -> int:
        """Removes rows by id; returns how many were there. Their place is freed by `compact`.

        Raises:
            IndexLocked: somebody else is changing the index.
        """
        with self._change() as bundle:
            wanted = np.intersect1d(np.asarray(ids, dtype=np.int64).ravel(), self.ids())
            if len(wanted):
                gone = np.union1d(bundle.removed_ids(self.path), wanted)
                self._commit(bundle.with_removed(self.path, gone))
        return len(wanted)

    def compact(self) -> None:
        """Makes one segment of all, without the removed rows; ids stay what they are.

        Raises:
            IndexLocked: somebody else is changing the index.
        """
        with self._change() as bundle:
            state = self._state
            if len(state.segments) < 2 and not bundle.removed:
                return
            self._commit(_compacted(self.path, bundle, state))

    def verify(self) -> list[str]:
        """Reads every byte again; returns what is wrong, a line each."""
        return [
            f"{segment.folder.name}/{name} is not what was written (sha256 differs)"
            for segment in self._state.segments
            for name, facts in segment.entry.files.items()
            if sha256_of(segment.folder / name) != facts["sha256"]
        ]

    @contextlib.contextmanager
    def _change(self) -> Iterator[Bundle]:
        """Holds the writer's lock, over the newest state; what a writer that died left behind is cleared away."""
        lock = FileLock(self.path / LOCK_FILE, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise IndexLocked(f"another process is changing {self.path}; try again when it is done") from None
        try:
            self.refresh()
            _clear_strays(self.path, self._state.bundle)
            yield self._state.bundle
        finally:
            lock.release()

    def _commit(self, bundle: Bundle) -> None:
        replace(bundle, generation=bundle.generation + 1).write(self.path)
        self.refresh()
        _clear_strays(self.path, self._state.bundle)


def _load(directory: Path) -> _State:
    """The newest state; read again where a writer swapped it in between."""
    while True:
        bundle = Bundle.read(directory)
        try:
            segments = tuple(
                Segment(directory / SEGMENTS_FOLDER / entry.name, entry, bundle.metric) for entry in bundle.segments
            )
            removed = bundle.removed_ids(directory)
        except IndexBundleError:
            if Bundle.read(directory).generation == bundle.generation:
                raise
            continue
        kept: list[NDArray[np.bool_] | None] = []
        for segment in segments:
            gone = segment.rows_of(removed)
            mask = np.ones(len(segment.ids), bool)
            mask[gone] = False
            kept.append(mask if len(gone) else None)
        return _State(bundle, segments, tuple(kept))


def _marked(segment: Segment, among: NDArray[np.int64], kept: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    mask = np.zeros(len(segment.ids), bool)
    mask[segment.rows_of(np.unique(np.asarray(among, dtype=np.int64)))] = True
    return mask if kept is None else mask & kept


def _add(directory: Path, bundle: Bundle, stores: list[Store]) -> Bundle:
    """Writes a segment of the stores' rows; returns the state that names it."""
    for store in stores:
        _require_same(bundle, store)
    parts = [(shard.path("npy"), shard.path("parquet")) for store in stores for shard in store.shards if shard.rows]
    rows = sum(shard.rows for store in stores for shard in store.shards)
    if not rows:
        raise IndexBundleError("there is no row to index")
    factory = factory_of(bundle.kind, rows, bundle.dim)
    folder = _new_segment(directory, bundle)
    ids = np.arange(bundle.next_id, bundle.next_id + rows, dtype=np.int64)
    entry = write_segment(folder, parts, ids, factory, bundle.metric)
    hashes = dict.fromkeys([*bundle.numeric_hashes, *(store.numeric_hash for store in stores)])
    if len(hashes) > 1:
        warnings.warn("the index holds vectors that were computed in different ways", NumericsDiffer, stacklevel=4)
    return replace(
        bundle,
        segments=(*bundle.segments, entry),
        next_id=bundle.next_id + rows,
        next_segment=bundle.next_segment + 1,
        factory=factory,
        numeric_hashes=tuple(hashes),
    )


def _require_same(bundle: Bundle, store: Store) -> None:
    if store.semantic_hash != bundle.semantic_hash:
        raise StoreMismatch(
            f"{store.path} ({store.semantic_hash[:12]}) comes from another encoder or recipe than the index "
            f"({bundle.semantic_hash[:12]}); their vectors cannot be compared"
        )
    if store.granularity != bundle.granularity:
        raise StoreMismatch(f"{store.path} has {store.granularity} rows, the index {bundle.granularity} rows")


def _compacted(directory: Path, bundle: Bundle, state: _State) -> Bundle:
    folder = _new_segment(directory, bundle)
    loose = folder.with_name(f"{folder.name}.parts")
    shutil.rmtree(loose, ignore_errors=True)
    loose.mkdir()
    try:
        parts, ids = [], []
        for number, (segment, kept) in enumerate(zip(state.segments, state.kept, strict=True)):
            rows = np.arange(len(segment.ids)) if kept is None else np.flatnonzero(kept)
            if not len(rows):
                continue
            parts.append((loose / f"{number}.npy", loose / f"{number}.parquet"))
            segment.copy_rows(rows, *parts[-1])
            ids.append(segment.ids[rows])
        if not parts:
            return replace(bundle, segments=(), tombstones=None, removed=0)
        order = np.concatenate(ids)
        factory = factory_of(bundle.kind, len(order), bundle.dim)
        entry: SegmentEntry = write_segment(folder, parts, order, factory, bundle.metric)
    finally:
        shutil.rmtree(loose, ignore_errors=True)
    number = bundle.next_segment + 1
    return replace(bundle, segments=(entry,), next_segment=number, factory=factory, tombstones=None, removed=0)


def _new_segment(directory: Path, bundle: Bundle) -> Path:
    folder = directory / SEGMENTS_FOLDER / f"{bundle.next_segment:05d}"
    shutil.rmtree(folder, ignore_errors=True)  # left by a writer that died
    return folder


def _clear_strays(directory: Path, bundle: Bundle) -> None:
    """Removes what no state names any more: only the holder of the lock may."""
    named = {entry.name for entry in bundle.segments}
    for folder in (directory / SEGMENTS_FOLDER).iterdir():
        if folder.name not in named:
            shutil.rmtree(folder, ignore_errors=True)
    for path in directory.glob("*tombstones-*"):
        if path.name != bundle.tombstones:
            path.unlink(missing_ok=True)
    sync_folder(directory)
