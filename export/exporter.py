"""The export: a directory that runs without torch, and is published only if it passes its gate."""

import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuner_embed.artifacts import replacing, require_replaceable
from nuner_embed.bundled import bundled_texts
from nuner_embed.encoders.loader import resolve_recipe
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import ExportError
from nuner_embed.export.verification import Verification, verify_model
from nuner_embed.files import canonical_json, copy_file, expand, naming, write_json
from nuner_embed.models.concept_facts import ConceptFacts
from nuner_embed.models.directories import CONCEPT_FOLDER, DETECTOR_FOLDER, HEAD_FOLDER, SPAN_FOLDER
from nuner_embed.models.known import DEFAULT_MODEL
from nuner_embed.models.onnx_export import (
    EXPORTED_MODEL,
    HEAD_FILES,
    ONNX_FILE,
    RECIPE_FILE,
    REFERENCE_FILE,
    VERIFY_FILE,
    Export,
    FilePrecision,
    graph_sha256,
    write_export,
)
from nuner_embed.models.recipe import Recipe, semantic_hash
from nuner_embed.models.resolver import GraphModel, TransformersModel, locate
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.runtimes.base import RuntimeOptions
from nuner_embed.runtimes.padding import pad
from nuner_embed.runtimes.parity import GATES, Agreement, Reference, compare, cut_windows
from nuner_embed.runtimes.registry import load_runtime, require, running

if TYPE_CHECKING:
    from nuner_embed.export.head import HeadAgreement
    from nuner_embed.heads.linear import LinearHead
    from nuner_embed.runtimes.base import Runtime

_LOG = logging.getLogger(__name__)
_CALIBRATION_TOKENS = 10_000


def export_onnx(
    model: str = DEFAULT_MODEL,
    directory: str | os.PathLike[str] = "model",
    *,
    precision: FilePrecision = "fp32",
    layers: tuple[int, ...] | None = None,
    head: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Verification:
    """Exports a text encoder as an ONNX graph, and compares it with its source in every runtime installed here.

    Args:
        model: a Hugging Face directory, a known name or a hub name.
        directory: made by this call. It holds the graph, `model.onnx`; the copy of it that onnxruntime's optimiser
            fused; tokenizer, configuration and recipe; `reference.npz`, some text with what the source computes for
            it; and `export.json` and `verify.json`, which say what was done and what came of it. A model that has a
            concept encoder gets a folder `concept_encoder` of the same kind, and its mention detector goes along, as
            does the head of a fine-tuned model.
        precision: of the weights, "fp32", "fp16" (for CUDA) or "int8".
        layers: hidden states to concatenate, in place of the model's own recipe.
        head: the directory of a linear head that was trained on the words of this model. The graph then also gives the
            probability of each type, `probabilities`, and `head.json` says how to read them.
        force: replace an earlier export.

    Returns:
        The comparison of the graph with its source, with speeds.

    Raises:
        ExportError: the graph does not compute what its source computes, the directory is taken, or the head cannot be
            written into the graph or labels other than in Python.
        ProbeError: there is no head, or it is damaged.
        ModelError: the model cannot be found or loaded.
        RuntimeUnavailable: torch, transformers or onnxruntime is not installed.
    """
    if precision not in ("fp32", "fp16", "int8"):
        raise ValueError(f"precision must be fp32, fp16 or int8, not {precision!r}")
    target = expand(directory).resolve()
    require_replaceable(target, EXPORTED_MODEL, force=force)  # before the long work
    found = locate(model)
    if isinstance(found, GraphModel):
        raise ExportError(f"{model} is an exported directory already; name the model that it was made from")
    recipe = resolve_recipe(found, layers=layers)
    for module, extra in (("torch", "train"), ("transformers", "train"), ("onnx", "train"), ("onnxruntime", "cpu")):
        require(module, extra)
    linear = None
    if head is not None:
        from nuner_embed.export.head import require_exportable
        from nuner_embed.heads.io import open_head

        linear = require_exportable(open_head(expand(head)), found, recipe, precision)
    try:
        with replacing(target, EXPORTED_MODEL, force=force) as work:
            return _export_whole(model, found, recipe, precision, linear, work)
    except OSError as error:
        raise ExportError(f"{target} cannot be written: {error.strerror or error}; nothing was changed") from error


def _export_whole(
    model: str,
    found: TransformersModel,
    recipe: Recipe,
    precision: FilePrecision,
    head: "LinearHead | None",
    work: Path,
) -> Verification:
    """Fills an empty folder with the export of a model and of what belongs to it."""
    concepts = found.directory / CONCEPT_FOLDER
    if concepts.is_dir():
        ConceptFacts.read(concepts)  # raises before the long work if it is damaged
    result = _Exporter(model, found, recipe, precision, work, head).run()
    if concepts.is_dir():
        _LOG.info("exporting the concept encoder ...")
        _export_concepts(concepts, work / CONCEPT_FOLDER)
    for folder in (DETECTOR_FOLDER, SPAN_FOLDER):
        if (found.directory / folder).is_dir() and recipe == found.recipe:  # which it reads
            _copy_probe(found.directory / folder, work / folder)
    if (found.directory / HEAD_FOLDER).is_dir() and _reads(found.directory / HEAD_FOLDER, found, recipe):
        _copy_probe(found.directory / HEAD_FOLDER, work / HEAD_FOLDER)
    return result


def _reads(head: Path, found: TransformersModel, recipe: Recipe) -> bool:
    """Whether the head of a fine-tuned model reads the embeddings of its encoder with a recipe."""
    from nuner_embed.heads.io import open_head

    tokenizer = TextTokenizer.from_directory(found.directory)
    exported = semantic_hash(found.weights_sha256, found.config.sha256, tokenizer.sha256, recipe.to_dict())
    return open_head(head).semantic_hash == exported


def _copy_probe(source: Path, target: Path) -> None:
    target.mkdir()
    for pattern in HEAD_FILES:  # whatever else lies there is not the head's
        for path in sorted(source.glob(pattern)):
            copy_file(path, target / path.name)


def _export_concepts(source: Path, work: Path) -> None:
    """Exports the concept encoder that belongs to a model, for a machine without torch; few names need no int8."""
    facts = ConceptFacts.read(source)
    found = locate(str(source))
    if isinstance(found, GraphModel):
        raise ExportError(f"{source} is an exported graph; export the model that it was made from")
    work.mkdir()
    _Exporter(str(source), found, found.recipe, "fp32", work).run()
    facts.write(work)


class _Exporter:
    """One export into a directory of its own."""

    def __init__(
        self,
        name: str,
        found: TransformersModel,
        recipe: Recipe,
        precision: FilePrecision,
        work: Path,
        head: "LinearHead | None" = None,
    ) -> None:
        self.name = name
        self.found = found
        self.recipe = recipe
        self.precision = precision
        self.work = work
        self.head = head
        self.graph = work / ONNX_FILE
        self.options = RuntimeOptions(device="cpu")
        self.tokenizer = TextTokenizer.from_directory(found.directory)
        self.padding = True

    def run(self) -> Verification:
        import onnxruntime
        import torch

        from nuner_embed.export.graph import OPSET
        from nuner_embed.runtimes.torch import TorchRuntime

        source = TorchRuntime(self.found, self.recipe, self.options)
        self.padding = source.padding
        exact = self.graph if self.precision != "int8" else self.work / "fp32" / ONNX_FILE
        exact.parent.mkdir(exist_ok=True)
        _LOG.info("tracing the graph ...")
        self._trace(source.network, exact)  # first, while the folder holds nothing else
        copy_file(self.found.directory / "config.json", self.work / "config.json")
        with naming(self.work / "tokenizer.json"):
            (self.work / "tokenizer.json").write_text(canonical_json(self.tokenizer.definition), encoding="utf-8")
        write_json(self.work / RECIPE_FILE, self.recipe.to_dict())
        texts = bundled_texts()
        _LOG.info("computing the output of the source ...")
        reference = Reference.make(source, self.tokenizer, texts[::2], self.recipe.max_length, self.found.config.pad_id)
        reference.save(self.work / REFERENCE_FILE)
        if self.precision == "fp16":
            self._halve()
        tried = self._quantise(exact, texts[1::2], reference) if self.precision == "int8" else None
        agreement = self._add_head(self.head, source, texts[::2]) if self.head else None
        model = self._exported()
        facts = {
            **model.export.to_dict(),
            "opset": OPSET,
            "tokenizer_sha256": self.tokenizer.sha256,
            "quantisation": tried,
            "versions": {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__},
        }
        write_export(self.work, facts)
        result = replace(verify_model(model, source, self.options), head=agreement)
        if not result.passed:
            raise ExportError(f"the exported graph does not match its source: {result.failures()}; nothing was written")
        write_json(self.work / VERIFY_FILE, result.to_dict())
        return result

    def _trace(self, network: Any, path: Path) -> None:
        from nuner_embed.export.graph import write_graph

        try:
            write_graph(network, path)
        except OSError:
            raise
        except Exception as error:  # torch has a kind for every step, and architectures raise what they like
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ExportError(
                f"{self.name} is a {self.found.config.model_type}, which torch cannot trace into an ONNX graph "
                f"({reason}); nothing was written; use the model itself with torch"
            ) from None

    def _add_head(self, head: "LinearHead", source: "Runtime", texts: list[str]) -> "HeadAgreement":
        """Adds the head to the graph, compares its labels with those in Python, and writes `head.json`."""
        from nuner_embed.export.head import append_head, compare_head, write_head

        _LOG.info("adding the head ...")
        append_head(self.graph, head)
        encoder = TextEncoder(
            tokenizer=self.tokenizer,
            runtime=source,
            recipe=Recipe.from_dict(head.facts.recipe),
            weights_sha256=self.found.weights_sha256,
            batch_tokens=source.batch_tokens,
            config_sha256=self.found.config.sha256,
        )
        agreement = compare_head(self.graph, head, encoder, texts)
        write_head(self.work, head, agreement)
        return agreement

    def _halve(self) -> None:
        """Converts the weights and the arithmetic of the graph to float16, in place; its output becomes float16 too."""
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        from nuner_embed.export.onnx_file import save_graph

        save_graph(convert_float_to_float16(onnx.load(self.graph), keep_io_types=False), self.graph)

    def _exported(self) -> GraphModel:
        """The model that the work directory holds so far."""
        path = expand(self.name)
        export = Export(
            source=path.resolve().name if self.found.directory == path else self.name,
            precision=self.precision,
            graph_sha256=graph_sha256(self.graph),
            weights_sha256=self.found.weights_sha256,
            padding=self.padding,
        )
        return GraphModel(self.found.name, self.work, self.found.config, self.recipe, export.weights_sha256, export)

    def _quantise(self, exact: Path, texts: list[str], reference: Reference) -> dict[str, Any]:
        """Makes the graph from the exact one by the first recipe that passes in every runtime that is installed.

        Returns:
            The name of the recipe, and what was tried: the agreement in the runtime that agrees least.
        """
        from nuner_embed.export.int8 import RECIPES, quantise

        windows = cut_windows(self.tokenizer, texts, self.recipe.max_length, _CALIBRATION_TOKENS)
        batches = [pad([window], self.found.config.pad_id) for window in windows]
        tried: dict[str, Agreement] = {}
        for recipe, leave in RECIPES.items():
            _LOG.info("quantising: %s ...", recipe)
            quantise(exact, self.graph, batches, leave)
            tried[recipe] = self._least_agreement(reference)
            if tried[recipe].passes(GATES["int8"]):
                shutil.rmtree(exact.parent)
                return {"recipe": recipe, "tried": {name: _figures(agreement) for name, agreement in tried.items()}}
        figures = "; ".join(f"{name}: {agreement}" for name, agreement in tried.items())
        raise ExportError(
            f"{self.name} loses too much in int8 ({figures}; at least {GATES['int8']}); nothing was written, "
            "use --precision fp32"
        )

    def _least_agreement(self, reference: Reference) -> Agreement:
        """The agreement of the graph in the runtime that agrees least; each rounds eight bits in its own way."""
        model, names = self._exported(), [name for name, entry in running("graph").items() if entry.installed]
        found = [compare(load_runtime(model, self.recipe, name, self.options), reference) for name in names]
        return min(found, key=lambda agreement: agreement.neighbour_overlap)


def _figures(agreement: Agreement) -> dict[str, float]:
    return {name: round(getattr(agreement, name), 6) for name in ("min_cosine", "mean_cosine", "neighbour_overlap")}
