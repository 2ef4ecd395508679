"""Whether an index is what was written, and finds what it was measured to find."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nuner_embed.errors import IndexBundleError
from nuner_embed.files import sha256_of
from nuner_embed.indexes.bundle import Bundle
from nuner_embed.indexes.recall import AT, recall_of
from nuner_embed.indexes.segment import Segment

_PROBES = 200


def problems(directory: Path, bundle: Bundle, segments: Sequence[Segment]) -> list[str]:
    """What is wrong with an opened index, a line each."""
    found = [line for segment in segments for line in _changed(segment)]
    try:
        removed = bundle.removed_ids(directory)
    except IndexBundleError as error:
        return [*found, str(error)]
    if found:
        return found
    ids = np.concatenate([np.empty(0, np.int64), *(segment.ids for segment in segments)])
    if (np.diff(ids) <= 0).any() or (len(ids) and ids[-1] >= bundle.next_id):
        found.append("ids do not rise from segment to segment, or exceed the last that was given")
    if not np.isin(removed, ids).all():
        found.append(f"{bundle.tombstones} names rows that are in no segment")
    return [*found, *(line for segment in segments for line in _lost(segment))]


def _changed(segment: Segment) -> Iterator[str]:
    """Reads every byte again."""
    for name, facts in segment.entry.files.items():
        try:
            same = sha256_of(segment.folder / name) == facts.sha256
        except OSError as error:
            yield f"{segment.folder.name}/{name} cannot be read ({error.strerror})"
            continue
        if not same:
            yield f"{segment.folder.name}/{name} is not what was written (sha256 differs)"


def _lost(segment: Segment) -> Iterator[str]:
    """Looks for rows that are in the index, as their own queries; those are found at least as well as others."""
    count = min(_PROBES, len(segment.ids))
    places = np.random.default_rng(1).choice(len(segment.ids), count, replace=False)
    queries = segment.vectors.take(places)
    k = min(AT, len(segment.ids))
    truth = segment.vectors.neighbours(queries, k)[0][:, -1]
    recall = recall_of(segment.searcher.search(queries, k, segment.entry.how)[0], truth)
    mean, error = float(recall.mean()), float(recall.std()) / count**0.5
    low = segment.entry.recall.low
    if low is not None and mean + 3 * error < low:
        yield f"{segment.folder.name} finds {mean:.3f} of the nearest rows; {low:.3f} were measured when it was built"
