"""The files in which a run records its inputs and results, and the model cards of the two encoders.

The first two identify the folder of a run. A card tells people what they should know about an encoder.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from nuner_embed.errors import PretrainingError
from nuner_embed.files import read_json, sha256_of
from nuner_embed.heads.span_scorer import WIDTH
from nuner_embed.metadata import Count, Positive, Sha256, convert, read_object
from nuner_embed.models.directories import CONCEPT_FOLDER, DETECTOR_FOLDER, HEAD_FOLDER, SPAN_FOLDER

FACTS_FILE: Final = "pretrain.json"
RUN_FILE: Final = "run.json"
CARD: Final = "README.md"
TRAINING_FOLDER: Final = "training"
SCHEMA_VERSION: Final = 1
RUN_KIND: Final = "pre-training run"
T = TypeVar("T")
_NOT_OURS = "name another directory, or remove that one yourself"


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The data of a run, as `Prepared.facts` returns it."""

    files: list[str]
    sha256: Sha256
    texts: Count
    pieces: Count
    mentions: Count
    mentions_lost: Count
    labels: Count
    kind: str
    held_out: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportFacts:
    """What a model was fine-tuned on.

    Attributes:
        types: that its head tells apart.
        k: the sentences were drawn with between k and 2k mentions of each type; None if all the data was taken.
        short_types: what became of types with fewer than k mentions; None if nothing was drawn.
    """

    types: list[str]
    k: Positive | None
    short_types: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunFacts:
    """The inputs of a run; `processes` is left out of the facts of the finished model.

    Attributes:
        thesaurus: SHA-256 of the thesaurus, if there is one.
        teacher: semantic hash of the teacher, if there is one.
        support: only of a fine-tuned model.
    """

    base: str
    base_sha256: Sha256
    data: DataFacts
    settings: dict[str, Any]
    probe_set: str | None
    thesaurus: Sha256 | None = None
    teacher: Sha256 | None = None
    processes: Positive = 1
    support: SupportFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts(BegunFacts):
    """The contents of `pretrain.json`: the facts of a finished model.

    Attributes:
        layers, frozen_layers, frozen_concept_layers: of the encoders; the last only if there is a concept encoder.
        similarity: scale and bias of the loss, or its temperature.
        steps: of the optimizer.
        best_step: of a fine-tuned model, the step whose parameters were taken.
        validation_loss, validation_top1, probe_f1: of these parameters; None if not measured.
        cards: SHA-256 of the cards as written, by their paths; missing in earlier versions.
    """

    layers: Positive
    frozen_layers: Count
    similarity: dict[str, float]
    steps: Positive
    validation_loss: float | None
    validation_top1: float | None
    probe_f1: float | None
    frozen_concept_layers: Count | None = None
    best_step: Count | None = None
    cards: dict[str, Sha256] | None = None


def read_begun(directory: Path) -> dict[str, Any] | None:
    """The inputs of the run in a directory; None if they are not recorded yet.

    Raises:
        FileNotFoundError: no run was begun there.
        PretrainingError: the file is damaged, not of nuner-embed, or of another version.
    """
    path = directory / TRAINING_FOLDER / RUN_FILE
    values = _object(path, "the mark of a pre-training run")
    begun: Any = values
    if "schema_version" in values:  # earlier versions recorded the inputs alone
        if values.get("kind") != RUN_KIND:
            raise PretrainingError(f"{path} is not the mark of a pre-training run; {_NOT_OURS}")
        begun = values.get("begun")
    if begun is not None:
        _require(path, begun, BegunFacts)
    return begun  # type: ignore[no-any-return]


def read_model(directory: Path) -> ModelFacts:
    """The facts of a finished model.

    Raises:
        FileNotFoundError: there are no facts.
        PretrainingError: the facts are damaged, not of nuner-embed, or of another version.
    """
    path = directory / FACTS_FILE
    return _require(path, _object(path, "the facts of a pre-trained model"), ModelFacts)


def _require(path: Path, values: Any, kind: type[T]) -> T:
    try:
        return convert(values, kind)
    except ValueError as error:
        raise PretrainingError(f"{path}: {error}; {_NOT_OURS}") from None


def _object(path: Path, what: str) -> dict[str, Any]:
    return read_object(
        path, version=SCHEMA_VERSION, error=PretrainingError, what=what, cure=_NOT_OURS, unversioned=True
    )


# what people may change or put in place themselves: the cards, and heads, which `probe train` writes too
_CARDS: Final = (
    CARD,
    f"{CONCEPT_FOLDER}/{CARD}",
    *(f"{folder}/probe.json" for folder in (DETECTOR_FOLDER, SPAN_FOLDER, HEAD_FOLDER)),
)


def hashes_of_cards(folder: Path) -> dict[str, str]:
    """The SHA-256 of the cards and the heads in a model's folder, by their paths in it."""
    return {name: sha256_of(folder / name) for name in _CARDS if (folder / name).is_file()}


def changed_cards(directory: Path, facts_in: Path | None = None) -> list[Path]:
    """The cards and heads of a finished model that somebody has changed, or put there.

    Args:
        directory: of the model.
        facts_in: the folder of its facts, if the facts were moved.
    """
    folder = facts_in or directory
    known = read_model(folder).cards
    if known is None:  # earlier versions kept no hashes
        values = read_json(folder / FACTS_FILE)
        written = {_CARDS[0]: text_card(values), _CARDS[1]: concept_card(values)}
        return [
            directory / name
            for name in hashes_of_cards(directory)
            if (directory / name).read_bytes() != written.get(name, "").encode()
        ]
    return [directory / name for name, found in hashes_of_cards(directory).items() if found != known.get(name)]


def finetuned_card(facts: dict[str, Any]) -> str:
    """The model card of a fine-tuned model, as Markdown."""
    settings, data, support = facts["settings"], facts["data"], facts["support"]
    drawn = f", drawn with {support['k']} to {2 * support['k']} mentions of each type" if support["k"] else ""
    return f"""---
base_model: {json.dumps(facts["base"])}
tags: [named-entity-recognition, token-classification, nuner-embed]
---

# A fine-tuned model for entity recognition

Made by `nuner-embed finetune` from `{facts["base"]}`: an encoder of which every layer was trained, and a linear layer
over the first token of each word in the folder `{HEAD_FOLDER}`.

- types: {", ".join(f"`{name}`" for name in support["types"])}
- data: {data["texts"]:,} texts{drawn}, {data["mentions"]:,} mentions; files:
  {", ".join(f"`{name}`" for name in data["files"])}
- {settings["epochs"]} epochs at most in batches of {settings["batch_size"]}, learning rate
  {settings["learning_rate"]:g}; {data["held_out"]:,} pieces held out; the parameters of step {facts["best_step"]:,} of
  {facts["steps"]:,}
- on what was held out: loss {_shown(facts["validation_loss"])}, words right {_shown(facts["validation_top1"])}

`nuner-embed probe predict DIRECTORY` finds the types in texts, and `nuner-embed export DIRECTORY -o model` exports the
encoder with the head. The concept encoder, span head and mention detector of its base do not belong to this encoder.

Limits: the model knows these types alone, and what its base knows of languages and lengths. Licences are those of the
base and of the data.
"""


def text_card(facts: dict[str, Any]) -> str:
    """The model card of the text encoder, as Markdown."""
    settings, data = facts["settings"], facts["data"]
    how = (
        f"Its tokens were trained to agree with the concepts that they stand for, against the other concepts of each "
        f"batch ({settings['loss']} loss), as in NuNER (arXiv 2402.15343)."
        if settings["objective"] == "contrastive"
        else "It was trained under a linear layer that tags words (NER-BERT's way, section 4.1 of arXiv 2402.15343)."
    )
    thesaurus = ", with a thesaurus of synonyms and broader types" if facts.get("thesaurus") else ""
    teacher = "; it also learnt the vectors of tokens of a teacher" if facts.get("teacher") else ""
    return f"""---
base_model: {json.dumps(facts["base"])}
tags: [named-entity-recognition, token-embeddings, nuner-embed]
---

# A text encoder for entity recognition

Made by `nuner-embed pretrain` from `{facts["base"]}`. {how}

- data: {data["texts"]:,} texts, {data["mentions"]:,} annotations, {data["labels"]:,} {data["kind"]}{thesaurus}; files:
  {", ".join(f"`{name}`" for name in data["files"])}; {data["held_out"]:,} pieces held out
- {settings["epochs"]} epochs in batches of {settings["batch_size"] * settings["accumulate"]}, learning rate
  {settings["learning_rate"]:g}, the bottom {facts["frozen_layers"]} of {facts["layers"]} layers frozen{teacher}
- at the end, on what was held out: loss {_shown(facts["validation_loss"])}, top-1 {_shown(facts["validation_top1"])}

A drop-in for its base: `AutoModel.from_pretrained` and `AutoTokenizer.from_pretrained` load it. It has no head:
`nuner-embed probe train` learns one from a few examples, `nuner-embed encode --model DIRECTORY` encodes a corpus.
All values of the run are in `{FACTS_FILE}`, how it went in `metrics.csv`.

Limits: whatever its base does not know (language, length) it does not know either; what it was trained on decides which
kinds of entity it tells apart. Licences are those of the base and of the data.
"""


def span_card(facts: dict[str, Any]) -> str:
    """The model card of a model that got a span head, as Markdown."""
    settings, data = facts["settings"], facts["data"]
    thesaurus = ", with a thesaurus" if facts["thesaurus"] else ""
    return f"""---
base_model: {json.dumps(facts["base"])}
tags: [named-entity-recognition, zero-shot, nuner-embed]
---

# A bi-encoder with a span head

Made by `nuner-embed pretrain --objective spans` from `{facts["base"]}`, whose encoders are unchanged. The span head in
the folder `{SPAN_FOLDER}` scores all short runs of words for types that are given by name: `nuner-embed tag`.

- data: {data["texts"]:,} texts, {data["mentions"]:,} annotations, {data["labels"]:,} concepts{thesaurus}; files:
  {", ".join(f"`{name}`" for name in data["files"])}; {data["held_out"]:,} texts held out
- {settings["epochs"]} epochs in batches of {settings["batch_size"] * settings["accumulate"]}, learning rate
  {settings["learning_rate"]:g}
- at the end, on what was held out: loss {_shown(facts["validation_loss"])}, top-1 concept
  {_shown(facts["validation_top1"])}

Limits: those of the encoders; mentions of up to {WIDTH} words. Licences are those of the base and of the data.
"""


def concept_card(facts: dict[str, Any]) -> str:
    """The model card of the concept encoder, as Markdown."""
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
