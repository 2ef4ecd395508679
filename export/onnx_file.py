"""ONNX graphs on disk: written at any size, and the copy that ONNX Runtime's transformer optimiser makes."""

import shutil
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from nuner_embed.artifacts import lock, lock_beside, sweep
from nuner_embed.errors import ExportError
from nuner_embed.files import read_json, temporary_name, write_json
from nuner_embed.limits import CONFIG_BYTES
from nuner_embed.models.onnx_export import ONNX_FILE, graph_files, graph_sha256, weights_path
from nuner_embed.models.resolver import GraphModel
from nuner_embed.runtimes.onnx import fused_path

# A protocol buffer ends at 2 GiB, whatever else stands in it beside the weights.
EXTERNAL_ABOVE_BYTES = 2_000_000_000


def is_large(size_bytes: int) -> bool:
    """Whether weights of this size must lie in a file of their own."""
    return size_bytes > EXTERNAL_ABOVE_BYTES


def save_graph(model: Any, path: Path) -> None:
    """Writes a graph; its weights go into one file beside it where they are too large for the format."""
    for old in graph_files(path):
        old.unlink()
    if not is_large(sum(len(weight.raw_data) for weight in model.graph.initializer)):
        onnx.save_model(model, str(path))
        return
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=weights_path(path).name,
        size_threshold=1024,
    )


# Whose attention the optimiser knows as BERT's. DeBERTa's and ModernBERT's it does not.
BERT_LIKE = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "roberta-prelayernorm"})


def fuse(model: GraphModel) -> dict[str, int]:
    """Makes the fused copy for the installed onnxruntime, if something of the graph can be fused.

    Blocks are fused whole and nothing is laid out for a processor, so the copy may travel as the graph does.

    Returns:
        How often each fused operator stands in the copy; empty where there is none.
    """
    if model.config.model_type not in BERT_LIKE or model.export.precision == "int8":
        return {}
    from onnxruntime.transformers.fusion_options import FusionOptions  # slow to import
    from onnxruntime.transformers.optimizer import optimize_model

    config = read_json(model.directory / "config.json", CONFIG_BYTES)
    optimised = optimize_model(
        str(model.directory / ONNX_FILE),
        model_type="bert",
        num_heads=int(config.get("num_attention_heads") or config["n_heads"]),
        hidden_size=model.config.hidden_size,
        optimization_options=FusionOptions("bert"),
        opt_level=0,
    )
    operators = {name: count for name, count in optimised.get_fused_operator_statistics().items() if count}
    if operators.get("Attention"):
        _keep(model, optimised.model, operators)
        return operators
    return {}


def _keep(model: GraphModel, graph: Any, operators: dict[str, int]) -> None:
    """Puts a fused graph into its place with its facts, which come last: without them nobody runs it."""
    path = fused_path(model.directory)
    if path.parent.is_symlink():
        raise ExportError(f"{path.parent} is a symbolic link, which nuner-embed never makes; remove the link")
    path.parent.mkdir(exist_ok=True)
    beside = lock_beside(path)
    with lock(beside, ExportError("another process is making it"), ExportError):
        work = temporary_name(path, "new")
        try:
            sweep(path)  # what was killed here before
            work.mkdir()
            save_graph(graph, work / path.name)
            weights_path(path).unlink(missing_ok=True)
            for part in graph_files(work / path.name):
                part.rename(path.parent / part.name)
            facts = {
                "onnxruntime": onnxruntime.__version__,
                "of": model.export.graph_sha256,
                "sha256": graph_sha256(path),
                "operators": operators,
            }
            write_json(path.with_suffix(".json"), facts)
        finally:
            shutil.rmtree(work, ignore_errors=True)
            beside.unlink(missing_ok=True)
