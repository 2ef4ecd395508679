"""Which runtime runs a model."""

import importlib.util

from nuner_embed.errors import RuntimeUnavailable
from nuner_embed.installation import install_command
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.resolver import Model
from nuner_embed.runtimes.base import Runtime, RuntimeName, RuntimeOptions
from nuner_embed.runtimes.padding import NOISE, ByLength, takes_padding


def load_runtime(model: Model, recipe: Recipe, runtime: RuntimeName, options: RuntimeOptions) -> Runtime:
    """Loads a model into a runtime; `auto` is onnx for an exported directory and torch for any other.

    A model whose vectors change where a text is padded runs texts of one length at a time.

    Raises:
        RuntimeUnavailable: the runtime cannot run these files, is not installed, or is not where it was asked to be.
        ModelError: the files cannot be loaded.
    """
    runtime = require_fitting(model, runtime)
    if runtime == "torch":
        from nuner_embed.runtimes.torch import TorchRuntime

        source = TorchRuntime(model, recipe, options)
        return source if source.padding else ByLength(source)
    loaded: Runtime
    if runtime == "onnx":
        from nuner_embed.runtimes.onnx import OnnxRuntime

        loaded = OnnxRuntime(model, options)
    else:
        from nuner_embed.runtimes.openvino import OpenVinoRuntime

        loaded = OpenVinoRuntime(model, options)
    return loaded if _takes_padding(model, loaded, recipe) else ByLength(loaded)


def _takes_padding(model: Model, runtime: Runtime, recipe: Recipe) -> bool:
    """What the export says, or what comes of trying where another program made the graph."""
    assert model.export is not None
    if model.export.padding is not None:
        return model.export.padding
    noise = NOISE.get(runtime.numerics["precision"])
    return noise is None or takes_padding(model, runtime.run, recipe.max_length, runtime.numerics, noise)


def require_fitting(model: Model, runtime: RuntimeName) -> RuntimeName:
    """The runtime, `auto` resolved, if it is installed and runs such files.

    Raises:
        RuntimeUnavailable: it does not, or is not.
    """
    fitting: tuple[RuntimeName, ...] = ("onnx", "openvino") if model.export else ("torch",)
    if runtime == "auto":
        runtime = fitting[0]
    if runtime not in fitting:
        kind = "an exported directory" if model.export else "a Hugging Face directory"
        cure = (
            "name the directory it was exported from"
            if model.export
            else f"nuner-embed export {model.name} -o DIR, then --model DIR"
        )
        raise RuntimeUnavailable(f"{model.name} is {kind}; the {runtime} runtime needs the other kind: {cure}")
    if runtime == "torch":
        require("torch", "train", f", or export {model.name} where torch is installed and name the exported directory")
        require("transformers", "train")
    else:
        require(*MODULES[runtime])
    return runtime


# The module of each runtime for exported directories, and the extra that installs it.
MODULES = {"onnx": ("onnxruntime", "cpu"), "openvino": ("openvino", "openvino")}


def torch_is_installed() -> bool:
    """Whether the torch runtime has both modules that it needs."""
    return all(importlib.util.find_spec(module) for module in ("torch", "transformers"))


def installed(runtime: str) -> bool:
    """Whether a runtime for exported directories is installed."""
    return importlib.util.find_spec(MODULES[runtime][0]) is not None


def require(module: str, extra: str, otherwise: str = "") -> None:
    """Raises RuntimeUnavailable, saying what to install, if a module is missing."""
    if importlib.util.find_spec(module) is None:
        raise RuntimeUnavailable(f"{module} is not installed; {install_command(extra)}{otherwise}")
