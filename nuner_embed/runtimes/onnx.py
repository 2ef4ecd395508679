"""ONNX Runtime, on CPU and CUDA."""

import contextlib
import functools
import io
from dataclasses import dataclass
from pathlib import Path

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

ort.disable_telemetry_events()  # which some builds collect by default

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntime(PaddedRuntime):
    """An exported graph in an ONNX Runtime session; see `Runtime`.

    Raises:
        RuntimeUnavailable: the provider that was asked for is not what the session runs on.
        ModelError: the file cannot be loaded.
    """

    name = "onnx"

    def __init__(self, model: GraphModel, recipe: Recipe, options: RuntimeOptions) -> None:
        (self.precision,) = self.precisions(model)
        if options.precision not in ("auto", self.precision):
            raise RuntimeUnavailable(
                f"{model.name} holds a graph that the onnx runtime runs in {self.precision}, not in {options.precision}"
            )
        fused = fused_copy(model) if options.graph != model.export.graph_sha256 else None
        path = fused or model.graph
        self.device = choose_device(options.device, ort.get_available_providers())
        self._session = open_session(path, self.device, options.thread_count)
        self._inputs = [port.name for port in self._session.get_inputs()]
        require_inputs(model, self._inputs)
        outputs = {port.name: port.shape for port in self._session.get_outputs()}
        self._output = find_output(model, outputs)
        self.dim = require_width(model, outputs[self._output])
        self.batch_tokens = GRAPH_BATCH_TOKENS[self.device]
        self.description = (
            f"onnxruntime {ort.__version__}, {_PROVIDERS[self.device]}, {self.precision}, "
            f"{'fused' if fused else 'unfused'} graph, {options.thread_count} threads"
        )
        self.numerics = {
            "runtime": self.name,
            "version": f"onnxruntime {ort.__version__}",
            "file": graph_sha256(path) if fused else model.export.graph_sha256,
            "device": self.device,
            "cpu": cpu_name(),
            "precision": self.precision,
            "threads": options.thread_count,
        }
        find_out_padding(self, model, recipe)

    @staticmethod
    def precisions(model: GraphModel) -> tuple[Precision, ...]:
        """What ONNX Runtime can run a graph in: the file's own precision."""
        return (model.export.arithmetic,)

    @staticmethod
    def has_cuda() -> bool:
        """Whether this onnxruntime was built with CUDA; whether a session gets it, only a session tells."""
        return _PROVIDERS["cuda"] in ort.get_available_providers()

    def states(self, input_ids: Ints, attention_mask: Ints) -> NDArray[np.float32]:
        """See `PaddedRuntime.states`.

        On CUDA too the states of all tokens come to the host to be pooled there. To keep them on the GPU, `pooled`
        would leave the bound output where it is (an OrtValue), gather the rows' tokens in a second session, of a graph
        with a GatherND and a ReduceSum node, and copy that session's output. That graph would have to be built without
        the package onnx, which is not installed where models only run.
        """
        with memory_errors():
            binding = self._session.io_binding()
            for name, values in values_of(self._inputs, input_ids, attention_mask).items():
                binding.bind_cpu_input(name, values)
            binding.bind_output(self._output, self.device)
            self._session.run_with_iobinding(binding)
            states = binding.copy_outputs_to_cpu()[0]
        return np.asarray(states, dtype=np.float32)


def fused_copy(model: GraphModel) -> Path | None:
    """The copy of the graph that this onnxruntime's optimiser made of this very graph, if there is one."""
    if model.export.source is None:  # what another program exported stays as it is
        return None
    path = fused_path(model.directory)
    facts = _fused_facts(path)
    if facts and path.is_file() and (facts.of, facts.sha256) == (model.export.graph_sha256, graph_sha256(path)):
        return path
    return None  # none, or one that is not whole: verify makes it anew


def fused_operators(model: GraphModel) -> dict[str, int]:
    """How often each of onnxruntime's own operators stands in the fused copy; empty where there is none."""
    path = fused_copy(model)
    facts = _fused_facts(path) if path else None
    return facts.operators if facts else {}


@dataclass(frozen=True, slots=True)
class _Fused:
    """What stands beside a fused copy: of which graph it is, its own hash, and what the optimiser put into it."""

    of: Sha256
    sha256: Sha256
    operators: dict[str, Count]


def _fused_facts(path: Path) -> _Fused | None:
    try:
        return convert(read_json(path.with_suffix(".json")), _Fused)
    except (OSError, ValueError):
        return None


def fused_path(directory: Path) -> Path:
    """Where the fused copy for the installed onnxruntime belongs; a JSON file of the same name stands beside it."""
    return directory / FUSED_FOLDER / f"onnxruntime-{ort.__version__}.onnx"


def choose_device(asked: str, available: list[str]) -> str:
    """The device to open a session on: what was asked for, or the best that this onnxruntime was built with.

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
    """CUDA and cuDNN from NVIDIA's wheels, which no search path names; the system's own where there are none."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):  # the session tells what is missing
        ort.preload_dlls()


def open_session(model: Path | bytes, device: str, threads: int) -> ort.InferenceSession:
    """A session that provably runs on the device.

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
    options.log_severity_level = 4  # what goes wrong is raised, in our words
    cpu: tuple[str, dict[str, str]] = (_PROVIDERS["cpu"], {})
    # TF32, the provider's default, keeps ten bits of a factor: that is not the f32 which we say and hash
    wanted = [cpu] if device == "cpu" else [(_PROVIDERS["cuda"], {"use_tf32": "0"}), cpu]
    if device == "cuda":
        _load_cuda_wheels()
    try:
        session = ort.InferenceSession(model if isinstance(model, bytes) else str(model), options, providers=wanted)
    except Exception as error:  # onnxruntime raises its own kinds, which share no base but this
        raise ModelError(
            f"onnxruntime cannot load {'the graph' if isinstance(model, bytes) else model}: {error}"
        ) from None
    got = session.get_providers()
    if got[0] != wanted[0][0]:
        raise RuntimeUnavailable(
            f"asked onnxruntime for {wanted[0][0]}, but the session runs on {got[0]}: CUDA or cuDNN could not be "
            "loaded; install the CUDA libraries that this onnxruntime-gpu was built for, or say --device cpu"
        )
    return session
