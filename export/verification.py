"""The gate: compares an exported model with its source in every runtime that is installed here."""

import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nuner_embed.arguments import Paths
from nuner_embed.bundled import bundled_texts
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.errors import ExportError, ModelError
from nuner_embed.files import write_json
from nuner_embed.models.directories import CONCEPT_FOLDER
from nuner_embed.models.onnx_export import EXPORT_FILE, VERIFY_FILE, altered
from nuner_embed.models.resolver import GraphModel, Model, TransformersModel, graph_beside, locate
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.models.weights import has_weights
from nuner_embed.runtimes.base import Runtime, RuntimeOptions
from nuner_embed.runtimes.measurements import Measurement
from nuner_embed.runtimes.parity import GATES, Reference, tuned_speeds
from nuner_embed.runtimes.registry import require
from nuner_embed.runtimes.selection import measure, measure_unfused

if TYPE_CHECKING:
    from nuner_embed.export.head import HeadAgreement

SCHEMA_VERSION = 1
_LOG = logging.getLogger(__name__)
CorpusArgument = Paths | Corpus


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of comparing an exported model with its source.

    Attributes:
        passed: whether every runtime reaches its gate in the file's own precision. One that fails in bf16 is only
            never chosen.
        rows: a measurement for every runtime and precision.
        baseline: what speeds are compared with, and its tokens a second: the source in torch where it was at hand,
            else the first runtime that runs.
        fusion: what onnxruntime's optimiser fused, for people.
        tokens: number of compared tokens, special tokens included.
        windows: number of compared windows.
        head: how the labels of the head in the graph agree with those in Python, right after an export with a head.
    """

    passed: bool
    rows: tuple[Measurement, ...]
    baseline: tuple[str, float]
    fusion: str
    tokens: int
    windows: int
    head: "HeadAgreement | None" = None

    @property
    def gates(self) -> dict[str, dict[str, float]]:
        """The thresholds of the gate, by precision."""
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
            **({"head": asdict(self.head)} if self.head else {}),
        }

    def failures(self) -> str:
        """The failures, in one line."""
        return "; ".join(
            f"{row.runtime} in {row.precision}: "
            + (f"{row.agreement} (at least {GATES[row.precision]})" if row.agreement else row.description)
            for row in self.rows
            if not row.passed
        )


def verify(
    directory: str | os.PathLike[str],
    corpus: CorpusArgument | None = None,
    *,
    source: str | None = None,
    device: str = "auto",
    threads: int = 0,
) -> Verification:
    """Compares an exported model with its source in every runtime installed here.

    The result of a directory that `export_onnx` made is written into it, as `verify.json`. A graph that another program
    exported gets what its source computes kept in the cache folder, for `runtime="auto"` to measure with; nothing is
    written beside the graph.

    Args:
        directory: made by `export_onnx`; or a graph that Optimum, sentence-transformers or transformers.js exported,
            or its directory.
        corpus: text to compare on; needs the source and torch. None for the text and the source's numbers that the
            directory carries, and for bundled text where another program exported the graph.
        source: the model it was made from, in place of the name that the directory remembers. For another program's
            graph also a directory that `export_onnx` made of that model, which needs no torch; the weights beside the
            graph where it is left out.
        device: "auto", "cpu" or "cuda", for onnx.
        threads: 0 for one a core.

    Raises:
        ExportError: the directory holds no graph, or the source is unknown or not the one it was made from.
        ModelError: the source is not found, or the corpus has no text.
        CorpusError: the corpus cannot be read.
        RuntimeUnavailable: no runtime, or no torch for a corpus.
    """
    model = locate(os.fspath(directory))
    if isinstance(model, TransformersModel):
        beside = graph_beside(model)
        if beside is None:
            raise ExportError(f"{directory} holds no graph; nuner-embed export {directory} -o DIR makes one")
        model = beside
    options = RuntimeOptions(device=device, threads=threads)
    if model.export.source is None:
        return _verify_third_party(model, corpus, source, options)
    _require_as_written(model.directory)
    original = _load_source(model, source, model.export.source, options) if corpus is not None or source else None
    reference = None
    if original and corpus is not None:
        tokenizer = TextTokenizer.from_directory(model.directory)
        reference = _make_reference(model, original, tokenizer, _texts(corpus))
    result = verify_model(model, original, options, reference)
    try:
        write_json(model.directory / VERIFY_FILE, result.to_dict())
    except OSError as error:
        _LOG.warning("%s cannot be written: %s", model.directory / VERIFY_FILE, error.strerror)
    return result


def _require_as_written(directory: Path) -> None:
    """Checks that every file of an export and of its concept encoder is unchanged."""
    concepts = directory / CONCEPT_FOLDER
    changed = [*altered(directory), *(altered(concepts) if (concepts / EXPORT_FILE).is_file() else ())]
    if changed:
        raise ExportError(f"{changed[0]} is not the file that was exported (sha256 differs); export the model again")


def _verify_third_party(
    model: GraphModel, corpus: CorpusArgument | None, source: str | None, options: RuntimeOptions
) -> Verification:
    """As `verify`, for a graph that another program exported."""
    name = source or (str(model.directory) if has_weights(model.directory) else None)
    if name is None:
        if corpus is not None or not model.reference.is_file():
            raise ExportError(f"{model.name} does not say what it was exported from; name that model with --source")
        return verify_model(model, None, options)
    found = locate(name)
    original, reference = None, None
    if isinstance(found, GraphModel) and found.export.source is not None and corpus is None:
        if found.recipe.layers != model.recipe.layers:
            raise ExportError(
                f"{found.name} was exported with layers {list(found.recipe.layers)}; {model.name} gives only the last "
                "layer: compare it with an export made with --layers -1"
            )
        reference = Reference.load(found.reference, found.config.vocabulary)
        _require_same_tokens(model, found, bundled_texts())
    else:
        original = _load_torch(model, found, options)
        texts = bundled_texts() if corpus is None else _texts(corpus)
        reference = _make_reference(model, original, _require_same_tokens(model, found, texts), texts)
    if corpus is None:
        reference.save(model.reference)
        reference = None  # the one that is kept: what is measured with it is remembered
    return verify_model(model, original, options, reference)


def _require_same_tokens(model: GraphModel, source: Model, texts: list[str]) -> TextTokenizer:
    """The tokenizer of a graph, after a check that it gives the same tokens as the tokenizer of the source."""
    tokenizer = TextTokenizer.from_directory(model.directory)
    pairs = zip(tokenizer.encode(texts), TextTokenizer.from_directory(source.directory).encode(texts), strict=True)
    for (ids, _), (expected, _) in pairs:
        if not np.array_equal(ids, expected):
            raise ExportError(f"{source.name} is not the source of {model.name}: its tokenizer makes other tokens")
    return tokenizer


def _make_reference(model: GraphModel, source: Runtime, tokenizer: TextTokenizer, texts: list[str]) -> Reference:
    return Reference.make(source, tokenizer, texts, model.recipe.max_length, model.config.pad_id)


def verify_model(
    model: GraphModel, source: Runtime | None, options: RuntimeOptions, reference: Reference | None = None
) -> Verification:
    """As `verify`, for a model that is located and a source that may be loaded; writes only the fused copy."""
    fusion = _fuse(model)
    rows = measure(model, options, reference)
    reference = reference or Reference.load(model.reference, model.config.vocabulary)
    if fusion.startswith("fused"):
        rows.append(measure_unfused(model, options, reference))
    if source:
        baseline = (source.description, max(tuned_speeds(source, reference).values()))
    else:
        running = [(row.description, row.best[1]) for row in rows if row.tokens_per_second]
        baseline = next(iter(running), ("nothing runs", 1.0))
    own = [row for row in rows if row.precision == model.export.arithmetic]
    passed = bool(own) and all(row.passed for row in own)
    return Verification(passed, tuple(rows), baseline, fusion, reference.tokens, len(reference.lengths))


def _fuse(model: GraphModel) -> str:
    """Makes the fused copy of a graph, if there can be one and there is none; returns a line about the result."""
    if model.export.source is None:
        return f"{model.export.file} as another program exported it"
    try:
        from nuner_embed.runtimes.onnx import fused_operators

        operators = fused_operators(model)
        if not operators:
            from nuner_embed.export.onnx_file import fuse  # slow to import

            operators = fuse(model)
    except ImportError as error:  # onnx comes with the extra train
        return f"unfused: making a copy for this onnxruntime needs {error.name}, which is not installed"
    except Exception as error:  # of the optimiser, or of the disk: the plain graph does without
        return f"unfused: the copy cannot be made ({' '.join(str(error).split())[:200]})"
    if not operators:
        return f"unfused: no copy is made of a {model.config.model_type} in {model.export.precision}"
    return "fused: " + ", ".join(f"{count} {name}" for name, count in operators.items())


def _load_source(model: GraphModel, name: str | None, known: str, options: RuntimeOptions) -> Runtime:
    """A graph's source in torch, by the name given, or else by the name that its export knows."""
    try:
        found = locate(name) if name else locate(known, fetch=False)
    except ModelError as error:
        if name:
            raise
        raise ExportError(
            f"comparing on text of your own needs the source, which was called {known}: name its "
            f"directory with --source ({error})"
        ) from None
    if isinstance(found, GraphModel) or found.weights_sha256 != model.export.weights_sha256:
        raise ExportError(f"{found.name} is not the source of {model.name}: its weights differ")
    return _load_torch(model, found, options)


def _load_torch(model: GraphModel, source: Model, options: RuntimeOptions) -> Runtime:
    """The source in torch, with the layers of the graph."""
    if isinstance(source, GraphModel):
        raise ExportError(f"{source.name} is an exported graph; comparing on text of your own needs its own source")
    require("torch", "train")
    require("transformers", "train")
    from nuner_embed.runtimes.torch import TorchRuntime

    return TorchRuntime(source, model.recipe, RuntimeOptions(device="cpu", threads=options.threads))


def _texts(corpus: CorpusArgument) -> list[str]:
    if isinstance(corpus, Corpus):
        return [document.text for document in corpus.survey().sample]
    with Corpus(corpus) as opened:
        return [document.text for document in opened.survey().sample]
