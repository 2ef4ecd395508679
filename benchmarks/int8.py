"""How far int8 recipes are from fp32, and how fast: what `export --precision int8` may be built on.

    python benchmarks/int8.py [--rounds 3]

Every recipe quantises the weights' matrix products of the exported minilm-l6 graph; embeddings and attention products
stay in fp32. Measured on the bundled corpus, token by token: cosine to fp32, overlap of the ten nearest neighbours
among all tokens, speed of ONNX Runtime against fp32 in the same run. Calibrated on other sentences of that corpus.

Smoothing (as in SmoothQuant, arXiv 2211.10438) divides each column of an activation by s and multiplies the weight's
row by it, s = max|x|^a / max|w|^(1-a): outliers move from the activation, which has one scale, into the weight, which
has one a channel. After BERT's layer norms s cannot be folded away, since the residual needs the same numbers: it costs
a multiplication.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from common import WORK, keep, machine
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

from nuner_embed import export_onnx
from nuner_embed.bundled import DOCUMENTS, SENTENCES
from nuner_embed.machine import cores
from nuner_embed.models import TextTokenizer
from nuner_embed.runtimes.base import Batch, pad

MIN_MEAN_COSINE, MIN_OVERLAP, NEIGHBOURS = 0.995, 0.95, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    export_onnx("minilm-l6", WORK / "model", force=True)
    measured, calibration = windows(WORK / "model")
    results = {}
    plain = measure(WORK / "model" / "model.onnx", measured, arguments.rounds)
    for name, make in recipes(WORK / "model" / "model.onnx", calibration).items():
        path = make(WORK / "int8.onnx")
        results[name] = compare(plain, measure(path, measured, arguments.rounds)) | {"bytes": path.stat().st_size}
        print(name, results[name])
    report(results, len(plain[0]))


def windows(model: Path) -> tuple[list[list[int]], list[list[int]]]:
    """Windows to measure on, and others to calibrate with."""
    tokenizer = TextTokenizer.from_directory(model)
    texts = [[json.loads(line)["text"] for line in path.read_text().splitlines()] for path in (SENTENCES, DOCUMENTS)]
    ids = [
        [[*tokenizer.prefix, *map(int, ids[: 256 - tokenizer.specials]), *tokenizer.suffix] for ids, _ in encoded]
        for encoded in map(tokenizer.encode, texts)
    ]
    return ids[0][::5] + ids[1][:4], ids[0][2::5] + ids[1][6:9]


def recipes(source: Path, calibration: list[list[int]]) -> dict[str, Callable[[Path], Path]]:
    """Every recipe by name, as a function that writes its graph."""
    model = onnx.load(source)
    products = weight_products(model)
    narrowing = [name for name, (rows, columns) in products.items() if rows > columns]  # after the activation function
    kept = [
        node.name for node in onnx.load(source).graph.node if node.op_type == "MatMul" and node.name not in products
    ]

    def dynamic(graph: Path = source, leave: Sequence[str] = (), **options: Any) -> Callable[[Path], Path]:
        def make(path: Path) -> Path:
            options.setdefault("weight_type", QuantType.QUInt8)
            quantize_dynamic(graph, path, op_types_to_quantize=["MatMul"], nodes_to_exclude=[*kept, *leave], **options)
            return path

        return make

    def smoothed(alpha: float, leave: Sequence[str] = ()) -> Callable[[Path], Path]:
        def make(path: Path) -> Path:
            graph = smooth(source, path.with_name("smooth.onnx"), calibration, list(products), alpha)
            return dynamic(graph, leave, per_channel=True)(path)

        return make

    def static(path: Path) -> Path:
        quantize_static(
            source, path, Reader(calibration), op_types_to_quantize=["MatMul"], nodes_to_exclude=kept,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        return path

    return {
        "dynamic, a scale a matrix": dynamic(weight_type=QuantType.QInt8),
        "dynamic, a scale a channel": dynamic(per_channel=True),
        "the same, second feed-forward product left out": dynamic(per_channel=True, leave=narrowing),
        "static QDQ, a scale a channel": static,
        "smoothed 0.5, a scale a channel": smoothed(0.5),
        "smoothed 0.8, a scale a channel": smoothed(0.8),
        "smoothed 0.8, second feed-forward product left out": smoothed(0.8, narrowing),
    }


def weight_products(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """The matrix products by a constant, with its shape."""
    shapes = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    return {
        node.name: shapes[node.input[1]]
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in shapes
    }


def smooth(source: Path, path: Path, calibration: list[list[int]], products: list[str], alpha: float) -> Path:
    """Writes the graph with outliers moved from activations into weights; computes the same in fp32."""
    model = onnx.load(source)
    weights = {weight.name: weight for weight in model.graph.initializer}
    by_input: dict[str, list[Any]] = {}
    for node in model.graph.node:
        if node.name in products:
            by_input.setdefault(node.input[0], []).append(node)
    largest = activation_maxima(source, calibration, list(by_input))
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for name in node.output:
            for product in by_input.get(name, ()):
                weight = numpy_helper.to_array(weights[product.input[1]])
                scale = largest[name] ** alpha / np.maximum(np.abs(weight).max(axis=1), 1e-5) ** (1 - alpha)
                scaled, inverse = f"{product.name}_smooth", f"{product.name}_inverse"
                model.graph.initializer.append(numpy_helper.from_array((1 / scale).astype(np.float32), inverse))
                weights[product.input[1]].CopyFrom(
                    numpy_helper.from_array((weight * scale[:, None]).astype(np.float32), product.input[1])
                )
                product.input[0] = scaled
                nodes.append(helper.make_node("Mul", [name, inverse], [scaled], name=scaled))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)
    return path


def activation_maxima(source: Path, calibration: list[list[int]], names: list[str]) -> dict[str, np.ndarray]:
    """The largest magnitude of each column of some activations."""
    model = onnx.load(source)
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # keeps the names
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    largest: dict[str, np.ndarray] = {}
    for row in calibration:
        for name, value in zip(names, session.run(names, feed(pad([row], 0))), strict=True):
            here = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            largest[name] = np.maximum(largest.get(name, 1e-5), here)
    return largest


class Reader(CalibrationDataReader):
    """Hands the calibration windows over, one by one."""

    def __init__(self, calibration: list[list[int]]) -> None:
        self.rows: Iterator[list[int]] = iter(calibration)

    def get_next(self) -> dict[str, Any] | None:
        row = next(self.rows, None)
        return None if row is None else feed(pad([row], 0))


def feed(batch: Batch) -> dict[str, Any]:
    return {"input_ids": batch[0], "attention_mask": batch[1]}


def measure(path: Path, rows: list[list[int]], rounds: int) -> tuple[np.ndarray, float]:
    """Vectors of all tokens but the special ones, (n, dim), and the median seconds of a round."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    seconds = []
    for _ in range(rounds + 1):  # the first warms up
        began = time.perf_counter()
        states = [session.run(None, feed(pad([row], 0)))[0][0, 1:-1] for row in rows]
        seconds.append(time.perf_counter() - began)
    return np.concatenate(states), statistics.median(seconds[1:])


def compare(plain: tuple[np.ndarray, float], other: tuple[np.ndarray, float]) -> dict[str, float | bool]:
    a, b = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors, _ in (plain, other))
    cosine = (a * b).sum(axis=1)
    near = [np.argpartition(-(v @ v.T) + 9 * np.eye(len(v)), NEIGHBOURS, axis=1)[:, :NEIGHBOURS] for v in (a, b)]
    overlap = np.mean([len({*x} & {*y}) / NEIGHBOURS for x, y in zip(*near, strict=True)])
    mean = float(cosine.mean())
    return {
        "mean_cosine": mean,
        "min_cosine": float(cosine.min()),
        "neighbour_overlap": float(overlap),
        "speed_ratio": plain[1] / other[1],
        "passed": bool(mean >= MIN_MEAN_COSINE and overlap >= MIN_OVERLAP),
    }


def report(results: dict[str, Any], tokens: int) -> None:
    table = "| int8 recipe | mean cosine | minimum | overlap of 10 neighbours | speed | MB | gate |\n"
    table += "|---|---|---|---|---|---|---|\n"
    for name, row in results.items():
        table += (
            f"| {name} | {row['mean_cosine']:.4f} | {row['min_cosine']:.3f} | {row['neighbour_overlap']:.3f} "
            f"| {row['speed_ratio']:.2f}x | {row['bytes'] / 1e6:.0f} | {'passes' if row['passed'] else 'fails'} |\n"
        )
    table += (
        f"\nAgainst the fp32 graph in ONNX Runtime, {tokens:,} tokens of the bundled corpus, a window at a time. "
        f"The gate of step 2: mean cosine {MIN_MEAN_COSINE}, overlap {MIN_OVERLAP}.\n"
    )
    keep("int8", {"machine": machine("onnxruntime", "onnx", "numpy"), "rows": results}, table)


if __name__ == "__main__":
    main()
