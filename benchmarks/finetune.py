"""Measures fine-tuned models beside frozen heads, from the same support sets (Table 2 of the paper).

    python benchmarks/finetune.py                                # an interrupted run continues
    python benchmarks/finetune.py --k 64 --draws 1 --threads 1   # one size
    python benchmarks/finetune.py --development                  # learning rates, on development parts alone
    python benchmarks/finetune.py --report                       # writes the results of what is measured so far

Three of the paper's four sets are at hand (OntoNotes is not), k = 8 and 64, whole test parts. `nuner-embed finetune`
with its defaults and nuner-mini. The frozen heads are those of results/fewshot.json: the same encoder, the same support
sets.
"""

import argparse
import itertools
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, WORK, data_file, keep, machine
from fewshot import AUTO, PLAIN, SETS, WORDS
from offset import HALVED, parts

from nuner_embed import FewShotProtocol, FinetuneSettings, Tagger, finetune, read_set, score_tagger
from nuner_embed.documents import Document, split_words
from nuner_embed.evaluation.fewshot import TypedSet, plan
from nuner_embed.heads.support_set import choose_support
from nuner_embed.tags import spans_to_tags

TESTED, K = ("MIT Movie", "MIT Restaurant", "BioNLP 2004"), (8, 64)
FROZEN = (PLAIN, WORDS, AUTO)
FOLDER = WORK / "finetune"
TUNED = "fine-tuned"
STOPPED = "fine-tuned, a fifth held out for early stopping"
SETTINGS = {TUNED: FinetuneSettings(validation=0.0), STOPPED: FinetuneSettings(validation=0.2)}
DEVELOPED = ((1e-4, 0.0), (2e-4, 0.0), (3e-4, 0.0), (2e-4, 0.2))  # learning rates and shares held out
DEVELOPMENT_SENTENCES = 250
METRICS = {"span": "span micro-F1", "token": "token macro-F1"}
PAPER = {8: (58.75, 0.93), 64: (70.30, 0.35)}  # Table 2, NuNER of 125M parameters, four sets, 3 runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", type=int, choices=K, action="append", help="only this size")
    parser.add_argument("--draws", type=int, default=3, help="support sets")
    parser.add_argument("--stopped", type=int, default=1, help="how many of them also with early stopping")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--development", action="store_true", help="compare settings on development parts, and stop")
    parser.add_argument("--report", action="store_true", help="only write what is measured so far")
    options = parser.parse_args()
    if options.development:
        develop(options.threads)
        return
    if not options.report:
        sets = [read_set(name, *map(data_file, SETS[name]), format="conll") for name in TESTED]
        for k in options.k or K:
            for number, how in [(n, TUNED) for n in range(options.draws)] + [
                (n, STOPPED) for n in range(options.stopped)
            ]:
                for typed in sets:
                    run(typed, k, number, how, options.threads)
    rows, developed = [row for k in K for row in measured(str(k))], measured("development")
    result = {"machine": machine("numpy", "torch", "transformers"), "cells": cells_of(rows), "paper": PAPER}
    keep("finetune", {**result, "runs": rows, "development": developed}, report(rows) + report_development(developed))


def cells_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs without early stopping as benchmarks/fewshot.py cites them: fields of `evaluation.fewshot.Cell`."""
    cells = []
    for k, name in itertools.product(K, TESTED):
        some = [row for row in rows if (row["set"], row["k"], row["how"]) == (name, k, TUNED)]
        scores = {metric: [row[metric] for row in sorted(some, key=lambda row: row["draw"])] for metric in METRICS}
        others = {"span_micro_f1": scores["span"]}
        cells += [{"model": TUNED, "set": name, "k": k, "scores": scores["token"], "others": others}] if some else []
    return cells


def measured(part: str) -> list[dict[str, Any]]:
    """The runs so far; each size has a folder of its own, so that two processes can share the work."""
    path = FOLDER / part / "rows.json"
    return json.loads(path.read_text()) if path.exists() else []


def run(typed: TypedSet, k: int, number: int, how: str, threads: int) -> None:
    """Fine-tunes and measures one model on a test part, unless that is done already."""
    facts = {"set": typed.name, "k": k, "draw": number, "how": how}
    if any(facts.items() <= row.items() for row in measured(str(k))):
        return
    (draws,) = plan(typed, FewShotProtocol(k=(k,), draws=number + 1))
    sentences = [typed.train[i] for i in draws.sets[number]]
    tune(str(k), facts, sentences, draws.types, SETTINGS[how], typed.test, threads)


def develop(threads: int) -> None:
    """Measures learning rates, and early stopping, on development parts; unless that is done already."""
    for name in HALVED:
        learnt, held = parts(name)
        support = choose_support(learnt, k=K[0], seed=0)
        for rate, validation in DEVELOPED:
            facts = {"set": name, "rate": rate, "validation": validation}
            if any(facts.items() <= row.items() for row in measured("development")):
                continue
            settings = FinetuneSettings(learning_rate=rate, validation=validation)
            held_out = held[:DEVELOPMENT_SENTENCES]
            tune("development", facts, support.documents, support.types, settings, held_out, threads)


def tune(
    part: str,
    facts: dict[str, Any],
    sentences: Sequence[Document],
    types: Sequence[str],
    settings: FinetuneSettings,
    test: Sequence[Document],
    threads: int,
) -> None:
    """Fine-tunes and measures a model, and keeps the figures."""
    folder = FOLDER / part
    folder.mkdir(parents=True, exist_ok=True)
    data, output = folder / "support.tsv", folder / "model"
    write(data, sentences)
    began = time.monotonic()
    made = finetune(data, output, settings, types=list(types), format="conll", threads=threads, force=True)
    seconds = time.monotonic() - began
    cache = folder / "features"
    scores = score_tagger(Tagger.open(output, threads=threads), test, types=types, cache=cache)
    shutil.rmtree(cache)
    row = {
        **facts, "sentences": len(sentences), "seconds": round(seconds), "steps": made["steps"],
        "best_step": made["best_step"],
        "span": float(scores.span_micro_f1), "token": float(scores.token_macro_f1),
    }  # fmt: skip
    print(row, flush=True)
    (folder / "rows.json").write_text(json.dumps([*measured(part), row], indent=1))


def write(path: Path, documents: Sequence[Document]) -> None:
    """Writes documents as words and BIO tags."""
    lines = []
    for document in documents:
        words = document.words if document.words is not None else split_words(document.text)
        tags = spans_to_tags(document.spans, words)
        lines += [f"{document.text[a:b]}\t{tag}\n" for (a, b), tag in zip(words, tags, strict=True)]
        lines.append("\n")
    path.write_text("".join(lines))


def frozen(name: str, k: int, model: str, metric: str, draws: list[int]) -> list[float]:
    """The scores of a frozen head from the same support sets."""
    cells = json.loads((RESULTS / "fewshot.json").read_text())["cells"]
    (cell,) = (one for one in cells if (one["set"], one["k"], one["model"]) == (name, k, model))
    scores = cell["scores"] if metric == "token" else cell["others"]["span_micro_f1"]
    return [scores[number] for number in draws]


def report(rows: list[dict[str, Any]]) -> str:
    lines = [
        "Test parts, percent; mean and standard deviation over the support sets, which are the same in all rows of a",
        "column (mean: over the sets, of the means). The number of support sets stands in brackets. Frozen heads:",
        "results/fewshot.json; those with names know more than the fine-tuned model, which sees examples alone.",
        f"Fine-tuned: `nuner-embed finetune` from nuner-mini, its defaults ({settings()}).",
        "BioNLP 2004's training part is the set's development part; OntoNotes, the paper's fourth set, is not at hand.",
        "",
    ]
    for metric, title in METRICS.items():
        lines += table(rows, metric, title, TUNED, (*FROZEN, TUNED))
    lines += table(rows, "span", "span micro-F1 with and without early stopping", STOPPED, (PLAIN, TUNED, STOPPED))
    lines += ["Time and steps of one fine-tuning (the machine was shared with other work):", ""]
    for k in K:
        some = [row for row in rows if row["k"] == k and row["how"] == TUNED]
        if some:
            sentences, seconds = ([row[key] for row in some] for key in ("sentences", "seconds"))
            lines.append(
                f"- k = {k}: {min(sentences)} to {max(sentences)} sentences, {min(seconds)} to {max(seconds)} seconds"
            )
    paper = "; ".join(f"k = {k}: {mean} ± {deviation}" for k, (mean, deviation) in PAPER.items())
    lines += ["", f"Table 2 of the paper (NuNER, 125M parameters, OntoNotes a fourth set, span micro-F1): {paper}.", ""]
    return "\n".join([*lines, ""])


def report_development(rows: list[dict[str, Any]]) -> str:
    sets = list(dict.fromkeys(row["set"] for row in rows))
    lines = [
        "# learning rates, on development parts",
        "",
        f"Span micro-F1 on {DEVELOPMENT_SENTENCES} development sentences, one support set of k = {K[0]} of each set.",
        "",
        f"| learning rate | held out | {' | '.join(sets)} | mean |",
        "|---" * (len(sets) + 3) + "|",
    ]
    for rate, validation in DEVELOPED:
        scores = [100 * row["span"] for row in rows if (row["rate"], row["validation"]) == (rate, validation)]
        if len(scores) == len(sets):
            shown = " | ".join(f"{score:.1f}" for score in scores)
            lines.append(f"| {rate:g} | {validation:g} | {shown} | {np.mean(scores):.1f} |")
    return "\n".join([*lines, ""])


def settings() -> str:
    one = SETTINGS[TUNED]
    return f"{one.epochs} epochs, batches of {one.batch_size}, learning rate {one.learning_rate:g}"


def table(rows: list[dict[str, Any]], metric: str, title: str, decisive: str, models: tuple[str, ...]) -> list[str]:
    """A table of the cells that are measured for all models."""
    columns, cells = [], {model: [] for model in models}
    for k in K:
        means: dict[str, list[float]] = {model: [] for model in models}
        for name in TESTED:
            draws = sorted(row["draw"] for row in rows if (row["set"], row["k"], row["how"]) == (name, k, decisive))
            if not draws:
                continue
            columns.append(f"{name}, k = {k} ({len(draws)})")
            for model in models:
                scores = 100 * np.array(
                    frozen(name, k, model, metric, draws)
                    if model in FROZEN
                    else [
                        next(
                            row[metric]
                            for row in rows
                            if (row["set"], row["k"], row["how"], row["draw"]) == (name, k, model, number)
                        )
                        for number in draws
                    ]
                )
                means[model].append(float(scores.mean()))
                spread = f" ± {scores.std(ddof=1):.1f}" if len(draws) > 1 else ""
                cells[model].append(f"{scores.mean():.1f}{spread}")
        if len(means[models[0]]) > 1:
            columns.append(f"mean, k = {k}")
            for model in models:
                cells[model].append(f"{np.mean(means[model]):.1f}")
    if not columns:
        return []
    return [
        f"# {title}", "",
        "| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|",
        *(f"| {model} | {' | '.join(cells[model])} |" for model in models), "",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
