"""What does a first pre-training on LLM-annotated sentences bring?

    python benchmarks/first_pretraining.py

Runs `nuner-embed pretrain` with the defaults on llm-annotated (18,740 sentences, a tenth held out), with a quick probe
on MIT Movie after every epoch, and measures the result as the paper does: probes on frozen features, ten support sets
of k to 2k mentions a type, whole test parts, the default probe. Our sentences were annotated for this project; the
paper's are fifty times as many, of another corpus and another LLM, and its base is RoBERTa.
"""

import json
import shutil
from typing import Any

from common import RESULTS, WORK, data_file, keep, machine
from fewshot import SETS

from nuner_embed.cli.progress import RowProgress, note
from nuner_embed.evaluation.protocol import Protocol
from nuner_embed.evaluation.run import evaluate_fewshot, read_set
from nuner_embed.pretraining.folder import FACTS_FILE
from nuner_embed.pretraining.run import CURVE_FILE, METRICS_FILE, pretrain
from nuner_embed.pretraining.settings import Settings

DATA = "llm-annotated/annotated.jsonl.gz"
MEASURED = tuple(SETS)[:3]
K = (1, 4, 16, 64)
SETTINGS = Settings(validate_every=1)
FOLDER = WORK / "pretraining" / "first"


def main() -> None:
    sets = [read_set(name, *map(data_file, SETS[name]), format="conll") for name in MEASURED]
    with RowProgress("") as progress:
        if not (FOLDER / FACTS_FILE).exists():
            pretrain([data_file(DATA)], FOLDER, SETTINGS, probe_set=sets[0], progress=progress, note=note)
        facts = json.loads((FOLDER / FACTS_FILE).read_text())
        if facts["settings"] != SETTINGS.to_dict():
            raise SystemExit(f"{FOLDER} was trained with other values; remove it")
        found = evaluate_fewshot(
            {"before": facts["base"], "after": str(FOLDER)},
            sets,
            WORK / "pretraining" / "fewshot",
            Protocol(k=K),
            progress=progress,
            note=note,
        )
    shutil.copyfile(FOLDER / CURVE_FILE, RESULTS / "first-pretraining.png")
    rows = [line.split(",") for line in (FOLDER / METRICS_FILE).read_text().splitlines()]
    run = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    result = {
        "machine": machine("torch", "transformers", "accelerate"),
        "run": facts,
        "metrics": run,
        "cells": found["cells"],
    }
    keep("first-pretraining", result, table(facts, run, found["cells"]))


def table(facts: dict[str, Any], run: list[dict[str, str]], cells: list[dict[str, Any]]) -> str:
    """How training went, and the few-shot scores before and after."""
    data = facts["data"]
    speeds = sorted(float(row["sentences_per_second"]) for row in run if row["sentences_per_second"])
    lines = [
        f"{data['texts']:,} sentences, {data['mentions']:,} annotations, {data['labels']:,} concepts, "
        f"{data['held_out']:,} sentences held out; from `{facts['base']}`, {facts['steps']:,} steps; median "
        f"{speeds[len(speeds) // 2]:.0f} sentences/s while training (other work ran beside it for a while).\n",
        "| epoch | held-out loss | top-1 concept in the batch, held out | quick probe on MIT Movie | scale | bias |",
        "|---|---|---|---|---|---|",
    ]
    for row in run:
        if row["validation_loss"]:
            percent = (f"{float(row[name]):.1%}" for name in ("validation_top1", "probe_f1"))
            lines.append(
                f"| {float(row['epoch']):.0f} | {float(row['validation_loss']):.3f} | {' | '.join(percent)} "
                f"| {float(row['scale']):.1f} | {float(row['bias']):.2f} |"
            )
    lines += [
        "\n![the curves](first-pretraining.png)\n",
        "Few-shot, token macro-F1 with None left out, percent, mean and standard deviation of ten draws, last layer:\n",
        f"| set | | {' | '.join(f'k = {k}' for k in K)} |",
        "|---" * (len(K) + 2) + "|",
    ]
    by_cell = {(cell["set"], cell["model"], cell["k"]): cell for cell in cells}
    for name in MEASURED:
        for model in ("before", "after"):
            shown = (
                f"{100 * by_cell[name, model, k]['mean']:.1f} ± {100 * by_cell[name, model, k]['std']:.1f}" for k in K
            )
            lines.append(f"| {name} | {model} | {' | '.join(shown)} |")
    for model in ("before", "after"):
        means = (sum(by_cell[name, model, k]["mean"] for name in MEASURED) / len(MEASURED) for k in K)
        lines.append(f"| average | {model} | {' | '.join(f'{100 * mean:.1f}' for mean in means)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
