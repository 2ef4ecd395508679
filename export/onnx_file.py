"""Writing ONNX graphs of any size."""

from pathlib import Path
from typing import Any

import onnx

from nuner_embed.models.onnx_export import graph_files, weights_path

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
