"""The gate: an exported model beside its source, in every runtime that is installed here."""

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nuner_embed.corpora import Corpus
from nuner_embed.errors import ExportError, ModelError
from nuner_embed.files import write_json
from nuner_embed.models import Model, TextTokenizer, locate
from nuner_embed.models.exported import REFERENCE_FILE, VERIFY_FILE
from nuner_embed.runtimes import Runtime, RuntimeOptions
from nuner_embed.runtimes.agreement import BUDGETS, GATES, Measurement, speed
from nuner_embed.runtimes.choose import require
from nuner_embed.runtimes.measuring import measure, measure_unfused
from nuner_embed.runtimes.reference import Reference

SCHEMA_VERSION = 1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of comparing an exported model with its source.

    Attributes:
        passed: whether every runtime reaches its gate in the file's own precision. One that fails in bf16 is only
            never chosen.
        rows: a measurement for every runtime and precision.
        baseline: what speeds are compared with, and its tokens a second: the source in torch where it was at hand,
            else the first runtime that runs.
        fusion: what onnxruntime's optimiser made of the graph, for people.
        tokens: compared, special tokens included.
        windows: that they stand in.
    """

    passed: bool
    rows: tuple[Measurement, ...]
    baseline: tuple[str, float]
    fusion: str
    tokens: int
    windows: int

    @property
    def gates(self) -> dict[str, dict[str, float]]:
        """What had to be reached, by precision."""
        named = {precision: asdict(GATES[precision]) for precision in dict.fromkeys(row.precision for row in self.rows)}
        return {precision: {key: v for key, v in gate.items() if v > 0} for precision, gate in named.items()}

    def speed_ratio(self, row: Measurement) -> float | None:
        """A runtime's speed over the baseline's; None where it does not run."""
        return row.best[1] / self.baseline[1] if row.tokens_per_second else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, None for a number that is not finite.

        A runtime's name is `onnx` in the file's own precision, `openvino-bf16` in another, and `onnx-unfused` for the
        plain graph where the runtime has a fused copy of it.
        """
        runtimes: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            name = row.runtime.replace(" ", "-")
            name = name if name not in runtimes else f"{name}-{row.precision}"
            values = row.to_dict()
            runtimes[name] = {
                **{key: v if np.isfinite(v) else None for key, v in (values.pop("agreement") or {}).items()},
                "speed_ratio": self.speed_ratio(row),
                **{key: values[key] for key in ("precision", "bytes", "passed", "tokens_per_second", "description")},
            }
        return {
            "schema_version": SCHEMA_VERSION,
            "passed": self.passed,
            "gates": self.gates,
            "baseline": {"name": self.baseline[0], "tokens_per_second": self.baseline[1]},
            "fusion": self.fusion,
            "tokens": self.tokens,
            "windows": self.windows,
            "runtimes": runtimes,
        }

    def failures(self) -> str:
        """What fails, in one line."""
        return "; ".join(
            f"{row.runtime} in {row.precision}: "
            + (
                f"minimum cosine {row.agreement.min_cosine:.6f}, mean {row.agreement.mean_cosine:.6f}, "
                f"neighbour overlap {row.agreement.neighbour_overlap:.3f} (at least {GATES[row.precision]})"
                if row.agreement
                else row.description
            )
            for row in self.rows
            if not row.passed
        )


def verify(
    directory: str | os.PathLike[str],
    corpus: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Corpus | None = None,
    *,
    source: str | None = None,
    device: str = "auto",
    threads: int = 0,
) -> Verification:
    """Compares an exported model with its source in every runtime installed here, and writes `verify.json` into it.

    Args:
        directory: made by `export_onnx`.
        corpus: text to compare on; needs the source and torch. None for the text and the source's numbers that the
            directory carries.
        source: the model it was made from, in place of the name that the directory remembers.
        device: "auto", "cpu" or "cuda", for onnx.
        threads: 0 for one a core.

    Raises:
        ExportError: the directory holds no export, or the source is not the one it was made from.
        ModelError: the source is not found, or the corpus has no text.
        CorpusError: the corpus cannot be read.
        RuntimeUnavailable: no runtime, or no torch for a corpus.
    """
    model = locate(os.fspath(directory))
    if model.export is None:
        raise ExportError(f"{directory} was not made by nuner-embed export; name a directory that was")
    options = RuntimeOptions(device=device, threads=threads)
    original = _load_source(model, source, options) if corpus is not None or source else None
    reference = None
    if original and corpus is not None:
        tokenizer = TextTokenizer.from_directory(model.directory)
        texts = _texts(corpus)
        reference = Reference.make(original, tokenizer, texts, model.recipe.max_length, model.config.pad_id)
    result = verify_model(model, original, options, reference)
    try:
        write_json(model.directory / VERIFY_FILE, result.to_dict())
    except OSError as error:
        _LOG.warning("%s cannot be written: %s", model.directory / VERIFY_FILE, error.strerror)
    return result


def verify_model(
    model: Model, source: Runtime | None, options: RuntimeOptions, reference: Reference | None = None
) -> Verification:
    """As `verify`, for a model that is located and a source that may be loaded; writes only the fused copy."""
    fusion = _fuse(model)
    rows = measure(model, options, reference)
    reference = reference or Reference.load(model.directory / REFERENCE_FILE)
    if fusion.startswith("fused"):
        rows.append(measure_unfused(model, options, reference))
    if source:
        baseline = (source.description, max(speed(source, reference, budget) for budget in BUDGETS))
    else:
        running = [(row.description, row.best[1]) for row in rows if row.tokens_per_second]
        baseline = next(iter(running), ("nothing runs", 1.0))
    assert model.export is not None
    own = [row for row in rows if row.precision == model.export.arithmetic]
    passed = bool(own) and all(row.passed for row in own)
    return Verification(passed, tuple(rows), baseline, fusion, reference.tokens, len(reference.lengths))


def _fuse(model: Model) -> str:
    """Sees to it that there is a fused copy, where there can be one; says what became of it."""
    assert model.export is not None
    try:
        from nuner_embed.runtimes.onnx import fused_operators

        operators = fused_operators(model)
        if not operators:
            from nuner_embed.export.fuse import fuse  # slow to import

            operators = fuse(model)
    except ImportError as error:  # onnx comes with the extra train
        return f"unfused: making a copy for this onnxruntime needs {error.name}, which is not installed"
    except Exception as error:  # of the optimiser, or of the disk: the plain graph does without
        return f"unfused: the copy cannot be made ({' '.join(str(error).split())[:200]})"
    if not operators:
        return f"unfused: no copy is made of a {model.config.model_type} in {model.export.precision}"
    return "fused: " + ", ".join(f"{count} {name}" for name, count in operators.items())


def _load_source(model: Model, name: str | None, options: RuntimeOptions) -> Runtime:
    assert model.export is not None
    try:
        found = locate(name or model.export.source)
    except ModelError as error:
        if name:
            raise
        raise ExportError(
            f"comparing on text of your own needs the source, which was called {model.export.source}: name its "
            f"directory with --source ({error})"
        ) from None
    if found.export or found.weights_sha256 != model.export.weights_sha256:
        raise ExportError(f"{found.name} is not the source of {model.name}: its weights differ")
    require("torch", "train")
    require("transformers", "train")
    from nuner_embed.runtimes.torch import TorchRuntime

    return TorchRuntime(found, model.recipe, RuntimeOptions(device="cpu", threads=options.threads))


def _texts(corpus: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Corpus) -> list[str]:
    if isinstance(corpus, Corpus):
        return [document.text for document in corpus.survey().sample]
    with Corpus([corpus] if isinstance(corpus, str | os.PathLike) else corpus) as opened:
        return [document.text for document in opened.survey().sample]
