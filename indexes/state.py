"""An index at one moment."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes.bundle import SEGMENTS_FOLDER, Bundle
from nuner_embed.indexes.filtering import mark
from nuner_embed.indexes.segment import Segment

Marks = NDArray[np.bool_]
_FILTERS = 8  # that are remembered, at a byte a row each


@dataclass(frozen=True, slots=True)
class State:
    """The index at one moment; searches never see half of a change.

    Attributes:
        bundle: what the manifest said.
        segments: opened, oldest first.
        kept: the rows of each that were not removed; None for all.
        filtered: what the last few filters let through of each segment, since people ask for the same again.
    """

    bundle: Bundle
    segments: tuple[Segment, ...]
    kept: tuple[Marks | None, ...]
    filtered: dict[str, tuple[Marks, ...]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many may be found."""
        return sum(len(segment.ids) for segment in self.segments) - self.bundle.removed


def load(directory: Path) -> State:
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
        kept: list[Marks | None] = []
        for segment in segments:
            _, gone = segment.locate(removed)
            marks = np.ones(len(segment.ids), bool)
            marks[gone] = False
            kept.append(marks if len(gone) else None)
        return State(bundle, segments, tuple(kept))


def allowed(state: State, condition: str | None, among: ArrayLike | None) -> Iterator[Marks | None]:
    """The rows of each segment that may be found; None for all."""
    named = None if among is None else np.unique(np.asarray(among, dtype=np.int64))
    matching = None if condition is None else _filtered(state, condition)
    for number, (segment, kept) in enumerate(zip(state.segments, state.kept, strict=True)):
        marks = kept
        if matching is not None:
            marks = matching[number] if marks is None else marks & matching[number]
        if named is not None:
            listed = np.zeros(len(segment.ids), bool)
            listed[segment.locate(named)[1]] = True
            marks = listed if marks is None else marks & listed
        yield marks


def _filtered(state: State, condition: str) -> tuple[Marks, ...]:
    found = state.filtered.get(condition)
    if found is None:
        found = tuple(mark(segment.rows, condition) for segment in state.segments)
        if len(state.filtered) >= _FILTERS:
            state.filtered.clear()
        state.filtered[condition] = found
    return found
