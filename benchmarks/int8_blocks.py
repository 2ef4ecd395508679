"""A weight in eight bits, with a scale for each block of a column: the operator MatMulNBits of ONNX Runtime.

ONNX Runtime also rounds the activation to eight bits, with a scale for each token and block of columns. OpenVINO reads
the operator too; on processors without VNNI it keeps the activation in fp32.
"""

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_DOMAIN = "com.microsoft"
_ZERO = 128  # what the operator takes for zero where it is given no zero points
_INTEGERS = 4  # the operator's accuracy level that multiplies in eight bits


def quantise_blocks(model: Any, products: Collection[str], block: int) -> None:
    """Replaces products by a weight with MatMulNBits, in place.

    Args:
        model: a graph in fp32.
        products: the names of MatMul nodes whose second input is a weight of two axes.
        block: number of rows of a weight that share a scale, a power of two from 16.
    """
    weights = {weight.name: weight for weight in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.name in products]
    packed: dict[str, tuple[str, str]] = {}
    for node in nodes:
        activation, weight = node.input
        if weight not in packed:  # layers may share one
            parts = pack(numpy_helper.to_array(weights[weight]), block)
            packed[weight] = (f"{weight}_blocks", f"{weight}_scales")
            model.graph.initializer.extend(
                numpy_helper.from_array(part, name) for part, name in zip(parts, packed[weight], strict=True)
            )
        rows, columns = weights[weight].dims
        attributes = {"K": rows, "N": columns, "bits": 8, "block_size": block, "accuracy_level": _INTEGERS}
        node.CopyFrom(
            helper.make_node(
                "MatMulNBits", [activation, *packed[weight]], node.output, node.name, domain=_DOMAIN, **attributes
            )
        )
    uses = Counter(name for node in model.graph.node for name in node.input)
    for weight in packed:
        if not uses[weight]:
            model.graph.initializer.remove(weights[weight])
    if packed and _DOMAIN not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))


def pack(weight: NDArray[np.float32], block: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Rounds a weight to eight bits, as MatMulNBits reads it.

    Args:
        weight: (rows, columns).
        block: number of rows that share a scale; the last block is filled up with zeros.

    Returns:
        The rounded numbers plus 128, (columns, blocks, block), and their scales, (columns, blocks).
    """
    rows, columns = weight.shape
    blocks = -(-rows // block)
    filled = np.zeros((columns, blocks * block), np.float32)
    filled[:, :rows] = weight.T
    parts = filled.reshape(columns, blocks, block)
    scales = np.maximum(np.abs(parts).max(axis=2) / 127, np.finfo(np.float32).tiny)
    return (np.rint(parts / scales[:, :, None]) + _ZERO).astype(np.uint8), scales
