"""The two encoders as plain Hugging Face directories."""

from pathlib import Path
from typing import Any

import torch

from nuner_embed.files import write_json
from nuner_embed.models.onnx_export import RECIPE_FILE
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.resolver import Model
from nuner_embed.models.snapshot import copy_tokenizer
from nuner_embed.runtimes.network_config import network_config
from nuner_embed.runtimes.torch import quiet_transformers


def save_network(base: Model, network: Any, directory: Path) -> None:
    """Writes the base with the network's weights in the place of its own: what loads the base loads this.

    What was not trained and is not in the network, such as a pooler, is the base's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        config, architecture = network_config(base)
        whole, report = architecture.from_pretrained(
            base.directory,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            weights_only=True,
            output_loading_info=True,
        )
        if report["missing_keys"]:  # the base has no pooler: a random one is none
            whole = type(whole)(whole.config, add_pooling_layer=False)
        found = whole.load_state_dict({name: value.cpu() for name, value in network.state_dict().items()}, strict=False)
        assert not found.unexpected_keys
        whole.save_pretrained(directory, safe_serialization=True)
    # transformers writes a configuration of its own making: the base's decides how vectors are told apart
    (directory / "config.json").write_bytes((base.directory / "config.json").read_bytes())
    copy_tokenizer(base, directory)


def write_recipe(directory: Path, recipe: Recipe) -> None:
    """The recipe that travels with a model."""
    write_json(directory / RECIPE_FILE, recipe.to_dict())
