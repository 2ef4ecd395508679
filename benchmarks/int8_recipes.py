"""The int8 recipes that benchmarks/int8.py compares, each a function that writes a graph."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from int8_blocks import quantise_blocks
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

from nuner_embed.export.int8 import (
    activation_maxima,
    narrowing,
    outputs,
    round_products,
    smooth,
    values,
    weight_products,
)
from nuner_embed.export.onnx_file import save_graph
from nuner_embed.models.onnx_export import ONNX_FILE
from nuner_embed.runtimes.onnx import OnnxRuntime
from nuner_embed.runtimes.openvino import OpenVinoRuntime, ov
from nuner_embed.runtimes.padding import PaddedIds

IR_FILE = "model.xml"  # OpenVINO's own format
Runtimes = tuple[type[OnnxRuntime] | type[OpenVinoRuntime], ...]
BOTH: Runtimes = (OnnxRuntime, OpenVinoRuntime)
# the products that NNCF can leave in fp32, by patterns for the names of BERT's
_SECOND, _ATTENTION = r".*layer\.\d+/output/dense/MatMul.*", r".*/self/MatMul.*"
_VALUES, _OUTPUTS = ".*/self/value/MatMul.*", ".*/attention/output/dense/MatMul.*"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A way to quantise a graph.

    Attributes:
        make: writes the graph to a path.
        file: name of the graph's file.
        runtimes: that can run it.
    """

    make: Callable[[Path], None]
    file: str = ONNX_FILE
    runtimes: Runtimes = BOTH


def recipes(source: Path, calibration: list[PaddedIds]) -> dict[str, Recipe]:
    """Every recipe by name, those of NNCF where it is installed."""
    found = _own(source, calibration)
    if importlib.util.find_spec("nncf"):
        found.update(_of_nncf(source, calibration))
    return found


def _own(source: Path, calibration: list[PaddedIds]) -> dict[str, Recipe]:
    products = weight_products(onnx.load(source))
    maxima = activation_maxima(source, products, calibration)
    kept = [
        node.name for node in onnx.load(source).graph.node if node.op_type == "MatMul" and node.name not in products
    ]

    def batch(leave: Sequence[str] = (), alpha: float | None = None) -> Recipe:
        def make(path: Path) -> None:
            model = onnx.load(source)
            if alpha is not None:
                smooth(model, maxima, products, alpha)
            graph = path.with_name("before.onnx")
            save_graph(model, graph)
            quantize_dynamic(
                graph, path, op_types_to_quantize=["MatMul"], nodes_to_exclude=[*kept, *leave], per_channel=True,
                weight_type=QuantType.QUInt8,
            )  # fmt: skip
            graph.unlink()

        return Recipe(make)

    def static(path: Path) -> None:
        quantize_static(
            source, path, Reader(calibration), op_types_to_quantize=["MatMul"], nodes_to_exclude=kept,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip

    def blocks(block: int) -> Recipe:
        def make(path: Path) -> None:
            model = onnx.load(source)
            quantise_blocks(model, products, block)
            save_graph(model, path)

        return Recipe(make)

    def tokens(leave: Sequence[str] = (), alpha: float | None = None) -> Recipe:
        def make(path: Path) -> None:
            model = onnx.load(source)
            chosen = [name for name in products if name not in leave]
            if alpha is not None:
                smooth(model, maxima, chosen, alpha)
            round_products(model, chosen)
            save_graph(model, path)

        return Recipe(make)

    second, of_values, ends = narrowing(products), values(products), outputs(products)
    return {
        "static QDQ": Recipe(static),
        "a scale a batch": batch(),
        "a scale a batch, smoothed 0.7, second left out": batch(second, 0.7),
        "a scale a batch, smoothed 0.7, second and values left out": batch([*second, *of_values], 0.7),
        "a scale a batch, smoothed 0.7, second, values and output left out": batch([*second, *of_values, *ends], 0.7),
        "a scale a token": tokens(),
        "a scale a token, smoothed 0.5": tokens(alpha=0.5),
        "a scale a token, second left out": tokens(second),
        **{f"a scale a token, smoothed {a}, second left out": tokens(second, a) for a in (0.6, 0.7)},
        "a scale a token and 64 columns": blocks(64),
    }


def _of_nncf(source: Path, calibration: list[PaddedIds]) -> dict[str, Recipe]:
    """What optimum-intel hands to NNCF, with its parameters chosen here."""
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters

    def quantised(model: Any, alpha: float, leave: Sequence[str]) -> Any:
        batches = nncf.Dataset(
            calibration, lambda batch: dict(zip(("input_ids", "attention_mask"), batch, strict=True))
        )
        return nncf.quantize(
            model,
            batches,
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(patterns=list(leave)),
            advanced_parameters=AdvancedQuantizationParameters(
                smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=alpha)
            ),
        )

    def static(alpha: float, *leave: str) -> Recipe:
        def make(path: Path) -> None:
            model = quantised(ov.Core().read_model(str(source)), alpha, leave)
            ov.save_model(model, str(path), compress_to_fp16=False)

        return Recipe(make, IR_FILE, (OpenVinoRuntime,))

    def compressed(path: Path) -> None:
        model = nncf.compress_weights(ov.Core().read_model(str(source)), mode=nncf.CompressWeightsMode.INT8_SYM)
        model.set_rt_info("64", ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])  # of activations, with VNNI
        ov.save_model(model, str(path), compress_to_fp16=False)

    return {
        **{f"NNCF {alpha}": static(alpha) for alpha in (0.7, 0.95)},
        "NNCF 0.7, second left out": static(0.7, _SECOND),
        "NNCF 0.7, second, attention's own products, values and output left out": static(
            0.7, _SECOND, _ATTENTION, _VALUES, _OUTPUTS
        ),
        "NNCF, weights alone": Recipe(compressed, IR_FILE, (OpenVinoRuntime,)),
    }


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Passes the calibration windows to ONNX Runtime one by one."""

    def __init__(self, batches: list[PaddedIds]) -> None:
        self.batches: Iterator[PaddedIds] = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self.batches, None)
        return {"input_ids": batch[0], "attention_mask": batch[1]} if batch else None
