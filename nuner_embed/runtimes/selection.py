"""Selection of the fastest runtime on this machine among those that agree with the source.

Every installed runtime that can run an exported model is measured once on each machine, on the model's reference.
"""

import contextlib
import importlib.metadata
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nuner_embed.errors import RuntimeUnavailable
from nuner_embed.files import read_bytes, sha256_of
from nuner_embed.limits import JSON_FILE_BYTES
from nuner_embed.machine import cpu_name
from nuner_embed.models.onnx_export import FUSED_FOLDER, graph_files
from nuner_embed.models.resolver import GraphModel
from nuner_embed.runtimes.base import CUDA_BATCH_TOKENS, Precision, RuntimeName, RuntimeOptions
from nuner_embed.runtimes.measurements import Measurement, announce, read_measurements, write_measurements
from nuner_embed.runtimes.parity import FIRST_BUDGET, GATES, Reference, speeds, tuned_speeds
from nuner_embed.runtimes.registry import entry_of, load_runtime, require_fitting, running

SCHEMA_VERSION = 3
_KIND = "runtimes"
_LOG = logging.getLogger(__name__)
_UNHURRIED = 10  # seconds, after which only the batch budget of the fastest is tuned


@dataclass(frozen=True, slots=True)
class Choice:
    """The choice of a runtime for an exported model.

    Attributes:
        runtime: its name.
        precision: of the arithmetic.
        batch_tokens: most tokens of a batch; None for the runtime's own budget.
        streams: batches to run at a time; 0 for the runtime's own number.
    """

    runtime: RuntimeName
    precision: Precision
    batch_tokens: int | None
    streams: int = 0


def choose(model: GraphModel, runtime: RuntimeName, options: RuntimeOptions, batch_tokens: int | None) -> Choice:
    """Chooses what was left open: the fastest on this machine among the runtimes and precisions that pass their gates.

    All candidates are measured once, for some seconds, on the reference in the exported directory; the figures are kept
    in the user's cache folder. Two are chosen unmeasured: CUDA, if this onnxruntime has it, and any runtime for a graph
    of another program that was never compared with its source, which is logged.

    Raises:
        RuntimeUnavailable: no candidate passes its gate, or the requested runtime is not installed.
        ModelError: the directory has no reference.
    """
    if runtime != "auto":
        require_fitting(model, runtime)
        if options.device not in ("auto", *entry_of(runtime).devices):
            raise RuntimeUnavailable(f"the {runtime} runtime runs on the CPU, not on cuda; use --device cpu")
    on_cuda = _cuda_runtime(runtime, options.device)
    if on_cuda:
        precision = model.export.arithmetic if options.precision == "auto" else options.precision
        return Choice(on_cuda, precision, batch_tokens)
    if runtime != "auto" and options.precision != "auto" and batch_tokens:
        return Choice(runtime, options.precision, batch_tokens, options.streams)
    if model.export.source is None and not model.reference.is_file():
        return _unverified(model, runtime, options, batch_tokens)
    known = remembered(model, options)
    rows = known or measure(model, options)
    fitting = [row for row in rows if runtime in ("auto", row.runtime) and options.precision in ("auto", row.precision)]
    passing = [row for row in fitting if row.passed]
    if not passing:
        if not fitting:
            able = ", ".join(f"{row.runtime} in {row.precision}" for row in rows)
            raise RuntimeUnavailable(f"no runtime here runs {model.name} with these options; there is {able}")
        raise RuntimeUnavailable(
            f"{'; '.join(_failure(row) for row in fitting)}: nothing else fits, so {model.name} is not run; "
            f"nuner-embed verify {model.name} shows all figures"
        )
    best = max(passing, key=lambda row: row.best[1])
    announce(rows, best, known=known is not None)
    return Choice(best.runtime, best.precision, batch_tokens or best.best[0], options.streams or best.streams)


def _unverified(model: GraphModel, runtime: RuntimeName, options: RuntimeOptions, batch_tokens: int | None) -> Choice:
    _LOG.warning(
        "%s was never compared with its source; nuner-embed verify %s --source MODEL compares them",
        model.name,
        model.name,
    )
    here = [name for name, entry in running("graph").items() if entry.installed]
    name = here[0] if runtime == "auto" and here else require_fitting(model, runtime)
    precision = model.export.arithmetic if options.precision == "auto" else options.precision
    return Choice(name, precision, batch_tokens)


def _failure(row: Measurement) -> str:
    if row.agreement is None:
        return f"{row.runtime} does not run: {row.description}"
    return f"{row.runtime} in {row.precision} fails its gate ({GATES[row.precision]}): {row.agreement}"


def measure(model: GraphModel, options: RuntimeOptions, reference: Reference | None = None) -> list[Measurement]:
    """Measures all installed runtimes and precisions that can run an exported model, one after the other.

    All are measured at one batch budget; then the budget is tuned, of the fastest first and of others while time is
    left.

    Args:
        model: an exported directory.
        options: of the runtimes; `precision` is ignored, except for int8 of a graph that is not: then nothing else is
            measured.
        reference: of the source; None for the reference in the directory, for which the figures are kept.

    Raises:
        ModelError: the directory has no reference.
        RuntimeUnavailable: no runtime is installed, or none rounds the graph as asked.
    """
    own = reference is None
    reference = reference or Reference.load(model.reference, model.config.vocabulary)
    candidates = list(_candidates(model, options))
    if not candidates:
        require_fitting(model, "auto")
        raise RuntimeUnavailable(
            f"no runtime here rounds {model.name}, a graph in {model.export.precision}, to {options.precision}; that "
            "takes OpenVINO, a graph in fp32 and a processor with VNNI. nuner-embed export --precision int8 makes a "
            "graph for any processor"
        )
    rows = []
    began = time.monotonic()
    for number, (runtime, chosen) in enumerate(candidates, start=1):
        _LOG.info("measuring %s in %s (%d of %d) ...", runtime, chosen.precision, number, len(candidates))
        try:
            rows.append(_measure(model, runtime, chosen, reference))
        except Exception as error:  # a broken installation may raise anything; the others are measured
            own = False  # it may work the next time
            rows.append(_failed(model, runtime, chosen, error))
    passed = [place for place, row in enumerate(rows) if row.passed]
    for place in sorted(passed, key=lambda place: -rows[place].best[1]):
        name, chosen = candidates[place]
        with contextlib.suppress(Exception):  # as above; then one budget must do
            rows[place] = _tuned(model, name, chosen, rows[place], reference)
        if time.monotonic() - began > _UNHURRIED:
            break
    if own:
        write_measurements(_KIND, _key(model, options), rows)
    return rows


def _candidates(model: GraphModel, options: RuntimeOptions) -> Iterator[tuple[RuntimeName, RuntimeOptions]]:
    for name, entry in running("graph").items():
        if not entry.installed or (options.device == "cuda" and "cuda" not in entry.devices):
            continue
        able: tuple[Precision, ...] = (model.export.arithmetic,)
        with contextlib.suppress(Exception):  # a broken runtime is reported when it is measured
            able = _on_request(entry.load(), model) if _rounded(model, options) else entry.load().precisions(model)
        device = options.device if "cuda" in entry.devices else "cpu"
        for precision in able:
            yield name, replace(options, device=device, precision=precision)


def _rounded(model: GraphModel, options: RuntimeOptions) -> bool:
    """Whether a precision is asked for that loses more than the graph's own."""
    return options.precision == "int8" and model.export.arithmetic != "int8"


def _on_request(runtime: Any, model: GraphModel) -> tuple[Precision, ...]:
    """The precisions that a runtime's class offers besides `precisions`."""
    able: tuple[Precision, ...] = getattr(runtime, "precisions_on_request", lambda model: ())(model)
    return able


def _measure(model: GraphModel, name: RuntimeName, options: RuntimeOptions, reference: Reference) -> Measurement:
    tried = []
    for streams in _stream_counts(name, options):
        runtime = load_runtime(model, model.recipe, name, replace(options, streams=streams))
        budget = CUDA_BATCH_TOKENS if runtime.device == "cuda" else FIRST_BUDGET
        tried.append((runtime, speeds(runtime, reference, (budget,))))
    runtime, paces = max(tried, key=lambda one: max(one[1].values()))
    return Measurement.of(name, runtime, options.precision, reference, paces, _weight(model))


def _tuned(
    model: GraphModel, name: RuntimeName, options: RuntimeOptions, row: Measurement, reference: Reference
) -> Measurement:
    """A measurement with the speeds at more budgets."""
    if CUDA_BATCH_TOKENS in row.tokens_per_second:  # measured on CUDA, where one budget is enough
        return row
    runtime = load_runtime(model, model.recipe, name, replace(options, streams=row.streams))
    return replace(row, tokens_per_second=tuned_speeds(runtime, reference))


def _failed(model: GraphModel, name: RuntimeName, options: RuntimeOptions, error: Exception) -> Measurement:
    reason = " ".join(f"{error}".split()) or type(error).__name__
    return Measurement(name, options.precision, reason, None, 1, {}, False, _weight(model))


def _stream_counts(name: RuntimeName, options: RuntimeOptions) -> tuple[int, ...]:
    """The numbers of streams to measure: those that the runtime leaves open, else 0 for its own number."""
    counts = getattr(entry_of(name).load(), "stream_counts", None)
    return counts(options) if counts else (0,)


def _weight(model: GraphModel) -> int:
    return sum(path.stat().st_size for path in graph_files(model.graph))


def measure_unfused(model: GraphModel, options: RuntimeOptions, reference: Reference) -> Measurement:
    """As `measure`, for the graph without its fused copy in onnxruntime, at one budget."""
    chosen = replace(options, precision=model.export.arithmetic, graph=model.export.graph_sha256, streams=1)
    try:
        return replace(_measure(model, "onnx", chosen, reference), runtime="onnx unfused")
    except Exception as error:  # as in measure
        return replace(_failed(model, "onnx", chosen, error), runtime="onnx unfused")


def _cuda_runtime(runtime: RuntimeName, device: str) -> RuntimeName | None:
    """The runtime for an exported model on CUDA: the requested one, or the first; None to run on the CPU.

    CUDA is used if requested, or if the device is "auto" and the runtime was built with CUDA.
    """
    able = {name: entry for name, entry in running("graph").items() if "cuda" in entry.devices}
    for name, entry in able.items():
        if runtime in ("auto", name) and (
            device == "cuda" or (device == "auto" and entry.installed and entry.load().has_cuda())
        ):
            return name
    return None


def remembered(model: GraphModel, options: RuntimeOptions) -> list[Measurement] | None:
    """Earlier figures for this file with these versions, threads and processor; None if there are none."""
    return read_measurements(_KIND, _key(model, options))


def _key(model: GraphModel, options: RuntimeOptions) -> dict[str, Any]:
    key: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "graph": model.export.graph_sha256,
        "fused": sorted(_text(path) for path in (model.directory / FUSED_FOLDER).glob("*.json")),
        "versions": {name: _version(next(iter(entry.modules))) for name, entry in running("graph").items()},
        "device": "cuda" if _cuda_runtime("auto", options.device) else "cpu",
        "cpu": cpu_name(),
        "threads": options.thread_count,
        "streams": options.streams,
    }
    if _rounded(model, options):
        key["precision"] = options.precision
    if model.export.source is None:  # its reference is made by verify, and may change
        key["reference"] = sha256_of(model.reference)
    return key


def _text(path: Path) -> str:
    """The text of a small file; "" if the file is damaged."""
    try:
        return read_bytes(path, JSON_FILE_BYTES).decode()
    except (OSError, ValueError):
        return ""


def _version(module: str) -> str | None:
    """The version of the installed wheel that ships a module; onnxruntime comes in several."""
    for name in (module, f"{module}-gpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None
