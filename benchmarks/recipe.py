"""Compares recipes for training nuner-mini, on development parts only.

    python benchmarks/recipe.py [TRIAL ...]

Each trial is a pre-training on a sample of llm-annotated with one value changed, first of the defaults and later of the
best trial so far. A trial is measured on a fifth of the training parts of three typed sets, selected by a hash of the
sentence, at most 1,000 sentences each: probes from support sets of the remaining sentences, how well a mention finds
others of its type, and how well the name of a type finds them. Test parts are not used. Measurements are kept, and an
interrupted run continues.
"""

import argparse
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from common import WORK, data_file, keep, machine
from concepts import CONCEPTS
from strength import SETS, is_held_out

from nuner_embed import load_encoder
from nuner_embed.cli.progress import RowProgress, note
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.evaluation.fewshot import FewShotProtocol, TypedSet, measure, needed, plan
from nuner_embed.heads.features import embed_words
from nuner_embed.indexes.vectors import Floats, prepared
from nuner_embed.machine import cores
from nuner_embed.pretraining.facts import FACTS_FILE
from nuner_embed.pretraining.run import pretrain
from nuner_embed.pretraining.settings import PretrainSettings

DATA = "llm-annotated/annotated.jsonl.gz"
NEAREST = {"snips", "sgd", "plot", "craft", "anem", "scier", "politics"}  # kinds of text that resemble the test parts
DEVELOPMENT, FEWEST = 1000, 11
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
        base: measure the base model itself.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    layers: tuple[int, ...] = (-1,)
    of: str | None = None
    without: frozenset[str] = frozenset()
    base: bool = False


SAMPLE = {"sample": 6000, "epochs": 3, "validate_every": 3}
FASTER = {**SAMPLE, "learning_rate": 8e-4}  # the best of the first trials
DEEPER = {**FASTER, "frozen_layers": 2}  # the best of the later trials
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
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=f"trials to run, of {', '.join(TRIALS)}")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    sets = [development(name, data_file(path)) for name, path in SETS.items()]
    for name in options.trials or TRIALS:
        kept = FOLDER / f"{name}.json"
        if not kept.exists():
            kept.write_text(json.dumps(run(name, TRIALS[name], sets)))
            print(name, json.loads(kept.read_text()), flush=True)
    found = {
        name: json.loads((FOLDER / f"{name}.json").read_text()) for name in TRIALS if (FOLDER / f"{name}.json").exists()
    }
    keep("recipe", {"machine": machine("torch", "numpy", "scikit-learn"), "trials": found}, report(found))


def development(name: str, path: Any) -> TypedSet:
    documents = read_annotated([path], "conll")[0]
    held = [document for document in documents if is_held_out(document.text)][:DEVELOPMENT]
    rest = [document for document in documents if not is_held_out(document.text)]
    return TypedSet(name, tuple(rest), tuple(held), name)


def run(name: str, trial: Trial, sets: Sequence[TypedSet]) -> dict[str, Any]:
    """Trains, unless this was already done, and measures."""
    if trial.base:
        return {"cells": [one for typed in sets for one in measured(trial.layers, "minilm-l6", typed)]}
    directory = FOLDER / (trial.of or name)
    if not (directory / FACTS_FILE).exists():
        with RowProgress("") as progress:
            pretrain(
                [filtered(trial.without)], directory, PretrainSettings(**trial.changes), progress=progress, note=note
            )
    facts = json.loads((directory / FACTS_FILE).read_text())
    cells = [one for typed in sets for one in measured(trial.layers, str(directory), typed)]
    return {"held_out_loss": facts["validation_loss"], "similarity": facts["similarity"], "cells": cells}


def filtered(without: frozenset[str]) -> Any:
    """The corpus, or a copy without some kinds of text."""
    source = data_file(DATA)
    if not without:
        return source
    target = FOLDER / "filtered.jsonl.gz"
    with gzip.open(source, "rt", encoding="utf-8") as lines, gzip.open(target, "wt", encoding="utf-8") as kept:
        kept.writelines(line for line in lines if json.loads(line)["source"] not in without)
    return target


def measured(layers: tuple[int, ...], model: str, typed: TypedSet) -> list[dict[str, Any]]:
    """Few-shot scores and precisions at 10 of a model on a set."""
    encoder = load_encoder(model, layers=layers)
    draws = plan(typed, PROTOCOL)
    train = embed_words(encoder, [typed.train[i] for i in needed(draws)])
    test = embed_words(encoder, typed.test)
    cells = measure("", typed, draws, PROTOCOL, train, test, threads=cores())
    found = [{"set": typed.name, "what": f"k = {cell.k}", "scores": cell.scores} for cell in cells]
    table = encoder.tokenize(typed.test, "mention")
    embedded = encoder.encode_rows(table, "mention")
    labels = [
        typed.test[d].spans[i].label or "" for d, i in zip(embedded.rows.document, embedded.rows.index, strict=True)
    ]
    x, document = prepared(embedded.vectors, "cosine"), embedded.rows.document
    found.append({"set": typed.name, "what": "mention P@10", "scores": by_mention(x, np.array(labels), document)})
    if model != "minilm-l6" and layers == (-1,):
        found.append(
            {
                "set": typed.name,
                "what": "concept P@10",
                "scores": by_concept(x, np.array(labels), typed.name, ConceptEncoder.open(model)),
            }
        )
    return found


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
    what = [f"k = {k}" for k in PROTOCOL.k] + ["mention P@10", "concept P@10"]
    lines = [
        f"Development parts of {', '.join(SETS)}, percent, mean over sets. k = ...: token macro-F1 with None left out, "
        f"{PROTOCOL.draws} draws; P@10: mean over types of at least {FEWEST} mentions.\n",
        f"| trial | {' | '.join(what)} | held-out loss |",
        "|---" * (len(what) + 2) + "|",
    ]
    for name, one in found.items():
        shown = []
        for column in what:
            means = [np.mean(cell["scores"]) for cell in one["cells"] if cell["what"] == column]
            shown.append(f"{100 * np.mean(means):.1f}" if means else "")
        loss = f"{one['held_out_loss']:.3f}" if "held_out_loss" in one else ""
        lines.append(f"| {name} | {' | '.join(shown)} | {loss} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
