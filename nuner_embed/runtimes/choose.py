"""Which runtime runs a model."""

import importlib.util

from nuner_embed.errors import RuntimeUnavailable
from nuner_embed.models import Model, Recipe
from nuner_embed.runtimes.base import Runtime, RuntimeName, RuntimeOptions


def load_runtime(model: Model, recipe: Recipe, runtime: RuntimeName, options: RuntimeOptions) -> Runtime:
    """Loads a model into a runtime; `auto` takes the one that its files are made for.

    Raises:
        RuntimeUnavailable: the runtime cannot run these files, is not installed, or is not where it was asked to be.
        ModelError: the files cannot be loaded.
    """
    fitting = "onnx" if model.kind == "exported" else "torch"
    if runtime not in ("auto", fitting):
        cure = (
            f"nuner-embed export {model.name} -o DIR, then --model DIR"
            if runtime == "onnx"
            else "name the directory it was exported from"
        )
        raise RuntimeUnavailable(
            f"{model.name} is {_KINDS[model.kind]}; the {runtime} runtime needs the other kind: {cure}"
        )
    if fitting == "onnx":
        require("onnxruntime", "cpu")
        from nuner_embed.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(model, options)
    require("torch", "train", f", or export {model.name} where torch is installed and name the exported directory")
    require("transformers", "train")
    from nuner_embed.runtimes.torch import TorchRuntime

    return TorchRuntime(model, recipe, options)


_KINDS = {"source": "a Hugging Face directory", "exported": "an exported directory"}


def require(module: str, extra: str, otherwise: str = "") -> None:
    """Raises RuntimeUnavailable, saying what to install, if a module is missing."""
    if importlib.util.find_spec(module) is None:
        raise RuntimeUnavailable(f"{module} is not installed; pip install 'nuner-embed[{extra}]'{otherwise}")
