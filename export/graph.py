"""Tracing the text encoder into one ONNX file."""

import warnings
from pathlib import Path

import torch

from nuner_embed.runtimes.torch import SelectedLayers

OPSET = 17
INPUTS = ("input_ids", "attention_mask")
OUTPUT = "token_embeddings"


def write_graph(network: SelectedLayers, path: Path) -> None:
    """Writes a graph from `input_ids` and `attention_mask` (batch, length) to `token_embeddings` (batch, length, dim).

    Batch and length are dynamic, the selected hidden states are concatenated inside, no pooler is part of it.
    """
    example = torch.tensor([[5, 6, 7, 8], [6, 7, 8, 5]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with warnings.catch_warnings():
        # Of torch's two exporters the tracing one is used on purpose, deprecated as it is: onnxruntime fuses its
        # attention blocks at load time and not those of the newer one, which run a fifth slower (2.13, 1.32).
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        torch.onnx.export(
            network,
            (example, mask),
            str(path),
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in (*INPUTS, OUTPUT)},
            opset_version=OPSET,
            dynamo=False,
        )
