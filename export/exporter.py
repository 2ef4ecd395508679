"""The export: a directory that runs without torch, and appears only once it has been checked."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from nuner_embed.encoding.load import resolve_recipe
from nuner_embed.errors import ExportError
from nuner_embed.export.check import Difference, compare
from nuner_embed.files import canonical_json, sha256_of, write_json
from nuner_embed.models import TextTokenizer, locate
from nuner_embed.models.known import DEFAULT_MODEL
from nuner_embed.models.locating import EXPORT_FILE, ONNX_FILE, RECIPE_FILE
from nuner_embed.runtimes import RuntimeOptions
from nuner_embed.runtimes.choose import require

SCHEMA_VERSION = 1


def export_onnx(
    model: str = DEFAULT_MODEL,
    directory: str | os.PathLike[str] = "model",
    *,
    layers: tuple[int, ...] | None = None,
    force: bool = False,
) -> Difference:
    """Exports a text encoder as an fp32 ONNX graph, and compares it with its source.

    Args:
        model: a Hugging Face directory, a known name or a hub name.
        directory: made by this call, with `model.onnx`, `tokenizer.json`, `config.json`, `recipe.json` and
            `export.json` in it.
        layers: hidden states to concatenate, in place of the model's own recipe.
        force: replace an earlier export.

    Returns:
        How far the graph is from its source.

    Raises:
        ExportError: the graph does not compute what its source computes, or the directory is taken.
        ModelError: the model cannot be found or loaded.
        RuntimeUnavailable: torch, transformers or onnxruntime is not installed.
    """
    target = Path(directory).expanduser().resolve()
    _require_free(target, force)
    found = locate(model)
    if found.kind == "exported":
        raise ExportError(f"{model} is an exported directory already; name the model that it was made from")
    recipe = resolve_recipe(found, layers=layers)
    require("torch", "train")
    require("transformers", "train")
    require("onnx", "train")
    require("onnxruntime", "cpu")
    import onnxruntime
    import torch

    from nuner_embed.export.graph import OPSET, write_graph
    from nuner_embed.runtimes.onnx import OnnxRuntime
    from nuner_embed.runtimes.torch import TorchRuntime

    tokenizer = TextTokenizer.from_directory(found.directory)
    source = TorchRuntime(found, recipe, RuntimeOptions(device="cpu"))
    work, old = (target.with_name(f".{target.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    try:
        work.mkdir(parents=True)
        write_graph(source.network, work / ONNX_FILE)
        shutil.copyfile(found.directory / "config.json", work / "config.json")
        (work / "tokenizer.json").write_text(canonical_json(tokenizer.definition), encoding="utf-8")
        write_json(work / RECIPE_FILE, recipe.to_dict())
        exported = OnnxRuntime(replace(found, directory=work, kind="exported"), RuntimeOptions(device="cpu"))
        difference = compare(source, exported, tokenizer, recipe.max_length, found.config.pad_id)
        facts = {
            "schema_version": SCHEMA_VERSION,
            "source": Path(model).name if found.directory == Path(model).expanduser() else model,
            "precision": "fp32",
            "opset": OPSET,
            "weights_sha256": found.weights_sha256,
            "tokenizer_sha256": tokenizer.sha256,
            "onnx_sha256": sha256_of(work / ONNX_FILE),
            "check": difference.to_dict(),
            "versions": {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__},
        }
        write_json(work / EXPORT_FILE, facts)
        _replace(target, work, old)
    except OSError as error:
        raise ExportError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return difference


def _replace(target: Path, work: Path, old: Path) -> None:
    """Puts a finished directory in its place; an earlier one steps aside first, which is quick, and goes last."""
    if not target.exists():
        work.rename(target)
        return
    target.rename(old)
    try:
        work.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _require_free(target: Path, force: bool) -> None:
    if target == Path.cwd():
        raise ExportError(f"{target} is the current directory, which an export would replace; name one inside it")
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / EXPORT_FILE).is_file():
        raise ExportError(f"{target} exists and was not made by nuner-embed export; name another directory")
    if not force:
        raise ExportError(f"{target} holds an export already; --force replaces it")
