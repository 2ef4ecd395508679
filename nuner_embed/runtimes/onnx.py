"""ONNX Runtime, on CPU and CUDA."""

import contextlib
import functools
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from nuner_embed.errors import ModelError, RuntimeUnavailable
from nuner_embed.files import read_json
from nuner_embed.installation import install_command
from nuner_embed.machine import cpu_name
from nuner_embed.metadata import Count, Sha256, convert
from nuner_embed.models.onnx_export import FUSED_FOLDER, graph_sha256
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.resolver import GraphModel
from nuner_embed.runtimes.base import Precision, RowFormat, RuntimeOptions, WindowBatch, memory_errors
from nuner_embed.runtimes.graph_pooling import GraphPooling, graph_path
from nuner_embed.runtimes.graph_ports import (
    GRAPH_BATCH_TOKENS,
    find_out_padding,
    find_output,
    require_inputs,
    require_width,
    values_of,
)
from nuner_embed.runtimes.padding import Ints, PaddedRuntime, padded

ort.disable_telemetry_events()  # some builds collect telemetry by default

_ON_DEVICE = 2  # batches at a time
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntime(PaddedRuntime):
    """An exported graph in an ONNX Runtime session; see `Runtime`.

    Raises:
        RuntimeUnavailable: the session does not run on the requested provider.
        ModelError: the file cannot be loaded.
    """

    name = "onnx"
    _pooling: GraphPooling | None = None

    def __init__(self, model: GraphModel, recipe: Recipe, options: RuntimeOptions) -> None:
        (self.precision,) = self.precisions(model)
        if options.precision not in ("auto", self.precision):
            raise RuntimeUnavailable(
                f"{model.name} holds a graph that the onnx runtime runs in {self.precision}, not in {options.precision}"
            )
        fused = fused_copy(model) if options.graph != model.export.graph_sha256 else None
        path = fused or model.graph
        self.device = choose_device(options.device, ort.get_available_providers())
        self.streams = min(max(1, options.streams), options.thread_count) if self.device == "cpu" else 1
        self._session = open_session(path, self.device, options.thread_count // self.streams)
        self._inputs = [port.name for port in self._session.get_inputs()]
        require_inputs(model, self._inputs)
        outputs = {port.name: port for port in self._session.get_outputs()}
        self._output = find_output(model, outputs)
        self.dim = require_width(model, outputs[self._output].shape)
        self._half = outputs[self._output].type == "tensor(float16)"
        self.batch_tokens = GRAPH_BATCH_TOKENS[self.device]
        self.description = (
            f"onnxruntime {ort.__version__}, {_PROVIDERS[self.device]}, {self.precision}, "
            f"{'fused' if fused else 'unfused'} graph, {options.thread_count} threads"
        )
        if self.streams > 1:
            self.description += f" in {self.streams} streams"
        self.numerics = {
            "runtime": self.name,
            "version": f"onnxruntime {ort.__version__}",
            "file": graph_sha256(path) if fused else model.export.graph_sha256,
            "device": self.device,
            "cpu": cpu_name(),
            "precision": self.precision,
            "threads": options.thread_count,
            **({"streams": self.streams} if self.streams > 1 else {}),
        }
        find_out_padding(self, model, recipe)
        if self.device == "cuda":
            self.make_rows_on_device()

    @staticmethod
    def precisions(model: GraphModel) -> tuple[Precision, ...]:
        """The precisions in which ONNX Runtime runs a graph: that of the file."""
        return (model.export.arithmetic,)

    @staticmethod
    def stream_counts(options: RuntimeOptions) -> tuple[int, ...]:
        """On a CPU, one batch at a time in all threads, or one in each thread; on CUDA the runtime's own number."""
        if choose_device(options.device, ort.get_available_providers()) == "cuda":
            return (0,)
        return (options.streams,) if options.streams else tuple(dict.fromkeys((1, options.thread_count)))

    @staticmethod
    def has_cuda() -> bool:
        """Whether this onnxruntime was built with CUDA; only a session shows whether CUDA works."""
        return _PROVIDERS["cuda"] in ort.get_available_providers()

    def make_rows_on_device(self) -> None:
        """Has rows made where the hidden states are; see `GraphPooling`.

        Two batches run at a time: while one computes, the host prepares the other or takes its rows. On a CPU, tests
        alone ask for this: there the rows of all stores so far are those that NumPy averages.
        """
        graph = graph_path("float16" if self._half else "float32").read_bytes()
        self._pooling = GraphPooling(open_session(graph, self.device, self.numerics["threads"]))
        self.streams = _ON_DEVICE
        self.numerics["batches"] = "padded, rows made on the device"
        self.description += ", rows made on the device"

    def states(self, input_ids: Ints, attention_mask: Ints) -> NDArray[np.float32]:
        """See `PaddedRuntime.states`."""
        with memory_errors():
            states = self._bound(input_ids, attention_mask).copy_outputs_to_cpu()[0]
        return np.asarray(states, dtype=np.float32)

    def pooled(self, batch: WindowBatch, form: RowFormat) -> NDArray[np.floating[Any]]:
        """See `PaddedRuntime.pooled`."""
        if self._pooling is None:
            return super().pooled(batch, form)
        with memory_errors():
            (states,) = self._bound(*padded(batch, self.pad_id)).get_outputs()
            return self._pooling.rows(states, batch, form)

    def _bound(self, input_ids: Ints, attention_mask: Ints) -> Any:
        """Runs the graph; returns the binding that holds the hidden states, on the device."""
        binding = self._session.io_binding()
        for name, values in values_of(self._inputs, input_ids, attention_mask).items():
            binding.bind_cpu_input(name, values)
        binding.bind_output(self._output, self.device)
        self._session.run_with_iobinding(binding)
        return binding


def fused_copy(model: GraphModel) -> Path | None:
    """The copy of this graph that the optimiser of this version of onnxruntime made, if there is one."""
    if model.export.source is None:  # the graphs of other programs are not optimised
        return None
    path = fused_path(model.directory)
    facts = _fused_facts(path)
    if facts and path.is_file() and (facts.of, facts.sha256) == (model.export.graph_sha256, graph_sha256(path)):
        return path
    return None  # there is none, or it is damaged: verify makes a new one


def fused_operators(model: GraphModel) -> dict[str, int]:
    """The number of each of onnxruntime's own operators in the fused copy; empty without a copy."""
    path = fused_copy(model)
    facts = _fused_facts(path) if path else None
    return facts.operators if facts else {}


@dataclass(frozen=True, slots=True)
class _Fused:
    """The facts about a fused copy: the hash of its graph, its own hash, and the operators of the optimiser."""

    of: Sha256
    sha256: Sha256
    operators: dict[str, Count]


def _fused_facts(path: Path) -> _Fused | None:
    try:
        return convert(read_json(path.with_suffix(".json")), _Fused)
    except (OSError, ValueError):
        return None


def fused_path(directory: Path) -> Path:
    """The path of the fused copy for the installed onnxruntime; its facts lie beside it in a JSON file."""
    return directory / FUSED_FOLDER / f"onnxruntime-{ort.__version__}.onnx"


def choose_device(asked: str, available: list[str]) -> str:
    """The device for a session: the requested one, or the best that this onnxruntime was built with.

    Raises:
        RuntimeUnavailable: this onnxruntime was built without the provider.
    """
    if asked == "auto":
        return "cuda" if _PROVIDERS["cuda"] in available else "cpu"
    if _PROVIDERS[asked] not in available:
        raise RuntimeUnavailable(
            f"this onnxruntime offers {', '.join(available)} and no {_PROVIDERS[asked]}; "
            f"pip uninstall onnxruntime faiss-cpu, then {install_command('gpu')}"
        )
    return asked


@functools.cache
def _load_cuda_wheels() -> None:
    """Loads CUDA and cuDNN from NVIDIA's wheels, which are on no search path, if they are installed."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):  # the session reports
        ort.preload_dlls()


def open_session(model: Path | bytes, device: str, threads: int) -> ort.InferenceSession:
    """Opens a session and checks that it runs on the device.

    Args:
        model: a graph's path, or its bytes.
        device: "cpu" or "cuda".
        threads: within one operation.

    Raises:
        RuntimeUnavailable: the session fell back to another provider.
        ModelError: the graph cannot be loaded.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised with our own messages
    options.use_deterministic_compute = device == "cuda"  # a CPU's results are the same in every run anyway
    cpu: tuple[str, dict[str, str]] = (_PROVIDERS["cpu"], {})
    # TF32, the default of the provider, keeps ten bits of a factor: not the f32 that we report and hash
    wanted = [cpu] if device == "cpu" else [(_PROVIDERS["cuda"], {"use_tf32": "0"}), cpu]
    if device == "cuda":
        _load_cuda_wheels()
    try:
        session = ort.InferenceSession(model if isinstance(model, bytes) else str(model), options, providers=wanted)
    except Exception as error:  # the errors of onnxruntime have no common base
        raise ModelError(
            f"onnxruntime cannot load {'the graph' if isinstance(model, bytes) else model}: {error}"
        ) from None
    got = session.get_providers()
    if got[0] != wanted[0][0]:
        raise RuntimeUnavailable(
            f"asked onnxruntime for {wanted[0][0]}, but the session runs on {got[0]}: CUDA or cuDNN could not be "
            "loaded; install the CUDA libraries that this onnxruntime-gpu was built for, or use --device cpu"
        )
    return session
