"""Which kind an index is of: flat where there are few rows; by `--kind auto` the fastest that fits, as measured."""

import logging
import math
import time
from typing import Any

import faiss
import numpy as np

from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes.entries import Recall, Trial
from nuner_embed.indexes.kinds import FLAT_BELOW, KINDS, SMALL, factory_of, make, too_few_for
from nuner_embed.indexes.order import Order
from nuner_embed.indexes.quantizer import train
from nuner_embed.indexes.recall import hold_out, tune
from nuner_embed.indexes.segment import Searcher
from nuner_embed.indexes.vectors import Metric, Vectors, faiss_metric

# FAISS's type stubs do not know what its Python layer adds.
_FAISS: Any = faiss
_LOG = logging.getLogger(__name__)
_SAMPLE = 100_000
_SMALLER = 25_000
# Why a segment is of the kind that its index was built with.
ASKED_FOR = "asked for"


def choose(
    kind: str | None, matrix: Vectors, rows: int, metric: Metric, target: float, max_memory: int | None
) -> tuple[str, str, tuple[Trial, ...]]:
    """The kind for some rows, why, and what was measured.

    Args:
        kind: "auto" to measure, from `SMALL` rows on; another is taken as it is, but for one with a name where there
            are too few rows for it. None is flat below `FLAT_BELOW` rows and "auto" from there on.
        matrix: the rows' vectors, prepared.
        rows: how many.
        metric: of the search.
        target: recall at 10, a fraction of 1.
        max_memory: bytes that FAISS may hold in memory; None for any.

    Raises:
        IndexBundleError: nothing fits into so little memory.
    """
    if kind is not None and kind != "auto":
        if too_few_for(kind, rows):
            return "flat", f"so few rows are looked at one by one, though {kind} was asked for", ()
        return kind, ASKED_FOR, ()
    flat_bytes = rows * matrix.dim * 4
    few = FLAT_BELOW if kind is None else SMALL
    if rows < few and (max_memory is None or flat_bytes <= max_memory):
        measure = "; --kind auto measures other kinds" if kind is None and rows >= SMALL else ""
        return "flat", f"fewer than {few:,} rows are looked at one by one{measure}", ()
    if not len(hold_out(rows)):
        raise IndexBundleError(f"{rows:,} rows take {flat_bytes / 1e6:,.1f} MB, and of so few no kind takes less")
    trials = tuple(_trial(kind, matrix, rows, metric, target, max_memory) for kind in KINDS)
    fitting = [trial for trial in trials if trial.fits]
    if fitting:
        chosen = max(fitting, key=lambda trial: trial.expected_queries_per_second)
        why = f"the fastest expected of those that reach {target:g} and fit into memory"
        return chosen.kind, why, trials
    within = [trial for trial in trials if max_memory is None or trial.expected_bytes <= max_memory]
    if not within:
        least = min(trials, key=lambda trial: trial.expected_bytes)
        raise IndexBundleError(
            f"no kind fits into {(max_memory or 0) / 1e6:,.1f} MB: {least.kind}, the smallest, takes about "
            f"{least.expected_bytes / 1e6:,.1f} MB for {rows:,} rows"
        )
    chosen = max(within, key=lambda trial: trial.recall)
    return chosen.kind, f"none that fits into memory reaches {target:g}; this one comes nearest", trials


def _trial(kind: str, matrix: Vectors, rows: int, metric: Metric, target: float, max_memory: int | None) -> Trial:
    size = min(rows, _SAMPLE)
    found, seconds, size_bytes = _measure(kind, matrix, rows, size, metric, target)
    expected = rate = found.queries_per_second or 0.0
    if size < rows:
        smaller = _measure(kind, matrix, rows, _SMALLER, metric, target)[0].queries_per_second or rate
        growth = min(1.0, max(0.0, math.log(smaller / rate) / math.log(size / _SMALLER)))
        expected = rate / (rows / size) ** (1.0 if kind == "flat" else growth)
    memory = round(size_bytes * rows / size)
    fits = bool(found.reached) and (max_memory is None or memory <= max_memory)
    return Trial(kind, size, found.recall or 0.0, rate, seconds, expected, memory, fits)


def _measure(
    kind: str, matrix: Vectors, rows: int, size: int, metric: Metric, target: float
) -> tuple[Recall, float, int]:
    """Recall, seconds to build and bytes of a kind over a sample."""
    chosen = np.random.default_rng(0).choice(rows, size, replace=False)  # in no order: those held out are the last
    sample = Vectors(matrix.matrix[chosen], metric)
    order = Order(size, np.arange(size - len(hold_out(size)), size))
    began = time.perf_counter()
    factory = factory_of(kind, order.early, matrix.dim)
    _LOG.info("measuring %s over %s rows", factory, f"{size:,}")
    index = train(make(factory, matrix.dim, faiss_metric(metric)), sample, order.early)
    for chunk in sample.chunks(0, order.early):
        index.add(chunk)
    seconds = time.perf_counter() - began
    _, found = tune(Searcher(index, sample), order, target)
    return found, seconds, len(_FAISS.serialize_index(index))
