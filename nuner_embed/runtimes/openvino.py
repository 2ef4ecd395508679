"""OpenVINO: runs an ONNX file on a CPU, in several streams; in bf16 or int8 where the processor supports it."""

import importlib
import sys
from queue import SimpleQueue
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nuner_embed.errors import ModelError, RuntimeUnavailable
from nuner_embed.machine import cpu_name
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.resolver import GraphModel
from nuner_embed.runtimes.base import Precision, RuntimeOptions, memory_errors
from nuner_embed.runtimes.graph_ports import (
    GRAPH_BATCH_TOKENS,
    find_out_padding,
    find_output,
    require_inputs,
    require_width,
    values_of,
)
from nuner_embed.runtimes.openvino_int8 import GROUP, has_vnni, round_weights
from nuner_embed.runtimes.padding import Ints, PaddedRuntime

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """Imports OpenVINO without its telemetry, unless something has imported the telemetry before.

    Importing OpenVINO sends a message to its maker, unless the user has declined, from a forked process and after
    making a folder in the user's home, without which the import fails. OpenVINO does not do so if the package
    `openvino_telemetry` is not installed; this function hides that package.
    """
    if _TELEMETRY in sys.modules:
        return importlib.import_module("openvino")
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # makes importing it fail
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[_TELEMETRY]


if TYPE_CHECKING:
    import openvino as ov
    from openvino import properties
else:
    ov = import_openvino()
    properties = ov.properties


class OpenVinoRuntime(PaddedRuntime):
    """An exported graph compiled by OpenVINO's CPU plugin; see `Runtime`.

    Every thread is a stream that runs whole batches: no operation is split among threads, and the numbers of a batch do
    not depend on the batches that run at the same time.

    Raises:
        RuntimeUnavailable: the file or the processor does not support the precision.
        ModelError: the file cannot be loaded.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, model: GraphModel, recipe: Recipe, options: RuntimeOptions) -> None:
        able = (*self.precisions(model), *self.precisions_on_request(model))
        self.precision = precision = able[0] if options.precision == "auto" else options.precision
        rounded = precision == "int8" and model.export.arithmetic != "int8"
        if precision not in able:
            raise RuntimeUnavailable(
                f"on this processor OpenVINO runs {model.name} in {' or '.join(able)}, not in {precision}"
            )
        threads = options.thread_count
        settings = {
            properties.inference_num_threads: threads,
            properties.num_streams: threads,
            properties.hint.inference_precision: ov.Type.bf16 if precision == "bf16" else ov.Type.f32,
            # the pinned threads of two processes would share the first cores and leave the others idle
            properties.hint.enable_cpu_pinning: False,
        }
        try:
            core = ov.Core()
            graph = core.read_model(str(model.graph))
            if rounded:
                round_weights(graph, ov.opset13)
                settings[properties.hint.dynamic_quantization_group_size] = GROUP
            compiled = core.compile_model(graph, "CPU", settings)
        except RuntimeError as error:
            reason = [line for line in str(error).splitlines() if line.strip()][-1]  # the first lines are a trace
            raise ModelError(f"OpenVINO cannot load {model.name}: {reason}") from None
        self.streams = int(compiled.get_property(properties.num_streams))
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.streams):
            self._requests.put(compiled.create_infer_request())
        self._inputs = [port.any_name for port in compiled.inputs]
        require_inputs(model, self._inputs)
        # an output may have several names, also that within the graph
        self._output = find_output(model, sorted(name for port in compiled.outputs for name in port.names))
        self.dim = require_width(model, [_length(axis) for axis in compiled.output(self._output).partial_shape])
        version = f"openvino {ov.get_version().split('-')[0]}"
        self.description = f"{version}, CPU, {precision}, {threads} threads in {self.streams} streams"
        self.batch_tokens = GRAPH_BATCH_TOKENS["cpu"]
        self.numerics = {
            "runtime": self.name,
            "version": version,
            "file": model.export.graph_sha256,
            "device": "cpu",
            "cpu": cpu_name(),
            "precision": precision,
            "threads": threads,
        }
        # The first call sets up the bindings to NumPy; two threads that do so at once deadlock.
        self.states(np.zeros((1, 3), np.int64), np.ones((1, 3), np.int64))
        find_out_padding(self, model, recipe)

    @staticmethod
    def precisions(model: GraphModel) -> tuple[Precision, ...]:
        """The precisions in which OpenVINO runs a graph here: that of the file, and bf16 if the processor has it."""
        own = model.export.arithmetic
        return (own, "bf16") if own != "int8" and has_bf16() else (own,)

    @staticmethod
    def precisions_on_request(model: GraphModel) -> tuple[Precision, ...]:
        """Further precisions, which lose more than rounding: int8 for a float32 graph, on a processor with VNNI."""
        return ("int8",) if model.export.arithmetic == "f32" and has_vnni() else ()

    def states(self, input_ids: Ints, attention_mask: Ints) -> NDArray[np.float32]:
        """See `PaddedRuntime.states`."""
        request = self._requests.get()
        try:
            with memory_errors():
                # without `share_inputs`, which leaves the request with memory that NumPy has given away
                request.infer(values_of(self._inputs, input_ids, attention_mask))
                # a copy: the next batch overwrites the memory of the request
                states: NDArray[np.float32] = request.get_tensor(self._output).data.astype(np.float32)
        finally:
            self._requests.put(request)
        return states


def _length(axis: Any) -> int | str:
    return int(axis.get_length()) if axis.is_static else str(axis)


def has_bf16() -> bool:
    """Whether this processor has units for bf16, AMX or AVX-512 BF16."""
    return "BF16" in ov.Core().get_property("CPU", properties.device.capabilities)
