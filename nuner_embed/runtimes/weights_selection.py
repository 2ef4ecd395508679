"""Selection of the precision in which torch runs a Hugging Face directory on this processor.

On a processor with units for bf16, f32 and bf16 are compared and measured once; elsewhere there is nothing to choose.
"""

import logging
from dataclasses import replace
from typing import Any

from nuner_embed.bundled import bundled_texts
from nuner_embed.machine import cpu_name, has_bf16
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.resolver import TransformersModel
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.runtimes.base import Precision, RuntimeName, RuntimeOptions
from nuner_embed.runtimes.measurements import Measurement, announce, read_measurements, write_measurements
from nuner_embed.runtimes.parity import Reference, speeds, tuned_speeds
from nuner_embed.runtimes.registry import load_runtime, require_fitting
from nuner_embed.runtimes.selection import Choice

_SCHEMA_VERSION = 2
_KIND = "precisions"
_NARROWEST = 256  # dimensions; narrower networks are not worth some seconds of measuring
_CANDIDATES: tuple[Precision, ...] = ("f32", "bf16")
_LOG = logging.getLogger(__name__)


def choose_precision(
    model: TransformersModel, recipe: Recipe, tokenizer: TextTokenizer, runtime: RuntimeName, options: RuntimeOptions
) -> Choice:
    """The requested precision; if none was requested, bf16 on a processor where bf16 is faster and passes its gate.

    The runtime measures and compares both on texts of this package, for some seconds; the figures are kept in the
    user's cache folder. Networks of fewer than 256 dimensions run in f32. On CUDA nothing is chosen: f32 is the
    runtime's default there.

    Raises:
        RuntimeUnavailable: the runtime cannot run these files, is not installed, or lacks the device.
        ModelError: the files cannot be loaded.
    """
    name = require_fitting(model, runtime)
    narrow = model.config.hidden_size < _NARROWEST
    if options.precision != "auto" or narrow or not has_bf16() or _on_cuda(options.device):
        return Choice(name, options.precision, None)
    key = _key(model, recipe, options)
    known = read_measurements(_KIND, key)
    if known and not any(row.passed for row in known):
        known = None
    rows = known or _measure(model, recipe, tokenizer, name, options)
    if known is None:
        write_measurements(_KIND, key, rows)
    best = max((row for row in rows if row.passed), key=lambda row: row.best[1])
    announce(rows, best, known=known is not None)
    return Choice(name, best.precision, best.best[0])


def _on_cuda(device: str) -> bool:
    import torch

    return device == "cuda" or (device == "auto" and torch.cuda.is_available())


def _measure(
    model: TransformersModel, recipe: Recipe, tokenizer: TextTokenizer, name: RuntimeName, options: RuntimeOptions
) -> list[Measurement]:
    """Figures of each precision at one batch budget, and of the fastest at more; f32 is what bf16 is compared with.

    A large network takes ten seconds for each budget, so no more than that is measured.
    """
    rows: list[Measurement] = []
    reference = fastest = None
    for number, precision in enumerate(_CANDIDATES, start=1):
        _LOG.info("measuring %s in %s (%d of %d) ...", name, precision, number, len(_CANDIDATES))
        loaded = load_runtime(model, recipe, name, replace(options, precision=precision))
        if reference is None:
            texts = bundled_texts()
            reference = Reference.make(loaded, tokenizer, texts, recipe.max_length, model.config.pad_id)
        rows.append(Measurement.of(name, loaded, precision, reference, speeds(loaded, reference), size=0))
        if rows[-1].passed and (fastest is None or rows[-1].best[1] > rows[fastest[0]].best[1]):
            fastest = (number - 1, loaded)
    if fastest is not None:
        place, loaded = fastest
        assert reference is not None
        rows[place] = replace(rows[place], tokens_per_second=tuned_speeds(loaded, reference))
    return rows


def _key(model: TransformersModel, recipe: Recipe, options: RuntimeOptions) -> dict[str, Any]:
    import torch
    import transformers

    return {
        "schema_version": _SCHEMA_VERSION,
        "weights": model.weights_sha256,
        "config": model.config.sha256,
        "recipe": recipe.to_dict(),
        "versions": [torch.__version__, transformers.__version__],
        "cpu": cpu_name(),
        "threads": options.thread_count,
    }
