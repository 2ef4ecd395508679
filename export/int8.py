"""Eight-bit weights that keep the embeddings: dynamic quantisation after smoothing.

Smoothing (SmoothQuant, arXiv 2211.10438) divides each column of an activation by s and multiplies the weight's row by
it, s = max|x|^a / max|w|^(1-a): outliers move from the activation, which has one scale, into the weight, which has one
a channel. After BERT's layer norms s cannot be folded away, since the residual needs the same numbers: it costs a
multiplication. benchmarks/int8.py measures this beside other recipes.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from nuner_embed.export.onnx_file import is_large, save_graph
from nuner_embed.models.onnx_export import graph_files
from nuner_embed.runtimes.padding import PaddedIds

ALPHA = 0.7  # the best of benchmarks/int8.py
# attention's values and its output, by the names that architectures give them
_VALUES = re.compile(r"/(value|v_proj|v_lin|value_proj)/")
_OUTPUTS = re.compile(r"/(attention/output/dense|attention/dense|attn/Wo|out_proj|o_proj|out_lin)/")
Products = Mapping[str, tuple[int, int]]


def narrowing(products: Products) -> list[str]:
    """The products whose weight has more rows than columns: the second of each feed-forward block."""
    return [name for name, (rows, columns) in products.items() if rows > columns]


def values(products: Products) -> list[str]:
    """The products that make attention's values."""
    return [name for name in products if _VALUES.search(name)]


def outputs(products: Products) -> list[str]:
    """The products that end an attention."""
    return [name for name in products if _OUTPUTS.search(name)]


# What is tried, cheapest first: which products stay in fp32.
RECIPES: dict[str, Callable[[Products], list[str]]] = {
    "smoothed": lambda products: [],
    "smoothed, second feed-forward product left out": narrowing,
    "smoothed, second feed-forward product and attention's values left out": lambda products: [
        *narrowing(products),
        *values(products),
    ],
    "smoothed, second feed-forward product, attention's values and output left out": lambda products: [
        *narrowing(products),
        *values(products),
        *outputs(products),
    ],
}


def quantise(
    graph: Path,
    target: Path,
    batches: Sequence[PaddedIds],
    leave: Callable[[Products], list[str]] = RECIPES["smoothed"],
) -> None:
    """Writes a copy of a graph whose products by a weight are in 8 bits; embeddings and attention stay as they are.

    Args:
        graph: in fp32.
        target: the copy.
        batches: real text, for the largest magnitude of each activation's columns.
        leave: picks the products by a weight, given with the weight's shape, that stay in fp32.
    """
    model = onnx.load(graph)
    products = weight_products(model)
    smooth(model, activation_maxima(graph, products, batches), products)
    smoothed = graph.with_name("smoothed.onnx")
    save_graph(model, smoothed)
    kept = [node.name for node in model.graph.node if node.op_type == "MatMul" and node.name not in products]
    kept += leave(products)
    large = is_large(sum(path.stat().st_size for path in graph_files(graph)))
    logging.disable(logging.WARNING)  # onnxruntime advises a preparation that changes nothing here
    try:
        quantize_dynamic(
            smoothed,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=kept,
            per_channel=True,
            weight_type=QuantType.QUInt8,  # signed weights saturate in the 16-bit sums of processors without VNNI
            use_external_data_format=large,
        )
    finally:
        logging.disable(logging.NOTSET)
    for path in graph_files(smoothed):
        path.unlink()


def weight_products(model: Any) -> dict[str, tuple[int, int]]:
    """The matrix products of an activation by a weight, with the weight's shape."""
    shapes = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    return {
        node.name: shapes[node.input[1]]
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in shapes and node.input[0] not in shapes
    }


def smooth(
    model: Any, largest: Mapping[str, NDArray[np.float32]], products: Iterable[str], alpha: float = ALPHA
) -> None:
    """Moves outliers from activations into weights, in place; the graph computes the same in fp32.

    Args:
        model: a graph in fp32.
        largest: the largest magnitude of each column, by activation.
        products: the names of the products whose weights take them.
        alpha: how much of an outlier moves.
    """
    weights = {weight.name: weight for weight in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    chosen = set(products)
    by_input: dict[str, list[Any]] = {}
    for node in model.graph.node:
        if node.name in chosen and uses[node.input[1]] == 1:  # a weight that layers share cannot suit them all
            by_input.setdefault(node.input[0], []).append(node)
    scalings = {name: _smooth_one(model, name, largest[name], by_input[name], weights, alpha) for name in by_input}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        model.graph.node.append(node)
        model.graph.node.extend(scalings[name] for name in node.output if name in scalings)


def _smooth_one(
    model: Any, name: str, largest: NDArray[np.float32], products: list[Any], weights: Mapping[str, Any], alpha: float
) -> Any:
    """Scales the weights of all products of one activation and feeds them through the node that is returned."""
    tensors = [numpy_helper.to_array(weights[node.input[1]]) for node in products]
    magnitude = np.maximum(np.max([np.abs(tensor).max(axis=1) for tensor in tensors], axis=0), 1e-5)
    scale = np.maximum(largest, 1e-5) ** alpha / magnitude ** (1 - alpha)
    smoothed, inverse = f"{name}_smoothed", f"{name}_inverse_scale"
    model.graph.initializer.append(numpy_helper.from_array((1 / scale).astype(np.float32), inverse))
    for node, tensor in zip(products, tensors, strict=True):
        scaled = (tensor * scale[:, None]).astype(np.float32)
        weights[node.input[1]].CopyFrom(numpy_helper.from_array(scaled, node.input[1]))
        node.input[0] = smoothed
    return helper.make_node("Mul", [name, inverse], [smoothed], name=smoothed)


def activation_maxima(
    graph: Path, products: Iterable[str], batches: Sequence[PaddedIds]
) -> dict[str, NDArray[np.float32]]:
    """The largest magnitude of each column of what goes into some products, over some unpadded batches."""
    model = onnx.load(graph)
    chosen = set(products)
    names = list(dict.fromkeys(node.input[0] for node in model.graph.node if node.name in chosen))
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    observed = graph.with_name("observed.onnx")
    save_graph(model, observed)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # keeps the names
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(observed), options, providers=["CPUExecutionProvider"])
    largest: dict[str, NDArray[np.float32]] = {}
    for ids, mask in batches:
        found = session.run(names, {"input_ids": ids, "attention_mask": mask})
        for name, value in zip(names, found, strict=True):
            columns = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            largest[name] = np.maximum(largest[name], columns) if name in largest else columns
    for path in graph_files(observed):
        path.unlink()
    return largest
