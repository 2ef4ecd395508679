"""Models saved as plain Hugging Face directories."""

from pathlib import Path

from nuner_embed.artifacts import replacing, require_replaceable
from nuner_embed.errors import ModelError
from nuner_embed.files import copy_file, expand, write_json
from nuner_embed.models.directories import CARD_FILE, COMPANIONS, SAVED_MODEL, TOKENIZER_FILES, mark
from nuner_embed.models.onnx_export import RECIPE_FILE
from nuner_embed.models.resolver import GraphModel, Model, TransformersModel, locate
from nuner_embed.models.truncation import read_first_layers, write_config
from nuner_embed.models.weights import weight_files, write_tensors


def copy_tokenizer(model: Model, directory: Path) -> None:
    """Copies the files of a model's tokenizer into a directory without one.

    Raises:
        OSError: a file cannot be read or written; the error names it.
    """
    for name in TOKENIZER_FILES:
        if (model.directory / name).is_file():
            copy_file(model.directory / name, directory / name)


def save_model(name: str, directory: Path, *, layers_kept: int | None = None, force: bool = False) -> Model:
    """Writes a model as a Hugging Face directory with its recipe.

    Args:
        name: see `locate`.
        directory: written whole or not at all.
        layers_kept: write a network of only the first so many layers, with a recipe that reads the last of them, and
            without what was trained for the whole network: pooler, concept encoder, detector and heads. None for all.
        force: replace a model that was saved there, unless one of its files was changed.

    Raises:
        ModelError: there is no such model, it is an exported one, it has no more layers than are to be kept, or the
            directory is taken or cannot be written.
    """
    directory = expand(directory)
    require_replaceable(Path(directory.resolve()), SAVED_MODEL, force=force)  # before the long work
    model = locate(name)
    if isinstance(model, GraphModel):
        raise ModelError(
            f"{name} is an exported graph, which holds no PyTorch weights; save {model.export.source or 'its source'}"
        )
    weights = weight_files(name, model.directory)
    try:
        with replacing(directory, SAVED_MODEL, force=force) as made:
            known = {}
            if layers_kept is not None:
                _copy_first_layers(model, weights, layers_kept, made)
            else:
                copy_model(model, weights, made)
                known = {made / weights[0].name: model.weights_sha256} if len(weights) == 1 else {}
            mark(made, "saved", known)
    except OSError as error:
        read = error.filename and Path(error.filename).is_relative_to(model.directory)
        raise ModelError(
            f"{error.filename} cannot be read: {error.strerror or error}"
            if read
            else f"{directory} cannot be written: {error.strerror or error}; nothing was changed"
        ) from None
    return locate(str(directory))


def _copy_first_layers(model: TransformersModel, weights: list[Path], kept: int, made: Path) -> None:
    """Writes the first layers of a model, with tokenizer, recipe and card, into an empty folder."""
    tensors = read_first_layers(model.name, weights, model.config.layers, kept)
    write_tensors(tensors, made / "model.safetensors", {"format": "pt"})
    write_config(model.directory / "config.json", kept, made / "config.json")
    copy_tokenizer(model, made)
    write_json(made / RECIPE_FILE, model.recipe.replace(layers=(-1,)).to_dict())
    source = model.directory.name if expand(model.name).is_dir() else model.name  # no path of this machine
    (made / CARD_FILE).write_text(
        f"The first {kept} of the {model.config.layers} layers of {source}, otherwise unchanged, as a network of its\n"
        f"own; made with `nuner-embed models save --layers-kept {kept}`. The licence of {source} applies.\n",
        encoding="utf-8",
    )


def copy_model(model: Model, weights: list[Path], made: Path) -> None:
    """Copies the files of a model, and what belongs to it, into an empty folder; its recipe is written.

    Args:
        model: a Hugging Face directory.
        weights: its files of weights.
        made: the folder.

    Raises:
        OSError: a file cannot be read or written; the error names it.
    """
    copy_file(model.directory / "config.json", made / "config.json")
    copy_tokenizer(model, made)
    for path in (*weights, *model.directory.glob("*.index.json"), model.directory / CARD_FILE):
        if path.is_file():
            copy_file(path, made / path.name)
    write_json(made / RECIPE_FILE, model.recipe.to_dict())
    for folder in COMPANIONS:
        if (model.directory / folder).is_dir():
            (made / folder).mkdir()
            for path in sorted((model.directory / folder).iterdir()):
                if path.is_file() and not path.name.startswith("."):
                    copy_file(path, made / folder / path.name)
