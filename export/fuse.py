"""The copy of a graph that ONNX Runtime's transformer optimiser makes, for one version of ONNX Runtime."""

import shutil
from typing import Any

import onnxruntime
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model

from nuner_embed.artifacts import lock, lock_beside, sweep
from nuner_embed.errors import ExportError
from nuner_embed.export.onnx_file import save_graph
from nuner_embed.files import read_json, temporary_name, write_json
from nuner_embed.limits import CONFIG_BYTES
from nuner_embed.models.onnx_export import ONNX_FILE, graph_files, graph_sha256, weights_path
from nuner_embed.models.resolver import GraphModel
from nuner_embed.runtimes.onnx import fused_path

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
