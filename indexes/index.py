"""An index over the rows of stores: opened, searched, changed and verified."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from nuner_embed.arguments import Progress, silent
from nuner_embed.errors import IndexBundleError
from nuner_embed.files import expand
from nuner_embed.indexes import changes
from nuner_embed.indexes.base import SearchParameters
from nuner_embed.indexes.builder import Work
from nuner_embed.indexes.bundle import Bundle
from nuner_embed.indexes.directory import changing_alone, clear_strays
from nuner_embed.indexes.filter import require_condition
from nuner_embed.indexes.state import State, allowed, load, problems, whole_numbers
from nuner_embed.indexes.vectors import Floats, Metric, best, prepared
from nuner_embed.limits import FILTER_SECONDS
from nuner_embed.store.reader import Store


@dataclass(frozen=True, slots=True)
class Hits:
    """The result of a search, best rows first; k is smaller than asked for if fewer rows may be found.

    Attributes:
        scores: cosine, inner product or negative distance, (q, k) float32; higher is better.
        ids: of the rows, (q, k) int64.
    """

    scores: Floats
    ids: NDArray[np.int64]


class Index:
    """An index bundle, open for searching; `add`, `remove` and `compact` change it on disk.

    Any number of threads may search while one changes the index; changes of other processes are seen after `refresh`.

    Attributes:
        path: the directory.
        filter_seconds: time limit of a filter over all rows.
    """

    def __init__(self, path: Path, state: State, filter_seconds: float = FILTER_SECONDS) -> None:
        self.path = path
        self.filter_seconds = filter_seconds
        self._now: State | None = state

    @classmethod
    def open(cls, path: str | Path, *, filter_seconds: float = FILTER_SECONDS) -> Self:
        """Opens an index.

        Args:
            path: its directory.
            filter_seconds: time limit of a filter over all rows.

        Raises:
            IndexBundleError: there is no index, or one of its files is missing or damaged.
        """
        directory = expand(path)
        return cls(directory, load(directory), filter_seconds)

    @classmethod
    def build(
        cls,
        stores: Store | str | Path | Iterable[Store | str | Path],
        path: str | Path,
        *,
        kind: str | None = None,
        metric: Metric = "cosine",
        target_recall: float = 0.95,
        max_memory: int | None = None,
        threads: int = 0,
        gpu: bool = False,
        force: bool = False,
        progress: Progress = silent,
    ) -> Self:
        """Builds an index over the rows of one store, or of several stores of one encoder.

        Args:
            stores: complete stores or their directories; the index does not need them afterwards.
            path: a directory that does not exist yet, or a link to one.
            kind: one of `base.KINDS`, a FAISS factory string, or "auto": the FAISS kind that measures fastest. None is
                "flat" below 200,000 rows, and "auto" from there on or where flat does not fit into `max_memory`.
            metric: "cosine", "dot" or "l2".
            target_recall: of the ten nearest rows, the share that a search is to find; a fraction of 1.
            max_memory: bytes that the index may hold in memory; None for any number.
            threads: 0 for one a core.
            gpu: train inverted lists on a GPU; this was never run on one.
            force: replace an existing index; a reader gets either the old index or the new one.
            progress: see `nuner_embed.arguments.Progress`.

        Raises:
            IndexBundleError: the directory is taken, there is no row, or nothing fits into the memory.
            IndexLocked: another process builds the index, or changes the one that is to be replaced.
            StoreMismatch: the stores come from different encoders or recipes.
            ValueError: no such kind or metric, or a recall out of range.
        """
        given = [stores] if isinstance(stores, Store | str | Path) else list(stores)
        opened = [store if isinstance(store, Store) else Store.open(store) for store in given]
        bundle = changes.empty_bundle(opened, kind, metric, target_recall, max_memory)
        directory = expand(path)
        changes.create(directory, bundle, opened, Work(threads, gpu, progress), force=force)
        return cls.open(directory)

    def close(self) -> None:
        """Releases memory and files; searches in progress finish first."""
        self._now = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self._state.rows

    def __repr__(self) -> str:
        if self._now is None:
            return f"Index({str(self.path)!r}, closed)"
        bundle = self._now.bundle
        kinds = ", ".join(dict.fromkeys(segment.kind for segment in bundle.segments)) or "empty"
        return f"Index({str(self.path)!r}, {len(self)} {bundle.granularity} rows, {kinds}, {bundle.metric})"

    @property
    def _state(self) -> State:
        if self._now is None:
            raise ValueError(f"the index {self.path} is closed")
        return self._now

    @property
    def bundle(self) -> Bundle:
        """What the manifest says."""
        return self._state.bundle

    @property
    def columns(self) -> list[str]:
        """The columns that a filter may name."""
        return self._state.columns

    def snapshot(self) -> Self:
        """The index in its present state, for several calls that must see the same state."""
        return type(self)(self.path, self._state, self.filter_seconds)

    def refresh(self) -> None:
        """Reads the state again, to see the changes of other processes."""
        self._now = load(self.path)

    @contextlib.contextmanager
    def threads(self, count: int) -> Iterator[None]:
        """Sets the number of threads of searches while the context lasts; 0 changes nothing."""
        with contextlib.ExitStack() as limits:
            for backend in {type(segment.backend) for segment in self._state.segments}:
                limits.enter_context(backend.threads(count))
            yield

    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        filter: str | None = None,
        among: ArrayLike | None = None,
        parameters: SearchParameters | None = None,
    ) -> Hits:
        """The k best rows for each query.

        Args:
            queries: (q, dim), or (dim,) for one.
            k: number of rows; fewer are returned if the index, or the filter, leaves fewer.
            filter: an SQL condition over the rows' columns, such as "label = 'river'"; see `filter.mark`.
            among: ids that may be found, in any order; None for all.
            parameters: of the search, in place of those that each segment was tuned to.

        Raises:
            IndexBundleError: the filter is no condition over the rows' columns, or takes longer than it may.
            ValueError: queries of another width or not finite, k below 1, or ids that are no whole numbers.
        """
        state = self._state
        wanted = self._prepared(queries, k)
        segments = zip(state.segments, allowed(state, filter, among, self.filter_seconds), strict=True)
        found = [segment.search(wanted, k, parameters, keep) for segment, keep in segments]
        if len(found) == 1:
            return Hits(*found[0])
        nothing = np.empty((len(wanted), 0))
        scores = np.hstack([nothing.astype(np.float32), *(scores for scores, _ in found)])
        return Hits(*best(scores, np.hstack([nothing.astype(np.int64), *(ids for _, ids in found)]), k))

    def rows(self, ids: ArrayLike, columns: Sequence[str] | None = None, *, texts: bool = False) -> pa.Table:
        """The rows with these ids, in the order given: `id` and the columns of the store.

        Args:
            ids: of rows.
            columns: some of the columns; None for all.
            texts: add `document_text`, the text that contains the row.

        Raises:
            KeyError: an id that is not in the index.
            ValueError: ids that are no whole numbers.
        """
        wanted = whole_numbers(ids)
        tables, places = [], []
        state = self._state
        for segment, kept in zip(state.segments, state.kept, strict=True):
            here, found = segment.locate(wanted)
            if kept is not None and not kept[found].all():
                raise KeyError(f"id {wanted[here][~kept[found]][0]} was removed")
            tables.append(segment.table(found, columns, texts=texts).append_column("id", pa.array(wanted[here])))
            places.append(here)
        place = np.concatenate(places) if places else np.empty(0, np.int64)
        if len(place) != len(wanted):
            raise KeyError(f"no id {np.setdiff1d(wanted, wanted[place])[0]} in the index")
        if not tables:
            return state.no_rows(columns, texts=texts).append_column("id", pa.array([], pa.int64()))
        return pa.concat_tables(tables).take(pa.array(np.argsort(place)))

    def check_filter(self, filter: str) -> None:
        """Checks a filter before a search.

        Raises:
            IndexBundleError: the filter is no condition over the rows' columns.
        """
        require_condition(self._state.no_rows(), filter, self.filter_seconds)

    def ids(self, filter: str | None = None) -> NDArray[np.int64]:
        """The ids of all rows, or of the rows that match a filter, ascending."""
        state = self._state
        segments = zip(state.segments, allowed(state, filter, None, self.filter_seconds), strict=True)
        parts = [segment.ids[:] if kept is None else segment.ids[kept] for segment, kept in segments]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def vectors(self, ids: ArrayLike) -> Floats:
        """The stored vectors of the rows with these ids, (len(ids), dim); of unit length for cosine.

        Raises:
            KeyError: an id that is not in the index.
            ValueError: ids that are no whole numbers.
        """
        wanted = whole_numbers(ids)
        found = np.empty((len(wanted), self.bundle.dim), np.float32)
        known = np.zeros(len(wanted), bool)
        for segment in self._state.segments:
            here, numbers = segment.locate(wanted)
            found[here] = segment.vectors.take(segment.order.places(numbers))
            known[here] = True
        if not known.all():
            raise KeyError(f"no id {wanted[~known][0]} in the index")
        return found

    def add(
        self,
        store: Store | str | Path,
        *,
        again: bool = False,
        threads: int = 0,
        gpu: bool = False,
        progress: Progress = silent,
    ) -> None:
        """Adds a store's rows as a new segment, tuned to the index's target.

        Args:
            store: a store or its directory; the index does not need it afterwards.
            again: add rows that were added before once more.
            threads: 0 for one a core.
            gpu: train inverted lists on a GPU; this was never run on one.
            progress: see `build`.

        Raises:
            StoreMismatch: the store has another encoder, row type or dtype than the index.
            IndexLocked: another process is changing the index.
            IndexBundleError: there is no row, or the store was added before.
        """
        opened = store if isinstance(store, Store) else Store.open(store)
        with self._change() as bundle:
            self._commit(changes.with_stores(self.path, bundle, [opened], Work(threads, gpu, progress), again=again))

    def remove(self, ids: ArrayLike) -> int:
        """Removes rows by id; returns how many of them the index held. `compact` frees their space.

        Raises:
            ValueError: ids that are no whole numbers.
            IndexLocked: another process is changing the index.
        """
        wanted = whole_numbers(ids)
        return self._remove(lambda: np.intersect1d(wanted, self.ids()))

    def remove_where(self, filter: str) -> int:
        """Removes the rows for which an SQL condition holds; returns how many. See `search` for the condition.

        Raises:
            IndexBundleError: the filter is no condition over the rows' columns, or takes longer than it may.
            IndexLocked: another process is changing the index.
        """
        return self._remove(lambda: self.ids(filter))

    def _remove(self, find: Callable[[], NDArray[np.int64]]) -> int:
        with self._change() as bundle:
            wanted = find()
            if len(wanted):
                gone = np.union1d(bundle.removed_ids(self.path), wanted)
                self._commit(bundle.with_removed(self.path, gone))
        return len(wanted)

    def compact(self, *, threads: int = 0, progress: Progress = silent) -> bool:
        """Merges all segments into one, without the removed rows; ids do not change. False if there was no need.

        Raises:
            IndexLocked: another process is changing the index.
        """
        with self._change() as bundle:
            state = self._state
            if len(state.segments) < 2 and not bundle.removed:
                return False
            parts = list(zip(state.segments, state.kept, strict=True))
            self._commit(changes.compacted(self.path, bundle, parts, Work(threads, progress=progress)))
        return True

    def verify(self) -> list[str]:
        """Reads every byte again and runs searches with known answers; returns a line for each problem."""
        while True:
            state = self._state
            found = problems(self.path, state)
            if not found or Bundle.read(self.path) == state.bundle:
                return found
            self.refresh()  # another process has changed the index: check the new state

    def _prepared(self, queries: ArrayLike, k: int) -> Floats:
        bundle = self._state.bundle
        wanted = np.atleast_2d(np.asarray(queries, dtype=np.float32))
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        if wanted.ndim != 2 or wanted.shape[1] != bundle.dim or not np.isfinite(wanted).all():
            raise ValueError(f"queries must be finite and (q, {bundle.dim}), not {wanted.shape}")
        return prepared(wanted, bundle.metric)

    @contextlib.contextmanager
    def _change(self) -> Iterator[Bundle]:
        """Holds the writer's lock over the newest state; removes what a killed writer left behind."""
        with changing_alone(self.path):
            self.refresh()
            clear_strays(self.path, self._state.bundle)
            try:
                yield self._state.bundle
            except BaseException:  # remove the files of a change that failed
                with contextlib.suppress(IndexBundleError, OSError):
                    clear_strays(self.path, Bundle.read(self.path))
                raise

    def _commit(self, bundle: Bundle) -> None:
        replace(bundle, generation=bundle.generation + 1).write(self.path)
        self.refresh()
        clear_strays(self.path, self._state.bundle)
