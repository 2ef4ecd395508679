"""`nuner-embed models`."""

from pathlib import Path
from typing import Any

import click

from nuner_embed.cli.options import json_option, output_folder_option, print_json, require_apart
from nuner_embed.cli.streams import show


@click.group(epilog="Example: nuner-embed models list")
def models() -> None:
    """List the models that are known by name, and save them as directories."""


@models.command(epilog="Example: nuner-embed models save nuner-mini -o nuner")
@click.argument("name")
@output_folder_option("Directory to write the model to.")
@click.option("--force", is_flag=True, help="Replace an earlier model in the directory.")
def save(name: str, output: Path, force: bool) -> None:
    """Save the model NAME as a Hugging Face directory that transformers loads, with its recipe."""
    from nuner_embed.cli.progress import conclude
    from nuner_embed.files import expand
    from nuner_embed.models.snapshot import save_model

    require_apart(output, [name], folder=True)
    model = save_model(name, expand(output), force=force)
    config = model.config
    conclude(
        read=name,
        made=f"{output}, {config.model_type}, {config.layers} layers, {config.hidden_size} dimensions",
        then=f"nuner-embed export {output} -o model",
    )


@models.command("list", epilog="Example: nuner-embed models list --json")
@json_option
def list_(as_json: bool) -> None:
    """List the known models with their recipes."""
    from nuner_embed.files import read_json
    from nuner_embed.models.known import HUB_RECIPES, PACKAGED, SHIPPED
    from nuner_embed.models.onnx_export import RECIPE_FILE

    known: list[dict[str, Any]] = [
        {
            "name": name,
            "about": model.about,
            "comes_from": f"nuner-embed, laid over {model.base}",
            "recipe": read_json(model.folder / RECIPE_FILE),
        }
        for name, model in SHIPPED.items()
    ]
    known += [
        {
            "name": name,
            "about": model.about,
            "comes_from": f"the extra {model.extra}",
            "recipe": model.recipe.to_dict(),
        }
        for name, model in PACKAGED.items()
    ]
    known += [
        {"name": name, "about": "a NuNER checkpoint", "comes_from": "the hub", "recipe": recipe.to_dict()}
        for name, recipe in HUB_RECIPES.items()
    ]
    if as_json:
        print_json(known)
        return
    for model in known:
        recipe = ", ".join(f"{key} {value}" for key, value in model["recipe"].items())
        show(f"{model['name']}  ({model['comes_from']})", f"    {model['about']}", f"    {recipe}")
