"""The runtimes there are: a new one is a file with a class and a line here.

Nothing of a runtime is imported before it is asked for. Besides what `Runtime` demands, the class of a runtime

- is made from a model of the kind that it runs, a recipe and `RuntimeOptions`;
- for graphs, says with `precisions(model)` in which precisions it runs one on this machine, its own first;
- says with `has_cuda()` whether this installation of it was built with CUDA, if its entry names that device.
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
    """What is known of a runtime without importing it.

    Attributes:
        place: the module and the name of its class, MODULE:CLASS.
        runs: graphs, or directories of weights.
        modules: that it needs, each with the extra that installs it; the first gives the runtime's version.
        devices: that it can run on.
    """

    place: str
    runs: Literal["graph", "weights"]
    modules: dict[str, str]
    devices: tuple[str, ...] = ("cpu", "cuda")

    @property
    def installed(self) -> bool:
        """Whether the modules that it needs can be found; they may be broken."""
        return all(importlib.util.find_spec(module) for module in self.modules)

    def load(self) -> Any:
        """The class; what goes wrong in importing it is raised as it is."""
        module, name = self.place.split(":")
        return getattr(importlib.import_module(module), name)


# Of those that run the same files, "auto" takes the first where nothing was measured.
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
    """Loads a model into a runtime; `auto` is the first that runs such files.

    Raises:
        RuntimeUnavailable: the runtime cannot run these files, is not installed, or is not where it was asked to be.
        ModelError: the files cannot be loaded.
    """
    loaded: Runtime = RUNTIMES[require_fitting(model, runtime)].load()(model, recipe, options)
    return loaded


def require_fitting(model: "Model", runtime: str) -> str:
    """The runtime, `auto` resolved, if it is installed and runs such files.

    Raises:
        RuntimeUnavailable: it does not, or is not.
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
    """Raises RuntimeUnavailable, saying what to install, if a module is missing."""
    if importlib.util.find_spec(module) is None:
        from nuner_embed.installation import install_command  # slow to import

        raise RuntimeUnavailable(f"{module} is not installed; {install_command(extra)}{otherwise}")
