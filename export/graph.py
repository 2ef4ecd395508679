"""Tracing the text encoder into an ONNX graph."""

import contextlib
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import onnx
import torch
import transformers

from nuner_embed.export.onnx_file import is_large, save_graph
from nuner_embed.runtimes.torch import SelectedLayers, quiet_transformers

OPSET = 17
INPUTS = ("input_ids", "attention_mask")
OUTPUT = "token_embeddings"
_MASKS_FROM_POSITIONS = ((5, 4), (5, 8))  # the first and the last version of transformers


def write_graph(network: SelectedLayers, path: Path) -> None:
    """Writes a graph from `input_ids` and `attention_mask` (batch, length) to `token_embeddings` (batch, length, dim).

    Batch and length are dynamic, the selected hidden states are concatenated inside, no pooler is part of it.
    """
    example = torch.tensor([[5, 6, 7, 8], [6, 7, 8, 5]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    # torch prints the whole graph where an operator has no counterpart
    quiet = contextlib.redirect_stdout(io.StringIO())
    with warnings.catch_warnings(), quiet, _eager_attention(network), _plain_functions(network), _traced_lengths():
        # Of torch's two exporters the tracing one is used on purpose, deprecated as it is: onnxruntime's optimiser
        # fuses its attention blocks and not those of the newer one, which run a fifth slower (2.13, 1.32).
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", message="To copy construct from a tensor")  # in DeBERTa's own code
        warnings.filterwarnings("ignore", message="Constant folding - Only steps=1")  # of MobileBERT's reversed slices
        # transformers 5 makes its masks with indices from arange, none of them negative
        warnings.filterwarnings("ignore", message="Exporting aten::index operator of advanced indexing")
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
    others = [other for other in path.parent.iterdir() if other != path]  # torch's, for a graph of over 2 GiB
    if others or is_large(path.stat().st_size):
        model = onnx.load(path)
        for other in others:
            other.unlink()
        save_graph(model, path)


@contextlib.contextmanager
def _eager_attention(network: SelectedLayers) -> Iterator[None]:
    """Has attention computed by matrix products and a softmax while tracing: ONNX Runtime's optimiser fuses those.

    The single operation that transformers calls otherwise leaves a mask in the graph that transformers 5 computes in
    a way unknown to the optimiser.
    """
    chosen = network.network.config._attn_implementation
    with quiet_transformers():  # transformers 4 cannot change BERT's, and says so; that one is fused as it is
        network.network.set_attn_implementation("eager")
    try:
        yield
    finally:
        with quiet_transformers():
            network.network.set_attn_implementation(chosen)


@contextlib.contextmanager
def _plain_functions(network: torch.nn.Module) -> Iterator[None]:
    """Puts Python functions in the place of those that a network's module compiled with TorchScript.

    DeBERTa's would leave If operators in the graph, which OpenVINO does not take.
    """
    with contextlib.ExitStack() as stack:
        for module in {sys.modules[type(part).__module__] for part in network.modules()}:
            for name, value in list(vars(module).items()):
                plain = getattr(value, "_torchdynamo_inline", None)
                if isinstance(value, torch.jit.ScriptFunction) and plain:
                    stack.enter_context(mock.patch.object(module, name, plain))
        yield


@contextlib.contextmanager
def _traced_lengths() -> Iterator[None]:
    """Lets transformers 5.4 to 5.8 make a mask while torch traces.

    A traced length is a tensor, and these versions take a tensor for the positions that a mask was made from in earlier
    versions, which they still accept: so they get positions.
    """
    first, last = _MASKS_FROM_POSITIONS
    if not first <= tuple(map(int, transformers.__version__.split(".")[:2])) <= last:
        yield
        return
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    def from_positions(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*, q_length: int | torch.Tensor, **rest: Any) -> Any:
            traced = isinstance(q_length, torch.Tensor) and not q_length.ndim
            return make(q_length=torch.arange(q_length) if traced else q_length, **rest)

        return made

    makers = {name: from_positions(ALL_MASK_ATTENTION_FUNCTIONS[name]) for name in ("eager", "sdpa")}
    patched = mock.patch.dict(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, makers)
    with patched, quiet_transformers():  # which says that positions are deprecated
        yield
