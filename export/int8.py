"""Eight-bit weights that keep the embeddings: a scale for each token of an activation, after smoothing.

A product by a weight becomes MatMulInteger between plain operators: each token's activation is rounded with a scale of
its own, so that an outlier in one token harms no other and a vector does not depend on the other texts of its batch.

Smoothing (SmoothQuant, arXiv 2211.10438) divides each column of an activation by s and multiplies the weight's row by
it, s = max|x|^a / max|w|^(1-a): outliers move from the activation, which has one scale a token, into the weight, which
has one a channel. After BERT's layer norms s cannot be folded away, since the residual needs the same numbers: it costs
a multiplication. benchmarks/int8.py measures this beside other recipes.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from nuner_embed.export.onnx_file import save_graph
from nuner_embed.models.onnx_export import graph_files
from nuner_embed.runtimes.padding import PaddedIds

ALPHA = 0.6  # the best of benchmarks/int8.py
# Unsigned with 128 for zero: signed weights saturate in the 16-bit sums of processors without VNNI.
_ZERO, _TOP = 128, 127
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


# What is tried, cheapest first: which products stay in fp32. The second of a feed-forward block always does: its input
# is so uneven that models which pass without it pass narrowly.
RECIPES: dict[str, Callable[[Products], list[str]]] = {
    "second feed-forward product left out": narrowing,
    "second feed-forward product and attention's values left out": lambda products: [
        *narrowing(products),
        *values(products),
    ],
    "second feed-forward product, attention's values and output left out": lambda products: [
        *narrowing(products),
        *values(products),
        *outputs(products),
    ],
}


def quantise(
    graph: Path,
    target: Path,
    batches: Sequence[PaddedIds],
    leave: Callable[[Products], list[str]] = narrowing,
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
    left = set(leave(products))
    chosen = [name for name in products if name not in left]
    smooth(model, activation_maxima(graph, chosen, batches), chosen)
    round_products(model, chosen)
    save_graph(model, target)


def weight_products(model: Any) -> dict[str, tuple[int, int]]:
    """The products of an activation by a weight that is a matrix, with the weight's shape."""
    shapes = {weight.name: tuple(weight.dims) for weight in model.graph.initializer if len(weight.dims) == 2}
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


def round_products(model: Any, products: Collection[str]) -> None:
    """Lets products by a weight run in eight bits, in place, with a scale for each token and each column.

    Args:
        model: a graph in fp32.
        products: the names of some of `weight_products`.
    """
    constants = {"zero": np.uint8(_ZERO), "top": np.float32(_TOP), "least": np.float32(1e-12), "one": np.float32(1)}
    for name, constant in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(constant), f"int8_{name}"))
    weights = {weight.name: weight for weight in model.graph.initializer}
    nodes, rounded = list(model.graph.node), set()
    del model.graph.node[:]
    for node in nodes:
        if node.name not in products:
            model.graph.node.append(node)
            continue
        activation, weight = node.input
        if activation not in rounded:
            model.graph.node.extend(_round_tokens(activation))
        if weight not in rounded:  # layers may share one
            model.graph.initializer.extend(_round_columns(weights[weight]))
        rounded |= {activation, weight}
        model.graph.node.extend(_multiply(activation, weight, node))
    uses = {name for node in model.graph.node for name in node.input}
    for name in rounded & weights.keys() - uses:
        model.graph.initializer.remove(weights[name])


def _round_tokens(x: str) -> list[Any]:
    """The nodes that round an activation (..., tokens, columns) with a scale for each token."""
    return [
        _node("Abs", [x], f"{x}_size"),
        helper.make_node("ReduceMax", [f"{x}_size"], [f"{x}_largest"], f"{x}_largest", axes=[-1], keepdims=1),
        _node("Max", [f"{x}_largest", "int8_least"], f"{x}_range"),  # a token of zeros divides by nothing
        _node("Div", [f"{x}_range", "int8_top"], f"{x}_scale"),
        _node("Div", ["int8_top", f"{x}_range"], f"{x}_inverse"),
        _node("Mul", [x, f"{x}_inverse"], f"{x}_steps"),
        _node("QuantizeLinear", [f"{x}_steps", "int8_one", "int8_zero"], f"{x}_rounded"),
    ]


def _round_columns(weight: Any) -> list[Any]:
    """A weight (rows, columns) in eight bits, and the scales of its columns."""
    tensor = numpy_helper.to_array(weight)
    scale = np.maximum(np.abs(tensor).max(axis=0) / _TOP, np.finfo(np.float32).tiny).astype(np.float32)
    rounded = (np.rint(tensor / scale) + _ZERO).astype(np.uint8)
    return [
        numpy_helper.from_array(rounded, f"{weight.name}_rounded"),
        numpy_helper.from_array(scale, f"{weight.name}_scale"),
    ]


def _multiply(x: str, weight: str, product: Any) -> list[Any]:
    """The nodes that compute a product from the rounded activation and weight."""
    name = product.name
    return [
        _node("MatMulInteger", [f"{x}_rounded", f"{weight}_rounded", "int8_zero", "int8_zero"], f"{name}_whole"),
        helper.make_node("Cast", [f"{name}_whole"], [f"{name}_float"], f"{name}_float", to=onnx.TensorProto.FLOAT),
        _node("Mul", [f"{name}_float", f"{weight}_scale"], f"{name}_columns"),
        helper.make_node("Mul", [f"{name}_columns", f"{x}_scale"], product.output, name),
    ]


def _node(operator: str, inputs: list[str], output: str) -> Any:
    return helper.make_node(operator, inputs, [output], output)


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
