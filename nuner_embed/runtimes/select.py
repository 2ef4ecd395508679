"""Which runtime is the fastest here, of those that compute what the source computes."""

import logging
from dataclasses import dataclass

from nuner_embed.errors import RuntimeUnavailable
from nuner_embed.models.resolver import Model
from nuner_embed.runtimes.base import Precision, RuntimeName, RuntimeOptions
from nuner_embed.runtimes.measurements import CUDA_BATCH_TOKENS, measure, on_cuda, remembered
from nuner_embed.runtimes.parity import BUDGETS, GATES, Measurement
from nuner_embed.runtimes.registry import installed, require_fitting

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """What an exported model runs on.

    Attributes:
        runtime: its name.
        precision: of the arithmetic.
        batch_tokens: tokens a batch may hold.
    """

    runtime: RuntimeName
    precision: Precision
    batch_tokens: int


def choose(model: Model, runtime: RuntimeName, options: RuntimeOptions, batch_tokens: int | None) -> Choice:
    """Fills in what was left open with what is fastest on this machine among what passes its gate.

    Everything that could run is measured once on the reference within the exported directory, some seconds, and
    remembered in the user's cache folder. Two things are taken unmeasured: CUDA, where this onnxruntime has it, and a
    graph that another program exported and that was never compared with its source, of which the log says so.

    Raises:
        RuntimeUnavailable: nothing that fits passes its gate, or what was asked for is not installed.
        ModelError: the directory has no reference.
    """
    assert model.export is not None
    if runtime != "auto":
        require_fitting(model, runtime)
    if runtime == "openvino" and options.device == "cuda":
        raise RuntimeUnavailable("the openvino runtime runs on the CPU, not on cuda; say --device cpu")
    if runtime != "openvino" and on_cuda(options.device):
        precision = model.export.arithmetic if options.precision == "auto" else options.precision
        return Choice("onnx", precision, batch_tokens or CUDA_BATCH_TOKENS)
    if runtime != "auto" and options.precision != "auto" and batch_tokens:
        return Choice(runtime, options.precision, batch_tokens)
    if model.export.source is None and not model.reference.is_file():
        return _unverified(model, runtime, options, batch_tokens)
    known = remembered(model, options)
    rows = known or measure(model, options)
    fitting = [row for row in rows if runtime in ("auto", row.runtime) and options.precision in ("auto", row.precision)]
    passing = [row for row in fitting if row.passed]
    if not passing:
        if not fitting:
            able = ", ".join(f"{row.runtime} in {row.precision}" for row in rows)
            raise RuntimeUnavailable(f"nothing here runs {model.name} that way; there is {able}")
        raise RuntimeUnavailable(
            f"{'; '.join(_failure(row) for row in fitting)}: nothing else fits, so {model.name} is not run; "
            f"nuner-embed verify {model.name} shows all figures"
        )
    best = max(passing, key=lambda row: row.best[1])
    if len(rows) > 1:
        others = [f"{row.runtime} {row.precision} {_pace(row)}" for row in rows if row is not best]
        _LOG.log(
            logging.DEBUG if known else logging.INFO,  # once a machine
            "fastest here: %s %s, %.0f tokens/s in batches of %d (%s)",
            best.runtime, best.precision, best.best[1], best.best[0], ", ".join(others),
        )  # fmt: skip
    return Choice(best.runtime, best.precision, batch_tokens or best.best[0])  # type: ignore[arg-type]


def _unverified(model: Model, runtime: RuntimeName, options: RuntimeOptions, batch_tokens: int | None) -> Choice:
    assert model.export is not None
    _LOG.warning(
        "%s was never compared with its source; nuner-embed verify %s --source MODEL compares them",
        model.name,
        model.name,
    )
    name: RuntimeName = "openvino" if runtime == "auto" and not installed("onnx") else require_fitting(model, runtime)
    precision = model.export.arithmetic if options.precision == "auto" else options.precision
    return Choice(name, precision, batch_tokens or BUDGETS[1])


def _pace(row: Measurement) -> str:
    if row.agreement is None:
        return "does not run"
    return f"{row.best[1]:,.0f}" if row.passed else "fails its gate"


def _failure(row: Measurement) -> str:
    if row.agreement is None:
        return f"{row.runtime} does not run: {row.description}"
    return f"{row.runtime} in {row.precision} fails its gate ({GATES[row.precision]}): {row.agreement}"
