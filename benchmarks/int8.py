"""Measures accuracy and speed of int8 recipes against fp32; `export --precision int8` is based on the results.

    python benchmarks/int8.py [--rounds 3]

Every recipe quantises the products of activations by weights in the exported graphs of minilm-l6 and nuner-mini;
embeddings and attention products stay in fp32. Accuracy is measured as by `nuner-embed verify`, on one half of the
bundled corpus, with every window alone, sorted by length and padded against another. The other half is used for
calibration. Speed is that of ONNX Runtime against fp32 in the same run.
"""

import argparse
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from common import WORK, keep, machine
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

from nuner_embed import export_onnx
from nuner_embed.bundled import bundled_texts
from nuner_embed.export.int8 import activation_maxima, narrowing, smooth, values, weight_products
from nuner_embed.export.onnx_file import save_graph
from nuner_embed.machine import cpu_features
from nuner_embed.models.onnx_export import ONNX_FILE, graph_sha256
from nuner_embed.models.resolver import GraphModel, locate
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.runtimes.base import RuntimeOptions
from nuner_embed.runtimes.onnx import OnnxRuntime
from nuner_embed.runtimes.padding import PaddedIds, pad
from nuner_embed.runtimes.parity import GATES, Reference, compare, cut_windows, speeds

MODELS = ("minilm-l6", "nuner-mini")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="the median of these is reported")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    rows = [row for model in MODELS for row in measure(model, arguments.rounds)]
    report(rows)


def measure(name: str, rounds: int) -> list[dict[str, Any]]:
    """Measures every recipe on one model."""
    export_onnx(name, WORK / name, force=True)
    model = locate(str(WORK / name))
    assert isinstance(model, GraphModel)
    reference = Reference.load(model.reference, model.config.vocabulary)
    exact = OnnxRuntime(model, model.recipe, RuntimeOptions())
    calibration = calibration_batches(model)
    rows = []
    for recipe, make in recipes(model.graph, calibration).items():
        path = make(WORK / "int8" / ONNX_FILE)
        found = quantised(model, path)
        agreement = compare(found, reference)
        ratios = sorted(best_speed(found, reference) / best_speed(exact, reference) for _ in range(rounds))
        rows.append(
            {
                "model": name,
                "recipe": recipe,
                "tokens": reference.tokens,
                "min_cosine": agreement.min_cosine,
                "mean_cosine": agreement.mean_cosine,
                "neighbour_overlap": agreement.neighbour_overlap,
                "passed": agreement.passes(GATES["int8"]),
                "speed_ratio": ratios[len(ratios) // 2],
                "speed_ratios": ratios,
                "bytes": path.stat().st_size,
            }
        )
        print(rows[-1])
    return rows


def calibration_batches(model: GraphModel) -> list[PaddedIds]:
    """The half of the bundled corpus that the reference does not use, one window per batch."""
    texts = bundled_texts()[1::2]
    windows = cut_windows(TextTokenizer.from_directory(model.directory), texts, model.recipe.max_length, 10_000)
    return [pad([window], model.config.pad_id) for window in windows]


def quantised(model: GraphModel, path: Path) -> OnnxRuntime:
    export = replace(model.export, precision="int8", graph_sha256=graph_sha256(path))
    return OnnxRuntime(replace(model, directory=path.parent, export=export), model.recipe, RuntimeOptions())


def best_speed(runtime: OnnxRuntime, reference: Reference) -> float:
    return max(speeds(runtime, reference).values())


def recipes(source: Path, calibration: list[PaddedIds]) -> dict[str, Callable[[Path], Path]]:
    """Every recipe by name, as a function that writes its graph."""
    products = weight_products(onnx.load(source))
    maxima = activation_maxima(source, products, calibration)
    kept = [
        node.name for node in onnx.load(source).graph.node if node.op_type == "MatMul" and node.name not in products
    ]

    def fresh(path: Path) -> None:
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()

    def dynamic(graph: Path = source, leave: Sequence[str] = (), **options: Any) -> Callable[[Path], Path]:
        def make(path: Path) -> Path:
            if graph == source:
                fresh(path)
            options.setdefault("weight_type", QuantType.QUInt8)
            quantize_dynamic(graph, path, op_types_to_quantize=["MatMul"], nodes_to_exclude=[*kept, *leave], **options)
            return path

        return make

    def smoothed(alpha: float, leave: Sequence[str] = ()) -> Callable[[Path], Path]:
        def make(path: Path) -> Path:
            fresh(path)
            model = onnx.load(source)
            smooth(model, maxima, products, alpha)
            graph = path.with_name("smoothed.onnx")
            save_graph(model, graph)
            return dynamic(graph, leave, per_channel=True)(path)

        return make

    def static(path: Path) -> Path:
        fresh(path)
        quantize_static(
            source, path, Reader(calibration), op_types_to_quantize=["MatMul"], nodes_to_exclude=kept,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        return path

    left = "second feed-forward product left out"
    return {
        "dynamic, a scale a matrix": dynamic(weight_type=QuantType.QInt8),
        "dynamic, a scale a channel": dynamic(per_channel=True),
        f"dynamic, a scale a channel, {left}": dynamic(per_channel=True, leave=narrowing(products)),
        "static QDQ, a scale a channel": static,
        **{f"smoothed {alpha}": smoothed(alpha) for alpha in (0.5, 0.6, 0.7, 0.8)},
        **{f"smoothed {alpha}, {left}": smoothed(alpha, narrowing(products)) for alpha in (0.5, 0.6, 0.7, 0.8)},
        "smoothed 0.7, second feed-forward product and attention's values left out": smoothed(
            0.7, [*narrowing(products), *values(products)]
        ),
    }


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Passes the calibration windows to ONNX Runtime one by one."""

    def __init__(self, batches: list[PaddedIds]) -> None:
        self.batches: Iterator[PaddedIds] = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self.batches, None)
        return {"input_ids": batch[0], "attention_mask": batch[1]} if batch else None


def report(rows: list[dict[str, Any]]) -> None:
    table = "| model | int8 recipe | mean cosine | minimum | overlap of 10 neighbours | speed | MB | gate |\n"
    table += "|---|---|---|---|---|---|---|---|\n"
    for row in rows:
        table += (
            f"| {row['model']} | {row['recipe']} | {row['mean_cosine']:.4f} | {row['min_cosine']:.3f} "
            f"| {row['neighbour_overlap']:.4f} | {row['speed_ratio']:.2f}x | {row['bytes'] / 1e6:.0f} "
            f"| {'passes' if row['passed'] else 'fails'} |\n"
        )
    table += (
        f"\nAgainst torch in fp32, {rows[0]['tokens']:,} tokens; speed against the "
        f"fp32 graph in ONNX Runtime, each at its best batch budget. The gate: {GATES['int8']}. This processor has "
        f"{', '.join(cpu_features())}.\n"
    )
    keep("int8", {"machine": machine("onnxruntime", "onnx", "numpy"), "rows": rows}, table)


if __name__ == "__main__":
    main()
