"""An exported graph, and what is in a directory that `nuner-embed export` made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nuner_embed.artifacts import Kind
from nuner_embed.errors import ExportError, ModelError
from nuner_embed.files import hash_of, sha256_of
from nuner_embed.metadata import Sha256
from nuner_embed.metadata import read as read_metadata
from nuner_embed.models.layout import CONCEPT_FOLDER, DETECTOR_FOLDER

EXPORT_FILE = "export.json"
RECIPE_FILE = "recipe.json"
ONNX_FILE = "model.onnx"
REFERENCE_FILE = "reference.npz"
VERIFY_FILE = "verify.json"
FUSED_FOLDER = "fused"
SCHEMA_VERSION = 2
FilePrecision = Literal["fp32", "fp16", "int8"]
_KEPT = ("source", "precision", "graph_sha256", "weights_sha256", "padding")


@dataclass(frozen=True, slots=True)
class Export:
    """The facts about an exported graph; `export.json` keeps those of a graph that this project exported.

    Attributes:
        source: the model it was made from, by hub or known name, or by the last part of its path; None for a graph
            that another program exported.
        precision: of the file's weights.
        graph_sha256: of the graph's file, or of that file and its file of weights.
        weights_sha256: of the source's weights; of the graph where another program exported it.
        file: the graph's path within the directory.
        padding: whether texts of different lengths may share a batch; None where nobody found out.
    """

    source: str | None
    precision: FilePrecision
    graph_sha256: str
    weights_sha256: str
    file: str = ONNX_FILE
    padding: bool | None = None

    @property
    def arithmetic(self) -> Literal["f32", "fp16", "int8"]:
        """The file's precision by the name that it has among those of the runtimes."""
        return "f32" if self.precision == "fp32" else self.precision

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as `export.json` keeps them."""
        return {name: getattr(self, name) for name in _KEPT}


@dataclass(frozen=True, slots=True)
class _Written:
    """What `export.json` says."""

    source: str
    precision: FilePrecision
    graph_sha256: Sha256
    weights_sha256: Sha256
    padding: bool | None = None


def read_export(directory: Path) -> Export:
    """The facts about a graph that this project exported.

    Raises:
        ModelError: `export.json` is missing, damaged, or of another version.
    """
    path, cure = directory / EXPORT_FILE, "export the model again"
    try:
        written = read_metadata(
            path, _Written, version=SCHEMA_VERSION, error=ModelError, what="the facts about an export", cure=cure
        )
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(f"{path} is missing; {cure}") from None
    return Export(
        written.source, written.precision, written.graph_sha256, written.weights_sha256, padding=written.padding
    )


_GRAPH = (
    EXPORT_FILE, RECIPE_FILE, ONNX_FILE, f"{ONNX_FILE}.data", REFERENCE_FILE, VERIFY_FILE, "config.json",
    "tokenizer.json",
    *(f"{FUSED_FOLDER}/{file}" for file in ("onnxruntime-*", ".onnxruntime-*", ".onnxruntime-*/onnxruntime-*")),
)  # fmt: skip
EXPORTED_MODEL = Kind(
    "an export",
    EXPORT_FILE,
    read_export,
    (
        *_GRAPH,
        *(f"{CONCEPT_FOLDER}/{file}" for file in (*_GRAPH, "concepts.json")),
        *(f"{DETECTOR_FOLDER}/{file}" for file in ("probe.json", "weights-*.safetensors")),
    ),
    ExportError,
    ExportError,
)


def graph_files(graph: Path) -> list[Path]:
    """A graph's file and, where it has one, its file of weights."""
    return [path for path in (graph, weights_path(graph)) if path.is_file()]


def weights_path(graph: Path) -> Path:
    """Where the weights of a graph too large for one file lie."""
    return graph.with_name(f"{graph.name}.data")


def graph_sha256(graph: Path) -> str:
    """The SHA-256 of the one file, or of the names and hashes of both."""
    hashes = {path.name: sha256_of(path) for path in graph_files(graph)}
    return next(iter(hashes.values())) if len(hashes) == 1 else hash_of(hashes)
