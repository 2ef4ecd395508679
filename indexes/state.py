"""An index at one moment."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from nuner_embed.errors import IndexBundleError
from nuner_embed.files import sha256_of
from nuner_embed.indexes.bundle import SEGMENTS_FOLDER, Bundle
from nuner_embed.indexes.exact import nearest
from nuner_embed.indexes.filter import mark
from nuner_embed.indexes.recall import AT, recall_of
from nuner_embed.indexes.segment import Segment
from nuner_embed.store.shard import row_schema

Marks = NDArray[np.bool_]
_LARGEST = 2**63 - 1
_FILTERS = 8  # remembered filters; each takes a byte a row
_CHECKED = 200  # rows for which a verification searches


@dataclass(frozen=True, slots=True)
class State:
    """The index at one moment: a search sees one state, never half of a change.

    Attributes:
        bundle: the manifest.
        segments: opened, oldest first.
        kept: marks the rows of each segment that were not removed; None for all.
        filtered: the marks of the last few filters in each segment, kept because the same filters are often used again.
    """

    bundle: Bundle
    segments: tuple[Segment, ...]
    kept: tuple[Marks | None, ...]
    filtered: dict[str, tuple[Marks, ...]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The number of rows that may be found."""
        return self.bundle.rows

    @property
    def columns(self) -> list[str]:
        """Names of the rows' columns, also for an empty index."""
        return self.segments[0].rows.columns if self.segments else row_schema(self.bundle.granularity).names

    def no_rows(self, columns: Sequence[str] | None = None, *, texts: bool = False) -> pa.Table:
        """An empty table with the columns of `Segment.table`."""
        if self.segments:
            return self.segments[0].table(np.empty(0, np.int64), columns, texts=texts)
        table = row_schema(self.bundle.granularity).empty_table()
        table = table if columns is None else table.select(list(columns))
        return table.append_column("document_text", pa.array([], pa.string())) if texts else table


def load(directory: Path) -> State:
    """The newest state; reads again if a writer replaced the state in the meantime."""
    while True:
        bundle = Bundle.read(directory)
        try:
            segments = tuple(
                Segment(directory / SEGMENTS_FOLDER / entry.name, entry, bundle) for entry in bundle.segments
            )
            removed = bundle.removed_ids(directory)
        except IndexBundleError:
            if Bundle.read(directory) == bundle:
                raise
            continue
        kept: list[Marks | None] = []
        known = 0
        for segment in segments:
            _, gone = segment.locate(removed)
            marks = np.ones(len(segment.ids), bool)
            marks[gone] = False
            kept.append(marks if len(gone) else None)
            known += len(gone)
        if known != len(removed):
            raise IndexBundleError(f"{directory / str(bundle.tombstones)} names rows that are in no segment")
        return State(bundle, segments, tuple(kept))


def whole_numbers(ids: ArrayLike) -> NDArray[np.int64]:
    """Ids of rows in one dimension, in the order given.

    Raises:
        ValueError: fractions, strings, booleans, or numbers out of the range of ids; nothing is rounded.
    """
    given = np.asarray(ids).ravel()
    if not given.size:
        return np.empty(0, np.int64)
    if given.dtype.kind not in "iu" or given.max() > _LARGEST:
        raise ValueError(f"ids are whole numbers from 0 to {_LARGEST}, not {given[:1].tolist()[0]!r} ({given.dtype})")
    return given.astype(np.int64)


def allowed(state: State, condition: str | None, among: ArrayLike | None, seconds: float) -> Iterator[Marks | None]:
    """Marks the rows of each segment that may be found; None for all."""
    named = None if among is None else np.unique(whole_numbers(among))
    matching = None if condition is None else _filtered(state, condition, seconds)
    for number, (segment, kept) in enumerate(zip(state.segments, state.kept, strict=True)):
        marks = kept
        if matching is not None:
            marks = matching[number] if marks is None else marks & matching[number]
        if named is not None:
            listed = np.zeros(len(segment.ids), bool)
            listed[segment.locate(named)[1]] = True
            marks = listed if marks is None else marks & listed
        yield marks


def _filtered(state: State, condition: str, seconds: float) -> tuple[Marks, ...]:
    found = state.filtered.get(condition)
    if found is None:
        until = time.monotonic() + seconds
        found = tuple(mark(segment.rows, condition, seconds, until) for segment in state.segments)
        if len(state.filtered) >= _FILTERS:
            state.filtered.clear()
        state.filtered[condition] = found
    return found


def problems(directory: Path, state: State) -> list[str]:
    """A line for each problem of an open index: files that have changed, and rows that searches no longer find."""
    bundle, segments = state.bundle, state.segments
    found = [line for segment in segments for line in _changed(segment)]
    try:
        removed = bundle.removed_ids(directory)
    except IndexBundleError as error:
        return [*found, str(error)]
    if found:
        return found
    ids = np.concatenate([np.empty(0, np.int64), *(segment.ids for segment in segments)])
    if (np.diff(ids) <= 0).any() or (len(ids) and ids[-1] >= bundle.next_id):
        found.append("ids do not increase from segment to segment, or exceed the last id that was assigned")
    if not np.isin(removed, ids).all():
        found.append(f"{bundle.tombstones} names rows that are in no segment")
    return [*found, *(line for segment in segments for line in _lost(segment))]


def _changed(segment: Segment) -> Iterator[str]:
    """Reads every file again; yields a line for each that has changed."""
    for name, facts in segment.entry.files.items():
        try:
            same = sha256_of(segment.folder / name) == facts.sha256
        except OSError as error:
            yield f"{segment.folder.name}/{name} cannot be read ({error.strerror})"
            continue
        if not same:
            yield f"{segment.folder.name}/{name} is not what was written (sha256 differs)"


def _lost(segment: Segment) -> Iterator[str]:
    """Searches for some rows by their own vectors, which are found at least as well as other queries."""
    count = min(_CHECKED, len(segment.ids))
    places = np.random.default_rng(1).choice(len(segment.ids), count, replace=False)
    queries = segment.vectors.take(places)
    k = min(AT, len(segment.ids))
    truth = nearest(segment.vectors, queries, k)[0][:, -1]
    recall = recall_of(segment.backend.search(queries, k, segment.entry.parameters)[0], truth)
    mean, error = float(recall.mean()), float(recall.std()) / count**0.5
    low = segment.entry.recall.low
    if low is not None and mean + 3 * error < low:
        yield f"{segment.folder.name} finds {mean:.3f} of the nearest rows; {low:.3f} were measured when it was built"
