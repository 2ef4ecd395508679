"""Graphs that Optimum, sentence-transformers or transformers.js exported, in the folders where those put them."""

import re
from pathlib import Path

from nuner_embed.errors import ModelError
from nuner_embed.models.onnx_export import ONNX_FILE, Export, FilePrecision, graph_sha256

ONNX_FOLDER = "onnx"
# What follows "model_" in the names that these programs give to files of another precision than fp32; Optimum's
# level O4 is fp16.
_PRECISIONS: dict[str, FilePrecision] = {r"quantized|u?int8|qu?int8(_.*)?": "int8", r"fp16|O4": "fp16"}
_BELOW_INT8 = re.compile(r"(q4|bnb4|q4f16|q2|q1)")


def find_graph(name: str, directory: Path) -> Path | None:
    """The graph to take of a directory: `model.onnx`, there or in its folder `onnx`, or the only one that there is.

    Returns:
        Its path; None where the directory holds no graph.

    Raises:
        ModelError: there are several, none of which is called `model.onnx`.
    """
    folders = (directory, directory / ONNX_FOLDER)
    for folder in folders:
        if (folder / ONNX_FILE).is_file():
            return folder / ONNX_FILE
    graphs = sorted(path for folder in folders for path in folder.glob("*.onnx") if path.is_file())
    if len(graphs) > 1:
        files = ", ".join(str(path.relative_to(directory)) for path in graphs)
        raise ModelError(f"{name} holds several graphs, {files}; name one, such as {Path(name) / graphs[0].name}")
    return graphs[0] if graphs else None


def describe_graph(name: str, graph: Path, directory: Path) -> Export:
    """The facts about a graph that another program exported; its precision is read from its name.

    Raises:
        ModelError: the name says that its weights have fewer than eight bits.
    """
    suffix = graph.stem.partition("_")[2]
    if _BELOW_INT8.fullmatch(suffix):
        raise ModelError(f"{name}: {graph.name} has weights of fewer than eight bits; take model.onnx, or one in int8")
    named = [precision for names, precision in _PRECISIONS.items() if re.fullmatch(names, suffix)]
    sha256 = graph_sha256(graph)
    return Export(None, named[0] if named else "fp32", sha256, sha256, str(graph.relative_to(directory)))
