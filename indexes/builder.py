"""Building a segment: its kind, its vectors, its rows and its backend, tuned to a recall."""

import contextlib
import errno
import logging
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import Progress, silent
from nuner_embed.arrays import write_array
from nuner_embed.errors import IndexBundleError
from nuner_embed.files import naming, sha256_of, sync, sync_folder
from nuner_embed.indexes.base import AUTO, DEFAULT, Backend, SearchParameters, Untrainable, backend_of
from nuner_embed.indexes.bundle import (
    IDS_FILE,
    LATE_FILE,
    VECTORS_FILE,
    FileFacts,
    Recall,
    SegmentEntry,
    Trial,
    documents_file,
    rows_file,
)
from nuner_embed.indexes.recall import hold_out, tune
from nuner_embed.indexes.vectors import Ints, Metric, Order, Vectors, write_vectors

_LOG = logging.getLogger(__name__)
# Below so many rows an index is flat unless another kind is asked for: a search of all rows misses none, and there is
# nothing to measure first.
FLAT_BELOW = 200_000
# Below so many rows auto does not measure: a search of all rows takes less time than any structure saves.
SMALL = 5_000
# Below so many rows the kinds that have a name are flat: there are too few rows for a structure.
_UNSTRUCTURED = 1_000
# Rows over which auto builds each kind; a second, smaller sample tells how the time of a search grows.
_SAMPLE = 100_000
_SMALLER = 25_000
# The reason in the manifest where the kind was given.
ASKED_FOR = "asked for"


@dataclass(frozen=True, slots=True)
class Work:
    """How a segment is built, whatever its kind.

    Attributes:
        threads: 0 for one a core.
        gpu: train inverted lists on a GPU; this was never run on one.
        progress: see `nuner_embed.arguments.Progress`.
    """

    threads: int = 0
    gpu: bool = False
    progress: Progress = silent


@dataclass(frozen=True, slots=True)
class Plan:
    """What a segment is to be.

    Attributes:
        kind: "auto", one of `base.KINDS`, another string that the default backend takes, or None; see `choose`.
        metric: of the search.
        target_recall: at 10, a fraction of 1.
        max_memory: bytes that the segment may hold in memory; None for any number.
        work: how it is built.
        or_flat: where there are too few rows to train the kind on, look at every row instead of raising an error.
    """

    kind: str | None
    metric: Metric
    target_recall: float
    max_memory: int | None = None
    work: Work = Work()
    or_flat: bool = False

    @property
    def backend(self) -> type[Backend]:
        """The class that builds it."""
        return backend_of(self.kind).load()


def choose(plan: Plan, vectors: Vectors) -> tuple[str, str, tuple[Trial, ...]]:
    """Chooses the kind for some rows; returns the kind, the reason, and what was measured.

    Of the plan's kinds, "auto" is measured from `SMALL` rows on, and None is flat below `FLAT_BELOW` rows and "auto"
    from there on. Any other is taken as it is, unless it has a name and there are too few rows for it.

    Raises:
        IndexBundleError: no kind fits into the memory that the plan allows.
    """
    rows, kind, max_memory = len(vectors), plan.kind, plan.max_memory
    if kind is not None and kind != AUTO:
        if kind in (backend := backend_of(kind)).kinds and kind != backend.exhaustive_kind and rows < _UNSTRUCTURED:
            return backend.exhaustive_kind, f"so few rows are looked at one by one, though {kind} was asked for", ()
        return kind, ASKED_FOR, ()
    flat_bytes = rows * vectors.dim * 4
    few = FLAT_BELOW if kind is None else SMALL
    if rows < few and (max_memory is None or flat_bytes <= max_memory):
        measure = "; --kind auto measures other kinds" if kind is None and rows >= SMALL else ""
        return DEFAULT.exhaustive_kind, f"fewer than {few:,} rows are looked at one by one{measure}", ()
    if not len(hold_out(rows)):
        raise IndexBundleError(f"{rows:,} rows take {flat_bytes / 1e6:,.1f} MB, and no kind takes less for so few rows")
    trials = tuple(_trial(kind, plan, vectors) for kind in DEFAULT.kinds)
    fitting = [trial for trial in trials if trial.fits]
    if fitting:
        chosen = max(fitting, key=lambda trial: trial.expected_queries_per_second)
        why = f"the fastest expected of those that reach {plan.target_recall:g} and fit into memory"
        return chosen.kind, why, trials
    within = [trial for trial in trials if max_memory is None or trial.expected_bytes <= max_memory]
    if not within:
        least = min(trials, key=lambda trial: trial.expected_bytes)
        raise IndexBundleError(
            f"no kind fits into {(max_memory or 0) / 1e6:,.1f} MB: {least.kind}, the smallest, takes about "
            f"{least.expected_bytes / 1e6:,.1f} MB for {rows:,} rows"
        )
    chosen = max(within, key=lambda trial: trial.recall)
    return chosen.kind, f"none that fits into memory reaches {plan.target_recall:g}; this one comes nearest", trials


def _trial(kind: str, plan: Plan, vectors: Vectors) -> Trial:
    rows = len(vectors)
    size = min(rows, _SAMPLE)
    found, seconds, size_bytes = _measure(kind, plan, vectors, size)
    expected = rate = found.queries_per_second or 0.0
    if size < rows:
        smaller = _measure(kind, plan, vectors, _SMALLER)[0].queries_per_second or rate
        growth = min(1.0, max(0.0, math.log(smaller / rate) / math.log(size / _SMALLER)))
        expected = rate / (rows / size) ** (1.0 if kind == DEFAULT.exhaustive_kind else growth)
    memory = round(size_bytes * rows / size)
    fits = bool(found.reached) and (plan.max_memory is None or memory <= plan.max_memory)
    return Trial(kind, size, found.recall or 0.0, rate, seconds, expected, memory, fits)


def _measure(kind: str, plan: Plan, vectors: Vectors, size: int) -> tuple[Recall, float, int]:
    """The recall of a kind over a sample, the seconds it took to build, and its bytes in memory."""
    # in random order, since the last rows are held out
    chosen = np.random.default_rng(0).choice(len(vectors), size, replace=False)
    sample = Vectors(vectors.matrix[chosen], plan.metric)
    order = Order(size, np.arange(size - len(hold_out(size)), size))
    began = time.perf_counter()
    backend = plan.backend
    spec = backend.spec_of(kind, order.early, vectors.dim)
    _LOG.info("measuring %s over %s rows", spec, f"{size:,}")
    built = backend.new(spec, sample)
    built.train(order.early)
    for chunk in sample.chunks(0, order.early):
        built.add(chunk)
    seconds = time.perf_counter() - began
    _, found = tune(built, order, plan.target_recall)
    return found, seconds, built.bytes_resident


Chunk = TypeVar("Chunk", bound=Sized)


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the rows of a segment that is being built.

    Attributes:
        size: the number of rows.
        vectors: of the rows, in chunks, (size, dim) in all, prepared for the metric.
        rows: the Parquet file with the columns of the rows.
        documents: the Parquet file with the documents of the rows.
    """

    size: int
    vectors: Iterable[NDArray[np.floating[Any]]]
    rows: Path
    documents: Path


def write_segment(folder: Path, parts: Sequence[Part], ids: Ints, dim: int, dtype: str, plan: Plan) -> SegmentEntry:
    """Builds a segment in a new folder; the Parquet files are hard-linked into it, or copied.

    Args:
        folder: of the segment; it is created.
        parts: of the segment, in order.
        ids: of all rows, ascending, (rows,).
        dim: the width of the vectors.
        dtype: of the vectors on disk, "float16" or "float32".
        plan: what the segment is to be.

    Raises:
        ValueError: the backend does not know the kind, cannot train it on so few rows, or cannot build it after all.
        IndexBundleError: it would take more memory than it may, or there is no GPU where one was asked for.
    """
    class_ = plan.backend
    kind = backend_of(plan.kind).exhaustive_kind if plan.kind in (None, AUTO) else plan.kind
    class_.require_buildable(class_.spec_of(kind, len(ids), dim), dim, plan.metric, gpu=plan.work.gpu)
    vectors, order = _write_rows(folder, parts, ids, dim, dtype, plan)
    with class_.threads(plan.work.threads):
        kind, why, trials = choose(plan, vectors)
        spec = class_.spec_of(kind, order.early, dim)
        try:
            backend, parameters, recall = _build(class_.new(spec, vectors), order, plan)
        except Untrainable:
            if not plan.or_flat:
                raise
            why = f"so few rows are looked at one by one: they cannot train {spec}"
            kind = backend_of(plan.kind).exhaustive_kind
            backend = class_.new(class_.spec_of(kind, order.early, dim), vectors)
            backend, parameters, recall = _build(backend, order, replace(plan, work=replace(plan.work, gpu=False)))
    file = backend_of(kind).file
    backend.save(folder / file if file else None)
    if plan.max_memory is not None and backend.bytes_resident > plan.max_memory:
        raise IndexBundleError(
            f"{backend.spec} over {len(ids):,} rows takes {backend.bytes_resident / 1e6:,.1f} MB of memory, more than "
            f"{plan.max_memory / 1e6:,.1f} MB; --kind ivf_pq takes least"
        )
    return SegmentEntry(
        name=folder.name,
        rows=len(ids),
        parts=len(parts),
        kind=kind,
        factory=backend.spec,
        why=why,
        trials=trials,
        parameters=parameters,
        recall=recall,
        bytes_resident=backend.bytes_resident,
        files=_synced(folder),
    )


def _write_rows(
    folder: Path, parts: Sequence[Part], ids: Ints, dim: int, dtype: str, plan: Plan
) -> tuple[Vectors, Order]:
    """Writes all files of a segment except the file of the backend."""
    folder.mkdir(parents=True)
    order = Order(len(ids), hold_out(len(ids)))
    for number, part in enumerate(parts):
        _link(part.rows, folder / rows_file(number))
        _link(part.documents, folder / documents_file(number))
    chunks = (chunk for part in parts for chunk in part.vectors)
    told = _told(plan.work.progress, "writing vectors", chunks, len(ids))
    write_vectors(folder / VECTORS_FILE, told, order, dim, dtype)
    for name, numbers in ((IDS_FILE, ids), (LATE_FILE, order.late)):
        with naming(folder / name), (folder / name).open("wb") as stream:
            write_array(stream, numbers)
    return Vectors.open(folder / VECTORS_FILE, plan.metric), order


def _synced(folder: Path) -> dict[str, FileFacts]:
    """Syncs the files of a segment to the disk; returns their facts by name."""
    files = {}
    for path in sorted(folder.iterdir()):
        with naming(path), path.open("rb") as stream:
            sync(stream)
        files[path.name] = FileFacts(sha256_of(path), path.stat().st_size)
    sync_folder(folder)
    return files


def _build(backend: Backend, order: Order, plan: Plan) -> tuple[Backend, SearchParameters, Recall]:
    """Fills an empty backend with all rows; returns it with the parameters of a search and their recall."""
    vectors = backend.vectors
    _LOG.info("building %s over %s rows", backend.spec, f"{order.size:,}")
    try:
        backend.train(order.early, gpu=plan.work.gpu)
        for chunk in _told(plan.work.progress, "adding rows", vectors.chunks(0, order.early), order.size):
            backend.add(chunk)
        if len(order.late) and not backend.is_exhaustive:
            _LOG.info("measuring recall with %s rows that are not in it", f"{len(order.late):,}")
        parameters, recall = tune(backend, order, plan.target_recall)
        for chunk in vectors.chunks(order.early, order.size):
            backend.add(chunk)
        # fails here if the structure cannot be searched
        backend.search(vectors.take(np.zeros(1, np.int64)), 1, parameters)
    except RuntimeError as error:  # the backend's own
        reason = str(error).strip().splitlines()[-1]
        title = backend_of(plan.kind).title
        raise ValueError(f"{title} cannot build {backend.spec} over these rows: {reason}; use another --kind") from None
    return backend, parameters, recall


def _told(progress: Progress, what: str, chunks: Iterable[Chunk], total: int) -> Iterator[Chunk]:
    """Yields the chunks; each is reported to `progress` when the caller asks for the next one."""
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        progress(what, done, total)


def _link(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):  # another file system, or one without hard links
        if not source.is_symlink():
            os.link(source, target)
            return
    try:
        shutil.copyfile(source, target)
    except OSError as error:  # Python names the source, even if the target has no room
        raise OSError(error.errno, error.strerror, os.fspath(target if _cannot_grow(error) else source)) from None


def _cannot_grow(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
