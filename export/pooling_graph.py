"""The small ONNX graphs that make rows of hidden states on a device; `python -m nuner_embed.export.pooling_graph`.

They ship as files in `nuner_embed/runtimes/`, because the package onnx is not installed where models only run.
"""

from pathlib import Path

from onnx import TensorProto, helper

from nuner_embed.export.graph import OPSET
from nuner_embed.runtimes.graph_pooling import StatesDtype, graph_path

_IR_VERSION = 8  # of the onnx that has this operator set; later ones would be refused by an older onnxruntime
_TYPES: dict[StatesDtype, int] = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}


def pooling_graph(states: StatesDtype) -> bytes:
    """A graph for hidden states of a dtype; see `graph_pooling.GraphPooling` for its inputs and outputs."""
    node, value = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("GatherND", ["states", "tokens"], ["taken"]),
        node("Cast", ["taken"], ["exact"], to=TensorProto.FLOAT),
        node("Mul", ["exact", "inside"], ["own"]),  # a row's places beyond its size hold its first token
        node("ReduceSum", ["own", "token_axis"], ["sums"], keepdims=0),
        node("Div", ["sums", "sizes"], ["means"]),
        node("ReduceL2", ["means"], ["norms"], axes=[1], keepdims=1),
        node("Max", ["norms", "shortest"], ["lengths"]),
        node("Where", ["normalize", "lengths", "one"], ["divisors"]),
        node("Div", ["means", "divisors"], ["float32"]),
        node("Mul", ["float32", "zero"], ["nothing"]),  # 0, but NaN where a number is infinite
        node("Add", ["float32", "nothing"], ["marked"]),
        node("Cast", ["marked"], ["float16"], to=TensorProto.FLOAT16),
    ]
    inputs = [
        value("states", _TYPES[states], ["batch", "length", "dim"]),
        value("tokens", TensorProto.INT64, ["rows", "places", 2]),
        value("inside", TensorProto.FLOAT, ["rows", "places", 1]),
        value("sizes", TensorProto.FLOAT, ["rows", 1]),
        value("normalize", TensorProto.BOOL, [1]),
    ]
    outputs = [value(name, kind, ["rows", "dim"]) for name, kind in _TYPES.items()]
    constants = [
        helper.make_tensor("token_axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("shortest", TensorProto.FLOAT, [1], [1e-12]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
    ]
    graph = helper.make_graph(nodes, "pooling", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
    return bytes(model.SerializeToString(deterministic=True))


def write_pooling_graphs() -> list[Path]:
    """Writes the graphs into the package."""
    paths = []
    for states in _TYPES:
        path = Path(str(graph_path(states)))
        path.write_bytes(pooling_graph(states))
        paths.append(path)
    return paths


if __name__ == "__main__":
    write_pooling_graphs()
