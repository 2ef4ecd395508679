"""Half precision: the same graph with float16 weights and arithmetic."""

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from nuner_embed.export.onnx_file import save_graph


def to_half(graph: Path) -> None:
    """Converts a graph in place; its output becomes float16 too."""
    save_graph(convert_float_to_float16(onnx.load(graph), keep_io_types=False), graph)
