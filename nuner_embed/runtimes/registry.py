"""The registry of runtimes: a new runtime is a file with a class and a line here.

A runtime is imported when it is first used. Besides the members of `Runtime`, the class of a runtime

- is constructed with a model of the kind that it runs, a recipe and `RuntimeOptions`;
- for graphs, has `precisions(model)`: the precisions in which it runs the graph on this machine, the file's own first;
- may have `precisions_on_request(model)`: precisions that lose more, and run only where they are asked for;
- may have `stream_counts(options)`: the numbers of streams to choose from, which are measured;
- has `has_cuda()`, if its entry names that device: whether the installed package was built with CUDA.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from nuner_embed.errors import RuntimeUnavailable

if TYPE_CHECKING:  # the command line's help lists the runtimes, and needs no NumPy for that
    from nuner_embed.models.recipe import Recipe
    from nuner_embed.models.resolver import Model
    from nuner_embed.runtimes.base import Runtime, RuntimeOptions


@dataclass(frozen=True, slots=True)
class Entry:
    """The facts about a runtime that need no import of the runtime.

    Attributes:
        place: module and class, as MODULE:CLASS.
        runs: "graph" for exported graphs, "weights" for Hugging Face directories.
        modules: the required modules, each with the extra that installs it; the first gives the runtime's version.
        devices: the devices that the runtime can run on.
    """

    place: str
    runs: Literal["graph", "weights"]
    modules: dict[str, str]
    devices: tuple[str, ...] = ("cpu", "cuda")

    @property
    def installed(self) -> bool:
        """Whether the required modules are installed; they may be broken."""
        return all(importlib.util.find_spec(module) for module in self.modules)

    def load(self) -> Any:
        """Imports the class; errors of the import are raised unchanged."""
        module, name = self.place.split(":")
        return getattr(importlib.import_module(module), name)


# Of the runtimes for the same files, "auto" takes the first if none was measured.
RUNTIMES: Final = {
    "onnx": Entry("nuner_embed.runtimes.onnx:OnnxRuntime", "graph", {"onnxruntime": "cpu"}),
    "openvino": Entry("nuner_embed.runtimes.openvino:OpenVinoRuntime", "graph", {"openvino": "openvino"}, ("cpu",)),
    "torch": Entry("nuner_embed.runtimes.torch:TorchRuntime", "weights", {"torch": "train", "transformers": "train"}),
}
CHOICES: Final = ("auto", *RUNTIMES)


def running(files: Literal["graph", "weights"]) -> dict[str, Entry]:
    """The runtimes for graphs, or those for directories of weights, by name."""
    return {name: entry for name, entry in RUNTIMES.items() if entry.runs == files}


def entry_of(runtime: str) -> Entry:
    """A runtime's entry.

    Raises:
        ValueError: there is no such runtime.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime must be {', '.join(CHOICES)}, not {runtime!r}")
    return RUNTIMES[runtime]


def load_runtime(model: "Model", recipe: "Recipe", runtime: str, options: "RuntimeOptions") -> "Runtime":
    """Loads a model into a runtime; `auto` is the first runtime for such files.

    Raises:
        RuntimeUnavailable: the runtime cannot run these files, is not installed, or lacks the device.
        ModelError: the files cannot be loaded.
    """
    loaded: Runtime = RUNTIMES[require_fitting(model, runtime)].load()(model, recipe, options)
    return loaded


def require_fitting(model: "Model", runtime: str) -> str:
    """Resolves `auto`, and checks that the runtime is installed and runs such files.

    Raises:
        RuntimeUnavailable: the runtime is not installed, or runs other files.
        ValueError: there is no such runtime.
    """
    fitting = running(model.files)
    if runtime == "auto":
        runtime = next(iter(fitting))
    entry = entry_of(runtime)
    if runtime not in fitting:
        kind, cure = (
            ("an exported directory", "name the directory it was exported from")
            if model.files == "graph"
            else ("a Hugging Face directory", f"nuner-embed export {model.name} -o DIR, then --model DIR")
        )
        raise RuntimeUnavailable(f"{model.name} is {kind}; the {runtime} runtime needs the other kind: {cure}")
    otherwise = f", or export {model.name} where torch is installed and name the exported directory"
    for module, extra in entry.modules.items():
        require(module, extra, otherwise if module == "torch" else "")
    return runtime


def require(module: str, extra: str, otherwise: str = "") -> None:
    """Raises RuntimeUnavailable, with the command that installs it, if a module is missing."""
    if importlib.util.find_spec(module) is None:
        from nuner_embed.installation import install_command  # slow to import

        raise RuntimeUnavailable(f"{module} is not installed; {install_command(extra)}{otherwise}")
