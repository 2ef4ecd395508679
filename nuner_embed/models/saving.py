"""A model as a plain Hugging Face directory."""

import shutil
from pathlib import Path

from nuner_embed.errors import ModelError
from nuner_embed.files import write_json
from nuner_embed.models.directories import CARD_FILE, TOKENIZER_FILES, new_directory
from nuner_embed.models.exported import RECIPE_FILE
from nuner_embed.models.layout import COMPANIONS
from nuner_embed.models.locating import Model, locate, weight_files


def copy_tokenizer(model: Model, directory: Path) -> None:
    """Copies whatever there is of the model's tokenizer."""
    for name in TOKENIZER_FILES:
        if (model.directory / name).is_file():
            shutil.copyfile(model.directory / name, directory / name)


def save_model(name: str, directory: Path, *, force: bool = False) -> Model:
    """Writes a model that is known by name, or any other, as a Hugging Face directory with its recipe.

    Raises:
        ModelError: there is no such model, it is an exported one, or the directory is taken.
    """
    model = locate(name)
    if model.export:
        raise ModelError(
            f"{name} is an exported graph, of which no weights can be had; save {model.export.source or 'its source'}"
        )
    with new_directory(directory, force=force) as made:
        shutil.copyfile(model.directory / "config.json", made / "config.json")
        copy_tokenizer(model, made)
        for path in weight_files(name, model.directory):
            shutil.copyfile(path, made / path.name)
        for index in model.directory.glob("*.index.json"):
            shutil.copyfile(index, made / index.name)
        if (model.directory / CARD_FILE).is_file():
            shutil.copyfile(model.directory / CARD_FILE, made / CARD_FILE)
        write_json(made / RECIPE_FILE, model.recipe.to_dict())
        for folder in COMPANIONS:
            if (model.directory / folder).is_dir():
                shutil.copytree(model.directory / folder, made / folder)
    return locate(str(directory))
