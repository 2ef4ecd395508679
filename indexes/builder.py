"""Building a segment: its vectors, its rows and its backend, tuned to a recall."""

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import Progress
from nuner_embed.arrays import write_array
from nuner_embed.errors import IndexBundleError
from nuner_embed.files import naming, sha256_of, sync, sync_folder
from nuner_embed.indexes.base import AUTO, Backend, SearchParameters, Untrainable, backend_of
from nuner_embed.indexes.bundle import IDS_FILE, LATE_FILE, VECTORS_FILE, FileFacts, Recall, SegmentEntry
from nuner_embed.indexes.recall import hold_out, tune
from nuner_embed.indexes.segment_plan import Plan, choose
from nuner_embed.indexes.segment_rows import documents_file, rows_file
from nuner_embed.indexes.vectors import Ints, Order, Vectors, write_vectors

Chunk = TypeVar("Chunk", bound=Sized)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are to be part of a segment.

    Attributes:
        size: the number of rows.
        vectors: of the rows, (size, dim) in all, prepared for the metric.
        rows: the Parquet file of what the rows are.
        documents: the Parquet file of the documents that the rows stand in.
    """

    size: int
    vectors: Iterable[NDArray[np.floating[Any]]]
    rows: Path
    documents: Path


def write_segment(folder: Path, parts: Sequence[Part], ids: Ints, dim: int, dtype: str, plan: Plan) -> SegmentEntry:
    """Builds a segment in a new folder; the Parquet files are hard-linked into it, or copied.

    Args:
        folder: is made.
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
    """Writes all files of a segment but the backend's own."""
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
    """Brings the files of a segment to the disk, and describes them."""
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
        backend.search(vectors.take(np.zeros(1, np.int64)), 1, parameters)  # what is built can be searched
    except RuntimeError as error:  # the backend's own
        reason = str(error).strip().splitlines()[-1]
        title = backend_of(plan.kind).title
        raise ValueError(f"{title} cannot build {backend.spec} over these rows: {reason}; use another --kind") from None
    return backend, parameters, recall


def _told(progress: Progress, what: str, chunks: Iterable[Chunk], total: int) -> Iterator[Chunk]:
    """The chunks as they come; each is reported once the caller asks for the next."""
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        progress(what, done, total)


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
