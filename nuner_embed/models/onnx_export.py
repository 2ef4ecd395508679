"""Exported graphs: the files of a directory that `nuner-embed export` made, and graphs of other programs."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nuner_embed.artifacts import Kind
from nuner_embed.errors import ExportError, ModelError
from nuner_embed.files import hash_of, sha256_of, write_json
from nuner_embed.metadata import FileName, Sha256, convert, read_object
from nuner_embed.models.directories import CONCEPT_FOLDER, DETECTOR_FOLDER, HEAD_FOLDER, SPAN_FOLDER

EXPORT_FILE = "export.json"
RECIPE_FILE = "recipe.json"
ONNX_FILE = "model.onnx"
REFERENCE_FILE = "reference.npz"
VERIFY_FILE = "verify.json"
HEAD_FILE = "head.json"
FUSED_FOLDER = "fused"
SCHEMA_VERSION = 2
FilePrecision = Literal["fp32", "fp16", "int8"]
ONNX_FOLDER = "onnx"
# What follows "model_" in the file names that other programs give to graphs of another precision than fp32; level O4 of
# Optimum is fp16.
_PRECISIONS: dict[str, FilePrecision] = {r"quantized|u?int8|qu?int8(_.*)?": "int8", r"fp16|O4": "fp16"}
_BELOW_INT8 = re.compile(r"(q4|bnb4|q4f16|q2|q1)")

# Files whose SHA-256 is in `export.json`; `verify.json` is written again by each verification.
_CHECKED = (RECIPE_FILE, REFERENCE_FILE, HEAD_FILE, "config.json", "tokenizer.json")
_KEPT = ("source", "precision", "graph_sha256", "weights_sha256", "padding")


@dataclass(frozen=True, slots=True)
class Export:
    """The facts about an exported graph; for graphs of this project they are in `export.json`.

    Attributes:
        source: the model that the graph was made from, by hub or known name, or by the last part of its path; None for
            a graph that another program exported.
        precision: of the file's weights.
        graph_sha256: of the graph's file, and of its file of weights if there is one.
        weights_sha256: of the source's weights; of the graph if another program exported it.
        file: the graph's path within the directory.
        padding: whether texts of different lengths may share a batch; None if unknown.
    """

    source: str | None
    precision: FilePrecision
    graph_sha256: str
    weights_sha256: str
    file: str = ONNX_FILE
    padding: bool | None = None

    @property
    def arithmetic(self) -> Literal["f32", "fp16", "int8"]:
        """The file's precision, under the name that runtimes use."""
        return "f32" if self.precision == "fp32" else self.precision

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as `export.json` keeps them."""
        return {name: getattr(self, name) for name in _KEPT}


@dataclass(frozen=True, slots=True)
class _Written:
    """The contents of `export.json`.

    Attributes:
        files: the SHA-256 of the other files except the graph; empty in earlier exports.
        sha256: of all other fields; None in earlier exports.
        The others: see `Export`.
    """

    source: str
    precision: FilePrecision
    graph_sha256: Sha256
    weights_sha256: Sha256
    padding: bool | None = None
    files: dict[FileName, Sha256] = field(default_factory=dict)
    sha256: Sha256 | None = None


def read_export(directory: Path) -> Export:
    """Reads the facts about a graph that this project exported.

    Raises:
        ModelError: `export.json` is missing, damaged, or of another version.
    """
    written = _read(directory)
    return Export(
        written.source, written.precision, written.graph_sha256, written.weights_sha256, padding=written.padding
    )


def _read(directory: Path) -> _Written:
    path, cure = directory / EXPORT_FILE, "export the model again"
    try:
        values = read_object(
            path, version=SCHEMA_VERSION, error=ModelError, what="the facts about an export", cure=cure
        )
        written = convert(values, _Written)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(f"{path} is missing; {cure}") from None
    except ValueError as error:
        raise ModelError(f"{path}: {error}; {cure}") from None
    if written.sha256 and hash_of({key: value for key, value in values.items() if key != "sha256"}) != written.sha256:
        raise ModelError(f"{path} is not what was written (sha256 differs); {cure}")
    return written


def write_export(directory: Path, facts: dict[str, Any]) -> None:
    """Writes `export.json`, with the SHA-256 of every other file except the graph, and of its own values.

    Args:
        directory: of the export, with all other files.
        facts: the result of `Export.to_dict`, and any further facts.
    """
    files = {name: sha256_of(directory / name) for name in _CHECKED if (directory / name).is_file()}
    values = {"schema_version": SCHEMA_VERSION, **facts, "files": files}
    write_json(directory / EXPORT_FILE, {**values, "sha256": hash_of(values)})


def altered(directory: Path) -> list[str]:
    """The paths of the files of an export, except the graph, that were changed since the export.

    An export of an earlier version lists no files, so none is returned.

    Raises:
        ModelError: `export.json` is missing, damaged, or of another version.
    """
    return [
        str(directory / name)
        for name, sha256 in _read(directory).files.items()
        if not (directory / name).is_file() or sha256_of(directory / name) != sha256
    ]


_GRAPH = (
    EXPORT_FILE, RECIPE_FILE, ONNX_FILE, f"{ONNX_FILE}.data", REFERENCE_FILE, VERIFY_FILE, HEAD_FILE,
    "config.json", "tokenizer.json",
    *(f"{FUSED_FOLDER}/{file}" for file in ("onnxruntime-*", ".onnxruntime-*", ".onnxruntime-*/onnxruntime-*")),
)  # fmt: skip
HEAD_FILES = ("probe.json", "weights-*.safetensors")
EXPORTED_MODEL = Kind(
    "an export",
    EXPORT_FILE,
    read_export,
    (
        *_GRAPH,
        *(f"{CONCEPT_FOLDER}/{file}" for file in (*_GRAPH, "concepts.json")),
        *(f"{folder}/{file}" for folder in (DETECTOR_FOLDER, SPAN_FOLDER, HEAD_FOLDER) for file in HEAD_FILES),
    ),
    ExportError,
    ExportError,
)


def graph_files(graph: Path) -> list[Path]:
    """A graph's file and, if there is one, its file of weights."""
    return [path for path in (graph, weights_path(graph)) if path.is_file()]


def weights_path(graph: Path) -> Path:
    """The path for the weights of a graph that is too large for one file."""
    return graph.with_name(f"{graph.name}.data")


def graph_sha256(graph: Path) -> str:
    """The SHA-256 of a graph's one file, or of the names and hashes of both files."""
    hashes = {path.name: sha256_of(path) for path in graph_files(graph)}
    return next(iter(hashes.values())) if len(hashes) == 1 else hash_of(hashes)


def find_graph(name: str, directory: Path) -> Path | None:
    """Finds the graph of a directory: `model.onnx`, there or in the folder `onnx`, or the only graph.

    Returns:
        The path; None if the directory holds no graph.

    Raises:
        ModelError: there are several graphs, and none is called `model.onnx`.
    """
    folders = (directory, directory / ONNX_FOLDER)
    for folder in folders:
        if (folder / ONNX_FILE).is_file():
            return folder / ONNX_FILE
    graphs = sorted(path for folder in folders for path in folder.glob("*.onnx") if path.is_file())
    if len(graphs) > 1:
        files = ", ".join(str(path.relative_to(directory)) for path in graphs)
        raise ModelError(f"{name} holds several graphs, {files}; name one, such as {Path(name) / graphs[0].name}")
    return graphs[0] if graphs else None


def describe_graph(name: str, graph: Path, directory: Path) -> Export:
    """The facts about a graph that another program exported; its precision is read from its name.

    Raises:
        ModelError: the name says that its weights have fewer than eight bits.
    """
    suffix = graph.stem.partition("_")[2]
    if _BELOW_INT8.fullmatch(suffix):
        raise ModelError(f"{name}: {graph.name} has weights of fewer than eight bits; take model.onnx, or one in int8")
    named = [precision for names, precision in _PRECISIONS.items() if re.fullmatch(names, suffix)]
    sha256 = graph_sha256(graph)
    return Export(None, named[0] if named else "fp32", sha256, sha256, str(graph.relative_to(directory)))
