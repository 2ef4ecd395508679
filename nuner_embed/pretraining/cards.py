"""The cards of the two encoders: what a person should know of them, and which of them are as we wrote them."""

import json
from pathlib import Path
from typing import Any, Final

from nuner_embed.files import read_json, sha256_of
from nuner_embed.models.companions import CONCEPT_FOLDER
from nuner_embed.pretraining.facts import CARD, FACTS_FILE, read_model

_CARDS: Final = (CARD, f"{CONCEPT_FOLDER}/{CARD}")


def hashes_of_cards(folder: Path) -> dict[str, str]:
    """The SHA-256 of the cards in a model's folder, by their paths in it."""
    return {name: sha256_of(folder / name) for name in _CARDS if (folder / name).is_file()}


def changed_cards(directory: Path, facts_in: Path | None = None) -> list[Path]:
    """The cards of a finished model that are not as this program wrote them.

    Args:
        directory: of the model.
        facts_in: the folder that holds its facts, if that is another one by now.
    """
    folder = facts_in or directory
    known = read_model(folder).cards
    if known is None:  # an earlier version kept no hashes
        values = read_json(folder / FACTS_FILE)
        written = {_CARDS[0]: text_card(values), _CARDS[1]: concept_card(values)}
        return [
            directory / name
            for name in hashes_of_cards(directory)
            if (directory / name).read_bytes() != written[name].encode()
        ]
    return [directory / name for name, found in hashes_of_cards(directory).items() if found != known.get(name)]


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
