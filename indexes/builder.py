"""Making a segment."""

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from nuner_embed.arrays import write_array
from nuner_embed.errors import IndexBundleError
from nuner_embed.files import naming, sha256_of, sync, sync_folder
from nuner_embed.indexes.entries import FAISS_FILE, IDS_FILE, LATE_FILE, VECTORS_FILE, FileFacts, Recall, SegmentEntry
from nuner_embed.indexes.faiss_file import write_faiss
from nuner_embed.indexes.kind_choice import choose
from nuner_embed.indexes.kinds import SearchParameters, factory_of, finds_all, make
from nuner_embed.indexes.order import Ints, Order
from nuner_embed.indexes.quantizer import Untrainable, require_gpu, train
from nuner_embed.indexes.recall import hold_out, tune
from nuner_embed.indexes.segment import Searcher
from nuner_embed.indexes.segment_rows import documents_file, rows_file
from nuner_embed.indexes.vectors import Metric, Vectors, faiss_metric, write_vectors

Chunk = TypeVar("Chunk", bound=Sized)
_LOG = logging.getLogger(__name__)


# told of what is done, how many rows of it, and of how many
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """No progress."""


@dataclass(frozen=True, slots=True)
class Work:
    """How the building is done, whatever is built.

    Attributes:
        threads: 0 for FAISS's own choice, one a core.
        gpu: train inverted lists on a GPU.
        progress: is told how it goes.
    """

    threads: int = 0
    gpu: bool = False
    progress: Progress = silent


@dataclass(frozen=True, slots=True)
class Plan:
    """What a segment is to be.

    Attributes:
        kind: "auto", one of `kinds.KINDS`, a FAISS factory string, or None; see `choosing.choose`.
        metric: of the search.
        target_recall: at 10, a fraction of 1.
        max_memory: bytes that FAISS may hold in memory for it; None for any.
        work: how the building is done.
        or_flat: where FAISS cannot train the kind on so few rows, the segment is flat, instead of an error.
    """

    kind: str | None
    metric: Metric
    target_recall: float
    max_memory: int | None = None
    work: Work = Work()
    or_flat: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are to be part of a segment.

    Attributes:
        size: how many.
        vectors: theirs, (size, dim), prepared for the metric.
        rows: Parquet file of what they are.
        documents: Parquet file of the documents that they stand in.
    """

    size: int
    vectors: Iterable[NDArray[np.floating[Any]]]
    rows: Path
    documents: Path


def write_segment(folder: Path, parts: Sequence[Part], ids: Ints, dim: int, dtype: str, plan: Plan) -> SegmentEntry:
    """Builds a segment in a new folder; the Parquet files are hard-linked into it, or copied.

    Args:
        folder: is made.
        parts: what goes into it, in order.
        ids: of all rows, rising, (rows,).
        dim: width of the vectors.
        dtype: of the vectors on disk, "float16" or "float32".
        plan: how.

    Raises:
        ValueError: FAISS does not know the factory string, cannot train on so few rows, or cannot build it after all.
        IndexBundleError: it would take more memory than it may, or there is no GPU where one was asked for.
    """
    if plan.work.gpu:
        require_gpu()
    if plan.kind is not None and plan.kind != "auto":
        make(factory_of(plan.kind, len(ids), dim), dim, faiss_metric(plan.metric))  # a typo is seen at once
    folder.mkdir(parents=True)
    order = Order(len(ids), hold_out(len(ids)))
    for number, part in enumerate(parts):
        _link(part.rows, folder / rows_file(number))
        _link(part.documents, folder / documents_file(number))
    vectors = _told(
        plan.work.progress, "writing vectors", (chunk for part in parts for chunk in part.vectors), len(ids)
    )
    write_vectors(folder / VECTORS_FILE, vectors, order, dim, dtype)
    for name, numbers in ((IDS_FILE, ids), (LATE_FILE, order.late)):
        with naming(folder / name), (folder / name).open("wb") as stream:
            write_array(stream, numbers)
    matrix = Vectors.open(folder / VECTORS_FILE, plan.metric)
    with threads(plan.work.threads):
        kind, why, trials = choose(plan.kind, matrix, len(ids), plan.metric, plan.target_recall, plan.max_memory)
        factory = factory_of(kind, order.early, dim)
        try:
            index, how, recall = _build(factory, matrix, order, plan)
        except Untrainable:
            if not plan.or_flat:
                raise
            kind, factory, why = "flat", "Flat", f"so few rows are looked at one by one: they cannot train {factory}"
            index, how, recall = _build(factory, matrix, order, replace(plan, work=replace(plan.work, gpu=False)))
    write_faiss(index, folder / FAISS_FILE)
    resident = (folder / FAISS_FILE).stat().st_size
    if plan.max_memory is not None and resident > plan.max_memory:
        raise IndexBundleError(
            f"{factory} over {len(ids):,} rows takes {resident / 1e6:,.1f} MB of memory, more than "
            f"{plan.max_memory / 1e6:,.1f} MB; --kind ivf_pq takes least"
        )
    files = {}
    for path in sorted(folder.iterdir()):
        with naming(path), path.open("rb") as stream:
            sync(stream)
        files[path.name] = FileFacts(sha256_of(path), path.stat().st_size)
    sync_folder(folder)
    return SegmentEntry(
        name=folder.name,
        rows=len(ids),
        parts=len(parts),
        kind=kind,
        factory=factory,
        why=why,
        trials=trials,
        how=how,
        recall=recall,
        bytes_resident=resident,
        files=files,
    )


def _build(factory: str, matrix: Vectors, order: Order, plan: Plan) -> tuple[Any, SearchParameters, Recall]:
    """A FAISS index over all rows, how hard a search of it tries, and how well that finds."""
    index = make(factory, matrix.dim, faiss_metric(plan.metric))
    _LOG.info("building %s over %s rows", factory, f"{order.size:,}")
    try:
        train(index, matrix, order.early, gpu=plan.work.gpu)
        for chunk in _told(plan.work.progress, "adding rows", matrix.chunks(0, order.early), order.size):
            index.add(chunk)
        if len(order.late) and not finds_all(index):
            _LOG.info("measuring recall with %s rows that are not in it", f"{len(order.late):,}")
        how, recall = tune(Searcher(index, matrix), order, plan.target_recall)
        for chunk in matrix.chunks(order.early, order.size):
            index.add(chunk)
        Searcher(index, matrix).search(matrix.take(np.zeros(1, np.int64)), 1, how)  # never built and then unsearchable
    except RuntimeError as error:  # FAISS's own
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"FAISS cannot build {factory} over these rows: {reason}; use another --kind") from None
    return index, how, recall


def _told(progress: Progress, what: str, chunks: Iterable[Chunk], total: int) -> Iterator[Chunk]:
    """Chunks as they come, each told of once it has been dealt with."""
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        progress(what, done, total)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """FAISS with so many threads; 0 leaves it as it is."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count or before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _link(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):  # another file system, or one without links
        if not source.is_symlink():
            os.link(source, target)
            return
    try:
        shutil.copyfile(source, target)
    except OSError as error:  # Python names the source, also where the target does not fit
        raise OSError(error.errno, error.strerror, os.fspath(target if _cannot_grow(error) else source)) from None


def _cannot_grow(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
