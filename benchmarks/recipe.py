"""Compares recipes for training nuner-mini, on development parts only.

    python benchmarks/recipe.py [TRIAL ...]
    python benchmarks/recipe.py --sample 300 --epochs 1 "best, thesaurus 1, broader 0.3"    # whether it runs at all

Each trial is a pre-training on a sample of llm-annotated with one value changed, first of the defaults and later of the
best trial so far. A trial is measured on development parts: a fifth of the training parts of three typed sets, selected
by a hash of the sentence, at most 1,000 sentences each, and the `dev` parts of CrossNER politics and science. Test
parts are not used. What is measured:

- k = ...: probes from support sets of the remaining training sentences; a set with too few mentions of a type for a
  size has no score there
- mention P@10, concept P@10: how well a mention, and the name of a type, finds mentions of the type
- typing: names alone, bounds given: the share of mentions to which the name of their own type is the most similar
- zero-shot F1: names alone. Each word gets the type with the most similar name, or none if the cosine is below a
  threshold, and adjacent words of a type are a mention. The models have no calibration: each trial has the single
  threshold that is best for it on the mean over the sets, which flatters all trials alike.

Trained models and measurements are kept, and an interrupted run continues. Measurements of an earlier version of this
file are made again from the trained model, without another training; a trial whose model is gone is left out.
"""

import argparse
import gzip
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import WORK, data_file, keep, machine
from concepts import CONCEPTS
from corpora import DATA, THESAURUS, json_line
from corpora import typed as read_typed
from offset import HALVED, WITH_DEV, parts

from nuner_embed import load_encoder
from nuner_embed.cli.progress import RowProgress, note
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.encoders.text import TextEncoder, unit
from nuner_embed.evaluation.fewshot import FewShotProtocol, TypedSet, measure, needed, plan
from nuner_embed.heads.features import embed_words
from nuner_embed.heads.labelled_words import Runs, WordLabels, count_mentions, runs_of
from nuner_embed.indexes.vectors import Floats, prepared
from nuner_embed.machine import cores, cpu_name
from nuner_embed.models.snapshot import save_model
from nuner_embed.pretraining.facts import FACTS_FILE
from nuner_embed.pretraining.run import pretrain
from nuner_embed.pretraining.settings import PretrainSettings

NEAREST = {"snips", "sgd", "plot", "craft", "anem", "scier", "politics"}  # kinds of text that resemble the test parts
SENSES = (
    "typed/wordnet-senses/semcor.jsonl.gz",
    "typed/wordnet-senses/masc.jsonl.gz",
    "typed/text2kg/text2kg.jsonl.gz",
)
SETS = (*HALVED, *WITH_DEV)
FEWEST = 11
THRESHOLDS = tuple(round(0.02 * i, 2) for i in range(50))  # cosines
MEASURES = 2  # of the measurements; a change makes them again
PROTOCOL = FewShotProtocol(k=(1, 4, 16), draws=6)
FOLDER = WORK / "recipe"


@dataclass(frozen=True)
class Trial:
    """A pre-training with one value changed.

    Attributes:
        changes: settings that replace the defaults.
        layers: of the recipe with which the result is measured.
        of: the trial whose training is measured again, if only the layers differ.
        without: kinds of text that are left out and replaced by as many other sentences.
        senses: further sentences, as a share of the sample, which people annotated with the WordNet ancestors of nouns
            or with classes of Wikidata.
        thesaurus: train with the synonyms and broader types of the concepts.
        teacher: the trial whose model is the teacher.
        base: measure the base model itself.
        first_layers: start from the first layers of another known model: its name, and their number.
        trained_at: commit of the project whose training it was, which the present one replaced.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    layers: tuple[int, ...] = (-1,)
    of: str | None = None
    without: frozenset[str] = frozenset()
    senses: float = 0.0
    thesaurus: bool = False
    teacher: str | None = None
    base: bool = False
    first_layers: tuple[str, int] | None = None
    trained_at: str | None = None


SAMPLE = {"sample": 6000, "epochs": 3, "validate_every": 3}
FASTER = {**SAMPLE, "learning_rate": 8e-4}  # the best of the first trials
DEEPER = {**FASTER, "frozen_layers": 2}  # the best of the later trials
BEST = {**DEEPER, "precision": "bf16"}  # the trials that follow it; the same held-out loss as in f32, in less time
TEACHER = "mpnet-base, 7 layers, 4 frozen, 4e-4, 6 concept layers frozen"  # a trial before it
LARGER = {**BEST, "learning_rate": 4e-4, "frozen_layers": 4, "frozen_concept_layers": 4}  # the best of mpnet-base
TRIALS = {
    "base, last layer": Trial(base=True),
    "base, middle layer": Trial(base=True, layers=(-4,)),
    "base, last and middle": Trial(base=True, layers=(-1, -4)),
    "defaults": Trial(SAMPLE),
    "defaults, last and middle": Trial(SAMPLE, layers=(-1, -4), of="defaults"),
    "concept pooling first": Trial({**SAMPLE, "concept_pooling": "first"}),
    "learning rate 8e-4": Trial({**SAMPLE, "learning_rate": 8e-4}),
    "8e-4, 2 text layers frozen": Trial({**FASTER, "frozen_layers": 2}),
    "8e-4, 1 text layer frozen": Trial({**FASTER, "frozen_layers": 1}),
    "8e-4, 2 frozen, without the nearest texts": Trial(DEEPER, without=frozenset(NEAREST)),
    "best": Trial(BEST),
    "best, learning rate 1.6e-3": Trial({**BEST, "learning_rate": 1.6e-3}),
    "best, 5 epochs": Trial({**BEST, "epochs": 5, "validate_every": 5}),
    "best, 8 epochs": Trial({**BEST, "epochs": 8, "validate_every": 8}),
    "best, batch 32": Trial({**BEST, "batch_size": 32}),
    "best, batch 128": Trial({**BEST, "batch_size": 128}),
    "best, scale 20": Trial({**BEST, "scale": 20.0}),
    **{
        f"best, thesaurus {draws:g}, broader {weight:g}": Trial(
            {**BEST, "related_draws": draws, "broader_weight": weight}, thesaurus=True
        )
        for draws, weight in ((1.0, 0.5), (2.0, 1.0))
    },
    # as above, but what follows from two lines of the thesaurus, such as a synonym of a broader type, was a negative
    **{
        f"best, single lines {draws:g}, broader {weight:g}": Trial(
            {**BEST, "related_draws": draws, "broader_weight": weight}, thesaurus=True, trained_at="27925e7"
        )
        for draws, weight in ((0.0, 0.5), (0.5, 0.3), (1.0, 0.0), (1.0, 0.5), (1.0, 1.0), (2.0, 0.5))
    },
    **{f"best, senses {share:g}": Trial(BEST, senses=share) for share in (0.25, 1.0)},
    "mpnet-base, 7 layers, 4 frozen, 4e-4": Trial(LARGER, first_layers=("mpnet-base", 7)),
    "mpnet-base, 7 layers, 5 frozen, 4e-4": Trial(
        {**LARGER, "frozen_layers": 5, "frozen_concept_layers": 5}, first_layers=("mpnet-base", 7)
    ),
    TEACHER: Trial({**LARGER, "frozen_concept_layers": 6}, first_layers=("mpnet-base", 7)),
    "mpnet-base, 7 layers, 4 frozen, 2e-4": Trial({**LARGER, "learning_rate": 2e-4}, first_layers=("mpnet-base", 7)),
    "mpnet-base, 7 layers, 4 frozen, 4e-4, 5 epochs": Trial(
        {**LARGER, "epochs": 5, "validate_every": 5}, first_layers=("mpnet-base", 7)
    ),
    "mpnet-base, 6 layers, 3 frozen, 4e-4": Trial(
        {**LARGER, "frozen_layers": 3, "frozen_concept_layers": 3}, first_layers=("mpnet-base", 6)
    ),
    "mpnet-base, 7 layers, 4 frozen, 4e-4, thesaurus 1, broader 0.5": Trial(
        {**LARGER, "related_draws": 1.0, "broader_weight": 0.5}, thesaurus=True, first_layers=("mpnet-base", 7)
    ),
    **{
        f"best, taught by mpnet-base, {epochs} epochs": Trial(
            {**BEST, "teacher_weight": 5.0, "epochs": epochs, "validate_every": epochs}, teacher=TEACHER
        )
        for epochs in (3, 5)
    },
    # how much is chance: a seed decides the sample, the held-out texts, the order and dropout
    **{f"best, seed {seed}": Trial({**BEST, "seed": seed}) for seed in (1, 2)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=f"trials to run, of {', '.join(TRIALS)}")
    parser.add_argument("--sample", type=int, help="texts of each trial; the results are printed and not kept")
    parser.add_argument("--epochs", type=int, help="of each trial; the results are printed and not kept")
    options = parser.parse_args()
    unknown = sorted(set(options.trials) - set(TRIALS))
    if unknown:
        parser.error(f"no trial is called {', '.join(unknown)}")
    sets = [development(name) for name in SETS]
    trials = {name: TRIALS[name] for name in options.trials or TRIALS}
    smaller = {name: value for name in ("sample", "epochs") if (value := getattr(options, name)) is not None}
    if smaller:
        tried = {}
        with tempfile.TemporaryDirectory() as folder:
            for name, trial in trials.items():
                changed = replace(trial, changes={**trial.changes, **smaller}, of=None)
                tried[name] = run(name, changed, sets, Path(folder))
        print(report(tried))
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, trial in trials.items():
        if trial.trained_at and not is_current(name) and not is_trained(name, trial):
            print(f"{name}: commit {trial.trained_at} trained it")
        elif kept(name) and not is_current(name) and not is_trained(name, trial):
            print(f"{name}: measured by an earlier version, and the model is gone; remove {name}.json to train again")
        elif not is_current(name):
            (FOLDER / f"{name}.json").write_text(json.dumps(run(name, trial, sets, FOLDER)))
            print(name, "measured", flush=True)
    found = {name: kept(name) for name in TRIALS if is_current(name)}
    keep("recipe", {"machine": machine("torch", "numpy", "scikit-learn"), "trials": found}, report(found))


def kept(name: str) -> dict[str, Any]:
    """The measurements of a trial; empty if there are none."""
    path = FOLDER / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def is_current(name: str) -> bool:
    return kept(name).get("measures") == MEASURES


def is_trained(name: str, trial: Trial) -> bool:
    return trial.base or (FOLDER / (trial.of or name) / FACTS_FILE).exists()


def development(name: str) -> TypedSet:
    learnt, held = parts(name)
    return TypedSet(name, tuple(learnt), tuple(held), name)


def run(name: str, trial: Trial, sets: Sequence[TypedSet], folder: Path) -> dict[str, Any]:
    """Trains, unless this was already done, and measures."""
    directory = folder / (trial.of or name)
    if not trial.base and not (directory / FACTS_FILE).exists():
        changes = dict(trial.changes)
        corpus = mixed(trial.senses, changes.pop("sample"), folder) if trial.senses else filtered(trial.without, folder)
        with RowProgress("") as progress:
            pretrain(
                [corpus],
                directory,
                PretrainSettings(**changes),
                base=start_of(trial, folder),
                thesaurus=data_file(THESAURUS) if trial.thesaurus else None,
                teacher=str(folder / trial.teacher) if trial.teacher else None,
                progress=progress,
                note=note,
            )
    model = "minilm-l6" if trial.base else str(directory)
    found: dict[str, Any] = {"measures": MEASURES, "cpu": cpu_name(), "cells": [], "zero_shot": {}}
    if not trial.base:
        facts = json.loads((directory / FACTS_FILE).read_text())
        found |= {"held_out_loss": facts["validation_loss"], "similarity": facts["similarity"]}
    for typed in sets:
        encoder = load_encoder(model, layers=trial.layers)
        words = embed_words(encoder, typed.test)
        found["cells"] += few_shot(encoder, typed, words)
        x, labels, document = mentions_of(encoder, typed)
        found["cells"].append(cell(typed, "mention P@10", by_mention(x, labels, document)))
        if not trial.base and trial.layers == (-1,):
            concepts = ConceptEncoder.open(model)
            found["cells"].append(cell(typed, "concept P@10", by_concept(x, labels, typed.name, concepts)))
            found["cells"].append(cell(typed, "typing", [typing_accuracy(x, labels, typed, concepts)]))
            found["zero_shot"][typed.name] = zero_shot(words, typed, concepts)
    return found


def start_of(trial: Trial, folder: Path) -> str | None:
    """What both encoders start from; None for the usual base."""
    if trial.first_layers is None:
        return None
    name, layers = trial.first_layers
    directory = folder / f"{name}-{layers}"
    if not directory.exists():
        save_model(name, directory, layers_kept=layers)
    return str(directory)


def cell(typed: TypedSet, what: str, scores: list[float]) -> dict[str, Any]:
    return {"set": typed.name, "what": what, "scores": scores}


def filtered(without: frozenset[str], folder: Path) -> Path:
    """The corpus, or a copy without some kinds of text."""
    source = data_file(DATA)
    if not without:
        return source
    target = folder / "filtered.jsonl.gz"
    with gzip.open(source, "rt", encoding="utf-8") as lines, gzip.open(target, "wt", encoding="utf-8") as kept:
        kept.writelines(line for line in lines if json.loads(line)["source"] not in without)
    return target


def mixed(share: float, sample: int, folder: Path) -> Path:
    """A sample of the corpus, and as many further sentences of each of `SENSES` as give that share in all."""
    draw = np.random.default_rng(0)
    with gzip.open(data_file(DATA), "rt", encoding="utf-8") as stream:
        lines = stream.readlines()
    chosen = [lines[i] for i in draw.choice(len(lines), sample, replace=False)]
    for name in SENSES:
        documents = read_typed(name)
        further = draw.choice(len(documents), round(share * sample / len(SENSES)), replace=False)
        chosen += [json_line(replace(documents[i], id=f"{name}:{i}")) for i in further]
    target = folder / f"mixed-{share:g}.jsonl.gz"
    with gzip.open(target, "wt", encoding="utf-8") as kept:
        kept.writelines(chosen)
    return target


def few_shot(encoder: TextEncoder, typed: TypedSet, words: WordFeatures) -> list[dict[str, Any]]:
    """The scores of probes; none for a size of which the set has no support set."""
    draws = plan(typed, PROTOCOL)
    train = embed_words(encoder, [typed.train[i] for i in needed(draws)])
    cells = measure("", typed, draws, PROTOCOL, train, words, threads=cores())
    return [cell(typed, f"k = {one.k}", one.scores) for one in cells if one.scores]


def mentions_of(encoder: TextEncoder, typed: TypedSet) -> tuple[Floats, Any, Any]:
    """Of all mentions of the development part: vectors of unit length (m, dim), types (m,) and documents (m,)."""
    table = encoder.tokenize(typed.test, "mention")
    embedded = encoder.encode_rows(table, "mention")
    labels = [
        typed.test[d].spans[i].label or "" for d, i in zip(embedded.rows.document, embedded.rows.index, strict=True)
    ]
    return prepared(embedded.vectors, "cosine"), np.array(labels), embedded.rows.document


def typing_accuracy(x: Floats, labels: Any, typed: TypedSet, concepts: ConceptEncoder) -> float:
    """The share of mentions to which the name of their own type is the most similar."""
    types = np.array(sorted(count_mentions(typed.test)))
    return float((types[(x @ names_of(typed, concepts).T).argmax(axis=1)] == labels).mean())


def names_of(typed: TypedSet, concepts: ConceptEncoder) -> Floats:
    """The vectors of the names of the types of a development part, sorted by type, (types, dim)."""
    return concepts.encode([CONCEPTS[typed.name][label] for label in sorted(count_mentions(typed.test))])


def zero_shot(words: WordFeatures, typed: TypedSet, concepts: ConceptEncoder) -> list[float]:
    """Span micro-F1 of words typed by the names of the types alone, for each of `THRESHOLDS`."""
    gold = keys(WordLabels.of(typed.test, words, sorted(count_mentions(typed.test))).mentions)
    cosines = unit(np.array(words.vectors, np.float32)) @ names_of(typed, concepts).T
    best, highest = cosines.argmax(axis=1) + 1, cosines.max(axis=1)
    found = []
    for threshold in THRESHOLDS:
        mentions = keys(runs_of(np.where(highest >= threshold, best, 0), words.bounds))
        found.append(2 * len(mentions & gold) / max(1, len(mentions) + len(gold)))
    return found


def keys(runs: Runs) -> set[tuple[int, int, int]]:
    return set(zip(runs.first.tolist(), runs.last.tolist(), runs.code.tolist(), strict=True))


def by_mention(x: Floats, labels: Any, document: Any) -> list[float]:
    """Mean precision at 10 of each type of at least 11 mentions; hits in the same sentence do not count."""
    similar = x @ x.T
    similar[document[:, None] == document[None]] = -np.inf
    best = np.argpartition(-similar, 10, axis=1)[:, :10]
    right = (labels[best] == labels[:, None]).mean(axis=1)
    return [float(right[labels == name].mean()) for name in frequent(labels)]


def by_concept(x: Floats, labels: Any, set_name: str, concepts: ConceptEncoder) -> list[float]:
    """Precision at 10 of the name of each type."""
    names = frequent(labels)
    y = concepts.encode([CONCEPTS[set_name][label] for label in names])
    best = np.argsort(-(y @ x.T), axis=1)[:, :10]
    return [float((labels[best[i]] == name).mean()) for i, name in enumerate(names)]


def frequent(labels: Any) -> list[str]:
    names, counts = np.unique(labels, return_counts=True)
    return [str(name) for name, count in zip(names, counts, strict=True) if count >= FEWEST]


def report(found: dict[str, dict[str, Any]]) -> str:
    what = [f"k = {k}" for k in PROTOCOL.k] + ["mention P@10", "concept P@10", "typing"]
    lines = [
        f"Development parts of {', '.join(SETS)}, percent, mean over the sets that have a score. k = ...: token",
        f"macro-F1 with None left out, {PROTOCOL.draws} draws; P@10: mean over types of at least {FEWEST} mentions;",
        "typing: names alone, bounds given, accuracy; zero-shot F1: names alone, word by word, span micro-F1 at the",
        "cosine (in brackets) that is best for the trial. Held-out losses with a thesaurus have another scale.\n",
        f"| trial | {' | '.join(what)} | zero-shot F1 | held-out loss |",
        "|---" * (len(what) + 3) + "|",
    ]
    for name, one in found.items():
        shown = []
        for column in what:
            means = [np.mean(cell["scores"]) for cell in one["cells"] if cell["what"] == column]
            shown.append(f"{100 * np.mean(means):.1f}" if means else "")
        if one["zero_shot"]:
            means = np.mean(list(one["zero_shot"].values()), axis=0)
            shown.append(f"{100 * means.max():.1f} ({THRESHOLDS[means.argmax()]:.2f})")
        else:
            shown.append("")
        loss = f"{one['held_out_loss']:.3f}" if "held_out_loss" in one else ""
        lines.append(f"| {name} | {' | '.join(shown)} | {loss} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
