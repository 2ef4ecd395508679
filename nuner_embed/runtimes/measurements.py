"""Measuring what is installed here on an exported model, and remembering it."""

import contextlib
import importlib.metadata
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from nuner_embed.cache import cached
from nuner_embed.errors import NunerEmbedError
from nuner_embed.files import hash_of, read_bytes, read_json, sha256_of, write_json
from nuner_embed.limits import JSON_FILE_BYTES
from nuner_embed.machine import cpu_name
from nuner_embed.models.onnx_export import FUSED_FOLDER, graph_files
from nuner_embed.models.resolver import Model
from nuner_embed.runtimes.base import Precision, RuntimeName, RuntimeOptions
from nuner_embed.runtimes.parity import BUDGETS, GATES, Measurement, compare, speed
from nuner_embed.runtimes.reference import Reference
from nuner_embed.runtimes.registry import MODULES, installed, load_runtime, require_fitting

SCHEMA_VERSION = 1
# Measured by benchmarks/gpu.py on an H200: smaller batches are no faster, larger ones slower.
CUDA_BATCH_TOKENS = 16384
_LOG = logging.getLogger(__name__)


def measure(model: Model, options: RuntimeOptions, reference: Reference | None = None) -> list[Measurement]:
    """Measures everything installed here that could run an exported model, one after the other.

    Args:
        model: an exported directory.
        options: `precision` is not looked at.
        reference: what its source computes; None for what the directory holds. Only that is remembered.

    Raises:
        ModelError: the directory has no reference.
    """
    own = reference is None
    reference = reference or Reference.load(model.reference, model.config.vocabulary)
    candidates = list(_candidates(model, options))
    if not candidates:
        require_fitting(model, "auto")
    rows = []
    for number, (runtime, chosen) in enumerate(candidates, start=1):
        _LOG.info("measuring %s in %s (%d of %d) ...", runtime, chosen.precision, number, len(candidates))
        try:
            rows.append(_measure(model, runtime, chosen, reference))
        except Exception as error:  # a broken installation fails in any way it likes, and the others go on
            own = False  # it may be otherwise the next time
            rows.append(_failed(model, runtime, chosen, error))
    if own:
        try:
            write_json(_memory(model, options), [row.to_dict() for row in rows])
        except (OSError, NunerEmbedError) as error:
            _LOG.info("these figures are not kept, and will be measured again the next time: %s", error)
    return rows


def _candidates(model: Model, options: RuntimeOptions) -> Iterator[tuple[RuntimeName, RuntimeOptions]]:
    assert model.export is not None
    if installed("onnx"):
        yield "onnx", replace(options, precision=model.export.arithmetic)
    if installed("openvino") and options.device != "cuda":
        able: tuple[Precision, ...] = (model.export.arithmetic,)
        with contextlib.suppress(Exception):  # a broken one is measured as one that does not run
            from nuner_embed.runtimes.openvino import precisions

            able = precisions(model)
        for precision in able:
            yield "openvino", replace(options, device="cpu", precision=precision)


def _measure(
    model: Model, name: RuntimeName, options: RuntimeOptions, reference: Reference, budgets: tuple[int, ...] = BUDGETS
) -> Measurement:
    runtime = load_runtime(model, model.recipe, name, options)
    agreement = compare(runtime, reference)
    if runtime.device == "cuda":
        budgets = (CUDA_BATCH_TOKENS,)
    return Measurement(
        runtime=name,
        precision=options.precision,
        description=runtime.description,
        agreement=agreement,
        tokens_per_second={budget: speed(runtime, reference, budget) for budget in budgets},
        passed=agreement.passes(GATES[options.precision]),
        bytes=_weight(model),
    )


def _failed(model: Model, name: RuntimeName, options: RuntimeOptions, error: Exception) -> Measurement:
    reason = " ".join(f"{error}".split()) or type(error).__name__
    return Measurement(name, options.precision, reason, None, {}, False, _weight(model))


def _weight(model: Model) -> int:
    return sum(path.stat().st_size for path in graph_files(model.graph))


def measure_unfused(model: Model, options: RuntimeOptions, reference: Reference) -> Measurement:
    """As `measure`, for the plain graph in onnxruntime, which runs where there is no fused copy; at one budget."""
    assert model.export is not None
    chosen = replace(options, precision=model.export.arithmetic, graph=model.export.graph_sha256)
    try:
        return replace(_measure(model, "onnx", chosen, reference, BUDGETS[1:2]), runtime="onnx unfused")
    except Exception as error:  # as in measure
        return replace(_failed(model, "onnx", chosen, error), runtime="onnx unfused")


def on_cuda(device: str) -> bool:
    """Whether an exported model is to run on CUDA: asked for, or left open where this onnxruntime has it."""
    if device != "auto":
        return device == "cuda"
    if not installed("onnx"):
        return False
    from nuner_embed.runtimes.onnx import has_cuda

    return has_cuda()


def remembered(model: Model, options: RuntimeOptions) -> list[Measurement] | None:
    """What was measured for this file with these versions, threads and processor before; None if nothing was."""
    try:
        rows = read_json(_memory(model, options))
        return [Measurement.from_dict(row) for row in rows] if isinstance(rows, list) else None
    except (OSError, NunerEmbedError, ValueError):  # nothing, or something damaged: it is measured anew
        return None


def _memory(model: Model, options: RuntimeOptions) -> Path:
    assert model.export is not None
    key: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "graph": model.export.graph_sha256,
        "fused": sorted(_text(path) for path in (model.directory / FUSED_FOLDER).glob("*.json")),
        "versions": {name: _version(module) for name, (module, _) in MODULES.items()},
        "device": "cuda" if on_cuda(options.device) else "cpu",
        "cpu": cpu_name(),
        "threads": options.thread_count,
    }
    if model.export.source is None:  # whose reference is made by verify, and not once for all
        key["reference"] = sha256_of(model.reference)
    return cached("runtimes", f"{hash_of(key)}.json")


def _text(path: Path) -> str:
    """A small file's text; none where it is damaged."""
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
