"""Makes nuner-mini or nuner-base: trains the model and writes the parts that ship into nuner_embed/bundled.

    make nuner-mini DATA=path/to/data
    make nuner-base DATA=path/to/data    # after nuner-embed models fetch mpnet-base
    python benchmarks/nuner_models.py nuner-mini [--checkpoint DIRECTORY]
    python benchmarks/nuner_models.py nuner-mini --card    # after models.py, which measures the test parts

This uses the functions of the commands: `pretrain` on llm-annotated; the trained layers of both encoders, in float16;
`concepts calibrate` on text2kg, which is not training data; a mention detector, a binary probe on the spans of the LLM;
a span head, `pretrain --objective spans` with the thesaurus of the same LLM. The data are not in the repository, see
docs/models.md, which also says how long each model takes. An interrupted run goes on where it was.
"""

import argparse
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from common import RESULTS, ROOT, WORK, data_file
from corpora import DATA, THESAURUS, typed
from model_card import write_card

from nuner_embed.bundled import FOLDER
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
from nuner_embed.models.delta import compose, seal, ship
from nuner_embed.models.directories import DETECTOR_FOLDER, SPAN_FOLDER
from nuner_embed.models.resolver import locate
from nuner_embed.models.snapshot import save_model
from nuner_embed.pretraining.facts import FACTS_FILE
from nuner_embed.pretraining.folder import CURVE_FILE
from nuner_embed.pretraining.run import pretrain
from nuner_embed.pretraining.settings import PretrainSettings

CALIBRATION = "typed/text2kg/text2kg.jsonl.gz"
DETECTOR_TEXTS, DETECTOR_C = 6000, 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is made.

    Attributes:
        name: of the model.
        base: name of the model from which both encoders start.
        layers_kept: number of the base's layers from which they start, the first ones; None for all.
        settings: of the training, chosen by recipe.py.
    """

    name: str
    base: str
    layers_kept: int | None
    settings: PretrainSettings

    @property
    def shipped(self) -> Path:
        """The folder of the files that ship."""
        return FOLDER / self.name.replace("-", "_")

    @property
    def work(self) -> Path:
        """The folder of what is made on the way."""
        return WORK / self.name

    def composed(self) -> str:
        """The directory of the model as it ships at present."""
        return str(compose(self.name, self.shipped, lambda: locate(self.base).directory))

    def start(self) -> str:
        """What both encoders start from."""
        if self.layers_kept is None:
            return self.base
        directory = self.work / f"{self.base}-{self.layers_kept}"
        if not directory.exists():
            save_model(self.base, directory, layers_kept=self.layers_kept)
        return str(directory)


PLANS = {
    plan.name: plan
    for plan in (
        Plan(
            "nuner-mini",
            "minilm-l6",
            None,
            PretrainSettings(learning_rate=8e-4, frozen_layers=2, validation=0.05, validate_every=1),
        ),
        Plan(
            "nuner-base",
            "mpnet-base",
            7,
            PretrainSettings(
                epochs=4,
                learning_rate=4e-4,
                frozen_layers=4,
                frozen_concept_layers=6,
                validation=0.05,
                validate_every=1,
                precision="bf16",
            ),
        ),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=PLANS)
    parser.add_argument("--checkpoint", type=Path, help="the trained model; made if missing")
    parser.add_argument("--card", action="store_true", help="only write the model card again, with the figures")
    options = parser.parse_args()
    plan = PLANS[options.model]
    checkpoint = options.checkpoint or plan.work / "checkpoint"
    if options.card:
        write_card(plan.name, plan.shipped, checkpoint)
        return
    train(plan, checkpoint)
    shutil.rmtree(plan.shipped, ignore_errors=True)
    ship(checkpoint, locate(plan.base).directory, plan.shipped, plan.layers_kept)
    calibrate(plan)
    detect(plan)
    score_spans(plan)
    write_card(plan.name, plan.shipped, checkpoint)
    plan.composed()
    shutil.copyfile(checkpoint / CURVE_FILE, RESULTS / f"{plan.name}.png")
    size = sum(path.stat().st_size for path in plan.shipped.rglob("*") if path.is_file())
    print(f"{plan.shipped.relative_to(ROOT)}: {size / 1e6:.1f} MB")


def train(plan: Plan, checkpoint: Path) -> None:
    """Trains both encoders, unless this was already done."""
    if not (checkpoint / FACTS_FILE).exists():
        with RowProgress("") as progress:
            pretrain([data_file(DATA)], checkpoint, plan.settings, base=plan.start(), progress=progress, note=note)
    if json.loads((checkpoint / FACTS_FILE).read_text())["settings"] != plan.settings.to_dict():
        raise SystemExit(f"{checkpoint} was trained with other settings; remove it, or name another with --checkpoint")


def calibrate(plan: Plan) -> None:
    """Measures what the similarities of the model mean."""
    model, documents = plan.composed(), typed(CALIBRATION)
    concepts = ConceptEncoder.open(model)
    pairs = compare(load_encoder(model), concepts, documents)
    found = pairs.fit(f"{len(pairs.holds):,} mentions of {len(pairs.types)} types in Text2KGBench")
    concepts.calibrated(found).facts.write(plan.shipped)
    seal(plan.shipped)
    print(found)


def detect(plan: Plan) -> None:
    """Trains the probe that finds mentions."""
    documents, _ = read_annotated([data_file(DATA)])
    chosen = np.random.default_rng(0).choice(len(documents), DETECTOR_TEXTS, replace=False)
    unlabelled = [merged(documents[i]) for i in sorted(chosen)]
    encoder = load_encoder(plan.composed())
    tagger = train_probe(unlabelled, encoder, C=DETECTOR_C, class_weight=None, cache=plan.work / "features")
    facts = replace(tagger.head.facts, model=plan.name)
    LinearHead(tagger.head.weights, facts).save(plan.shipped / DETECTOR_FOLDER, force=True)
    seal(plan.shipped)


def score_spans(plan: Plan) -> None:
    """Trains the span head, on one thread, so that the same data give the same weights."""
    made = plan.work / "spans"
    if not (made / FACTS_FILE).exists():
        with RowProgress("") as progress:
            pretrain(
                [data_file(DATA)],
                made,
                PretrainSettings.preset("spans"),
                base=plan.composed(),
                thesaurus=data_file(THESAURUS),
                threads=1,
                progress=progress,
                note=note,
            )
    head = open_head(made / SPAN_FOLDER)
    assert isinstance(head, SpanHead)
    replace(head, facts=replace(head.facts, model=plan.name)).save(plan.shipped / SPAN_FOLDER, force=True)
    seal(plan.shipped)


def merged(document: Document) -> Document:
    """Spans without labels; overlapping spans become the one span that they cover together."""
    spans: list[Span] = []
    for span in sorted(document.spans, key=lambda one: (one.start, -one.end)):
        if spans and span.start < spans[-1].end:
            spans[-1] = Span(spans[-1].start, max(spans[-1].end, span.end))
        else:
            spans.append(Span(span.start, span.end))
    return replace(document, spans=tuple(spans))


if __name__ == "__main__":
    main()
