"""Rounding of a graph's weights to eight bits as OpenVINO reads the graph, for its own eight-bit matrix products."""

from typing import TYPE_CHECKING, Any

import numpy as np

from nuner_embed.machine import cpu_features

if TYPE_CHECKING:
    import openvino as ov

# Numbers of an activation that share a scale. Of the neighbours in nuner-mini and all-MiniLM-L6-v2 64 keep 0.962 and
# 0.975; 128 keep 0.958 and 0.972 and are a tenth faster, 32 keep 0.964 and 0.978 and are a fifth slower, at most.
GROUP = 64
_VNNI = ("avx512_vnni", "avx_vnni")
_FEWEST = 1 << 12  # numbers of a matrix that is worth it


def has_vnni() -> bool:
    """Whether this processor multiplies eight-bit numbers in one instruction; OpenVINO uses float32 where not."""
    return any(name in cpu_features() for name in _VNNI)


def round_weights(model: "ov.Model", opset: Any) -> int:
    """Puts eight-bit weights, with a scale for each output, in the place of the float32 weights of matrix products.

    OpenVINO rounds the activations itself, in groups, as it multiplies. Embeddings and all else stay as they are.

    Args:
        model: as read; it is changed.
        opset: OpenVINO's module of operations.

    Returns:
        The number of matrices.
    """
    done = 0
    for product in model.get_ops():
        if product.get_type_name() != "MatMul":
            continue
        constant = product.input_value(1).get_node()
        if constant.get_type_name() != "Constant" or len(constant.shape) != 2 or np.prod(constant.shape) < _FEWEST:
            continue
        weights = constant.data.astype(np.float32)
        inputs = 1 if product.get_attributes()["transpose_b"] else 0  # the axis that is summed over
        scale = np.maximum(np.abs(weights).max(axis=inputs, keepdims=True) / 127, np.finfo(np.float32).tiny)
        rounded = opset.constant(np.rint(weights / scale).astype(np.int8))
        restored = opset.multiply(opset.convert(rounded, "f32"), opset.constant(scale.astype(np.float32)))
        product.input(1).replace_source_output(restored.output(0))
        done += 1
    return done
