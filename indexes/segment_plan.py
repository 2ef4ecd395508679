"""What a segment is to be: as it was asked for, flat where there are few rows, or the kind that measures fastest."""

import logging
import math
import time
from dataclasses import dataclass

import numpy as np

from nuner_embed.arguments import Progress, silent
from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes.base import AUTO, DEFAULT, Backend, backend_of
from nuner_embed.indexes.bundle import Recall, Trial
from nuner_embed.indexes.recall import hold_out, tune
from nuner_embed.indexes.vectors import Metric, Order, Vectors

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
# Why a segment is of the kind that its index was built with.
ASKED_FOR = "asked for"


@dataclass(frozen=True, slots=True)
class Work:
    """How a segment is built, whatever is built.

    Attributes:
        threads: 0 for one a core.
        gpu: train inverted lists on a GPU.
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
    """The kind for some rows, why it is that kind, and what was measured.

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
        raise IndexBundleError(f"{rows:,} rows take {flat_bytes / 1e6:,.1f} MB, and of so few no kind takes less")
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
    """Recall, seconds to build and bytes of a kind over a sample."""
    chosen = np.random.default_rng(0).choice(len(vectors), size, replace=False)  # unordered: the last are held out
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
