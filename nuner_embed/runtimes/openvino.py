"""OpenVINO: the same ONNX file on a CPU, in several streams, in bf16 where the processor has it."""

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
from nuner_embed.runtimes.padding import Ints, PaddedRuntime

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """OpenVINO's package without its telemetry; if something else has imported that before, as it is.

    Importing OpenVINO sends a message to its maker, unless the user has declined: from a process that is forked for it,
    and with a folder made in the user's home, without which the import fails. OpenVINO does none of this where the
    package `openvino_telemetry` is not installed, and here it is treated as if it were not.
    """
    if _TELEMETRY in sys.modules:
        return importlib.import_module("openvino")
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # importing it fails, as if it were not installed
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

    Every thread is a stream of its own that runs whole batches: nothing is shared out within an operation, and a
    batch's numbers do not depend on how many others run beside it.

    Raises:
        RuntimeUnavailable: a precision that this file or processor has not.
        ModelError: the file cannot be loaded.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, model: GraphModel, recipe: Recipe, options: RuntimeOptions) -> None:
        able = self.precisions(model)
        self.precision = precision = able[0] if options.precision == "auto" else options.precision
        if precision not in able:
            raise RuntimeUnavailable(
                f"on this processor OpenVINO runs {model.name} in {' or '.join(able)}, not in {precision}"
            )
        threads = options.thread_count
        settings = {
            properties.inference_num_threads: threads,
            properties.num_streams: threads,
            properties.hint.inference_precision: ov.Type.bf16 if precision == "bf16" else ov.Type.f32,
            # pinned threads of two processes would share the first cores and leave the others idle
            properties.hint.enable_cpu_pinning: False,
        }
        try:
            compiled = ov.Core().compile_model(str(model.graph), "CPU", settings)
        except RuntimeError as error:
            reason = [line for line in str(error).splitlines() if line.strip()][-1]  # where it was raised comes first
            raise ModelError(f"OpenVINO cannot load {model.name}: {reason}") from None
        self.streams = int(compiled.get_property(properties.num_streams))
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.streams):
            self._requests.put(compiled.create_infer_request())
        self._inputs = [port.any_name for port in compiled.inputs]
        require_inputs(model, self._inputs)
        # OpenVINO may also know an output by the name that it has within the graph
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
        # The first call sets up the bindings to NumPy; two threads that did so at once would wait for each other.
        self.states(np.zeros((1, 3), np.int64), np.ones((1, 3), np.int64))
        find_out_padding(self, model, recipe)

    @staticmethod
    def precisions(model: GraphModel) -> tuple[Precision, ...]:
        """What OpenVINO can run a graph in here: the file's own precision, and bf16 where the processor has units."""
        own = model.export.arithmetic
        return (own, "bf16") if own != "int8" and has_bf16() else (own,)

    def states(self, input_ids: Ints, attention_mask: Ints) -> NDArray[np.float32]:
        """See `PaddedRuntime.states`."""
        request = self._requests.get()
        try:
            with memory_errors():
                request.infer(values_of(self._inputs, input_ids, attention_mask), share_inputs=True)
                # a copy: the request's own memory is written over by its next batch
                states: NDArray[np.float32] = request.get_tensor(self._output).data.astype(np.float32)
        finally:
            self._requests.put(request)
        return states


def _length(axis: Any) -> int | str:
    return int(axis.get_length()) if axis.is_static else str(axis)


def has_bf16() -> bool:
    """Whether this processor has units for bf16, AMX or AVX-512 BF16."""
    return "BF16" in ov.Core().get_property("CPU", properties.device.capabilities)
