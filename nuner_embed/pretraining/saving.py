"""The two encoders as plain Hugging Face directories, each with a card."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from nuner_embed.files import write_json
from nuner_embed.models import Model, Recipe
from nuner_embed.models.exported import RECIPE_FILE
from nuner_embed.models.saving import copy_tokenizer
from nuner_embed.pretraining.folder import FACTS_FILE
from nuner_embed.runtimes.quiet import quiet_transformers


def save_network(base: Model, network: Any, directory: Path) -> None:
    """Writes the base with the network's weights in the place of its own: what loads the base loads this.

    What was not trained and is not in the network, such as a pooler, is the base's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        whole, report = transformers.AutoModel.from_pretrained(
            base.directory, dtype=torch.float32, local_files_only=True, output_loading_info=True
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


def text_card(facts: dict[str, Any]) -> str:
    """What a person should know of the text encoder, as Markdown."""
    settings, data = facts["settings"], facts["data"]
    how = (
        f"Its tokens were trained to agree with the concepts that they stand for, against the other concepts of each "
        f"batch ({settings['loss']} loss), as in NuNER (arXiv 2402.15343)."
        if settings["objective"] == "contrastive"
        else "It was trained under a linear layer that tags words (NER-BERT's way, section 4.1 of arXiv 2402.15343)."
    )
    return f"""---
base_model: {json.dumps(facts["base"])}
tags: [named-entity-recognition, token-embeddings, nuner-embed]
---

# A text encoder for entity recognition

Made by `nuner-embed pretrain` from `{facts["base"]}`. {how}

- data: {data["texts"]:,} texts, {data["mentions"]:,} annotations, {data["labels"]:,} {data["kind"]}; files:
  {", ".join(f"`{name}`" for name in data["files"])}; {data["held_out"]:,} pieces held out
- {settings["epochs"]} epochs in batches of {settings["batch_size"] * settings["accumulate"]}, learning rate
  {settings["learning_rate"]:g}, the bottom {facts["frozen_layers"]} of {facts["layers"]} layers frozen
- at the end, on what was held out: loss {_shown(facts["validation_loss"])}, top-1 {_shown(facts["validation_top1"])}

A drop-in for its base: `AutoModel.from_pretrained` and `AutoTokenizer.from_pretrained` load it. It has no head:
`nuner-embed probe train` learns one from a few examples, `nuner-embed encode --model DIRECTORY` encodes a corpus.
All values of the run are in `{FACTS_FILE}`, how it went in `metrics.csv`.

Limits: whatever its base does not know (language, length) it does not know either; what it was trained on decides which
kinds of entity it tells apart. Licences are those of the base and of the data.
"""


def concept_card(facts: dict[str, Any]) -> str:
    """What a person should know of the concept encoder, as Markdown."""
    similar = ", ".join(f"{name} {value:.4g}" for name, value in facts["similarity"].items())
    return f"""---
base_model: {json.dumps(facts["base"])}
tags: [named-entity-recognition, nuner-embed]
---

# A concept encoder

The other half of the text encoder one folder up: it turns the name of an entity type ("nfl player") into a vector
with which the tokens of such entities agree. Pooling: {facts["settings"]["concept_pooling"]} (mean of the word pieces,
or the first token). Loss `{facts["settings"]["loss"]}`: {similar}.

What training makes of a similarity is no probability that means anything elsewhere: a concept is only told apart from
the others of its batch, and many entities of a text have no annotation (section 3.2 of arXiv 2402.15343).
`nuner-embed concepts calibrate` measures on annotated data what it means; `concepts.json` holds the result.
"""


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"
