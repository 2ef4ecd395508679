"""Measures the ways to a type of one's own on test parts: examples, names, and both, by the number of examples.

    python benchmarks/fewshot.py            # about a quarter of an hour
    python benchmarks/fewshot.py --report   # only writes the tables and the picture of the kept figures again

nuner-mini, frozen, last layer, exported, float32; ten support sets of k to 2k mentions of each type, the same for all
rows; whole test parts. The rows of the paper's protocol know no name, and stand beside the paper's figures. The others
know the names of the types, which are those of benchmarks/concepts.py, written down before anything was measured; they
are compared with each other alone. Examples beside names are decoded word by word, from the detector's mentions, or as
`probe train --decode auto` chooses by the examples of the support set. Strengths and thresholds are the defaults, which
were chosen on development parts (strength.py, offset.py, decoding.py, zeroshot.py).

Figures of the fine-tuned encoder are cited from results/finetune.json, where it is: of each entry of its list `cells`
the fields of `evaluation.fewshot.Cell` that are called model, set, k, scores and others. Without that file, or without
that list in it, there is no such table; --report adds it later.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from common import RESULTS, WORK, data_file, exported, keep, machine
from concepts import CONCEPTS
from detected import DetectedMentions
from threadpoolctl import threadpool_limits

from nuner_embed import FewShotProtocol, LinearProbe, load_detector, load_encoder, read_set
from nuner_embed.documents import Document
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.encoders.text import TextEncoder, unit
from nuner_embed.evaluation.comparison import AVERAGE, Grid
from nuner_embed.evaluation.fewshot import (
    Cell,
    Draws,
    TypedSet,
    cell_of,
    fit_probes,
    measure,
    needed,
    plan,
    score_probes,
)
from nuner_embed.evaluation.metrics import Scores
from nuner_embed.heads import DEFAULT_C, NAMED_C, NAMED_THRESHOLD
from nuner_embed.heads.decoding import LEAST_FOUND, SPAN_THRESHOLD
from nuner_embed.heads.detector import ProbeDetector
from nuner_embed.heads.features import FeatureCache
from nuner_embed.heads.labelled_words import WordLabels
from nuner_embed.heads.linear import ProbeWeights
from nuner_embed.heads.named import ConceptTyper, LinearTyper
from nuner_embed.heads.names import NamedTypes
from nuner_embed.machine import cores
from nuner_embed.tables import Ints

SETS = {
    "MIT Movie": ("typed/mit-movie/train.txt", "typed/mit-movie/test.txt"),
    "MIT Restaurant": ("typed/mit-restaurant/train.txt", "typed/mit-restaurant/test.txt"),
    "BioNLP 2004": ("typed/bionlp2004/train.tsv", "typed/bionlp2004/test.tsv"),
    "CrossNER AI": ("typed/crossner/ai/train.txt", "typed/crossner/ai/test.txt"),
    "CrossNER politics": ("typed/crossner/politics/train.txt", "typed/crossner/politics/test.txt"),
    "CrossNER science": ("typed/crossner/science/train.txt", "typed/crossner/science/test.txt"),
}
# The paper's Table 3, mean of four sets (OntoNotes the fourth), 125M parameters.
PAPER = {
    "RoBERTa": (24.46, 35.30, 44.65, 52.56, 58.12, 62.00, 65.42),
    "NuNER": (39.37, 51.46, 59.60, 64.78, 67.84, 69.98, 71.53),
}
OURS = "nuner-mini"
PLAIN = "examples alone"
NAMES, NAMES_FIRST = "names alone, words", "names alone, mentions first"
WORDS, SPANS, AUTO = "names and examples, words", "names and examples, spans", "names and examples, auto"
ROWS = (NAMES, NAMES_FIRST, PLAIN, WORDS, SPANS, AUTO)
DIFFERENCES = ((WORDS, PLAIN), (WORDS, NAMES), (AUTO, NAMES_FIRST), (SPANS, WORDS), (AUTO, WORDS))
TOKEN, SPAN = "token macro-F1", "span micro-F1"
FINETUNED = RESULTS / "finetune.json"


@dataclass(frozen=True, slots=True)
class Model:
    """All that is read of the model: the features of words, both encoders, the mention detector."""

    cache: FeatureCache
    encoder: TextEncoder
    concepts: ConceptEncoder
    detector: ProbeDetector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="only write tables and picture again")
    if parser.parse_args().report:
        result = json.loads((RESULTS / "fewshot.json").read_text())
    else:
        result = {"machine": machine("numpy", "scipy", "onnxruntime"), "draws": FewShotProtocol().draws, **tested()}
    cells = [Cell(**cell) for cell in result["cells"]]
    keep("fewshot", result, report(cells, result["auto"], finetuned()))
    draw(Grid(cells))


def tested() -> dict[str, Any]:
    """The cells of all rows, and how often `auto` took the detector's mentions, by set and k."""
    directory = exported(OURS, WORK / "offset-model")
    encoder = load_encoder(directory, precision="f32")
    cache = FeatureCache(WORK / "probing" / "features", encoder)
    model = Model(cache, encoder, ConceptEncoder.open(directory), load_detector(directory))
    cells: list[Cell] = []
    auto: dict[str, dict[int, int]] = {}
    for name, parts in SETS.items():
        found, auto[name] = test(read_set(name, *map(data_file, parts), format="conll"), model)
        cells += found
        print(name, "measured", file=sys.stderr, flush=True)
    return {"cells": [cell.to_dict() for cell in cells], "auto": auto}


def test(typed: TypedSet, model: Model) -> tuple[list[Cell], dict[int, int]]:
    """The cells of a set; and of how many support sets of each size `auto` took the detector's mentions."""
    plain, beside_names = FewShotProtocol(), FewShotProtocol(C=NAMED_C)
    draws = plan(typed, plain)
    sentences = needed(draws)
    learnt = [typed.train[i] for i in sentences]
    train, asked = model.cache.features(learnt), model.cache.features(typed.test)
    mentions = DetectedMentions.of(model.encoder, model.detector, typed.test, asked)
    annotated = WordLabels.of(typed.test, asked, typed.types)
    names = {label: CONCEPTS[typed.name][label] for label in typed.types}
    cells = measure(PLAIN, typed, draws, plain, train, asked, threads=cores())
    for row, scores in names_alone(typed, names, model.concepts, asked, mentions, annotated).items():
        cells += [cell_of(row, typed.name, size, [scores] * len(size.sets), []) for size in draws]
    named = NamedTypes({label: (name,) for label, name in names.items()}, model.concepts)
    examples, found = found_by_sentence(model.detector, learnt, train, typed.types)
    taken = {}
    with threadpool_limits(1), ThreadPoolExecutor(cores()) as pool:
        for size, probes, counts in fit_probes(typed, draws, beside_names, train, pool, named):
            words = score_probes(probes, typed.test, asked, size.types, pool)
            spans = [mentions.score(typer_of(one, size), SPAN_THRESHOLD, typed.types, annotated) for one in probes]
            places = [np.searchsorted(sentences, chosen) for chosen in size.sets]
            by_spans = [found[some].sum() / max(1, examples[some].sum()) >= LEAST_FOUND for some in places]
            auto = [b if first else a for first, a, b in zip(by_spans, words, spans, strict=True)]
            for row, scores in ((WORDS, words), (SPANS, spans), (AUTO, auto)):
                cells.append(cell_of(row, typed.name, size, scores, counts))
            taken[size.k] = sum(map(bool, by_spans))
    return cells, taken


def names_alone(
    typed: TypedSet,
    names: dict[str, str],
    concepts: ConceptEncoder,
    words: WordFeatures,
    mentions: DetectedMentions,
    annotated: WordLabels,
) -> dict[str, Scores]:
    """What `zero_shot_tagger` and `named_tagger` reach, from words and mentions that were embedded once."""
    probe = LinearProbe.from_concepts(list(names.values()), concepts, threshold=NAMED_THRESHOLD)
    of_unit_length = replace(words, vectors=unit(words.vectors.copy()))
    with ThreadPoolExecutor(cores()) as pool:
        by_words = score_probes([probe], typed.test, of_unit_length, typed.types, pool)[0]
    typer = ConceptTyper.of(names, concepts)
    return {NAMES: by_words, NAMES_FIRST: mentions.score(typer, NAMED_THRESHOLD, typed.types, annotated)}


def typer_of(probe: LinearProbe, size: Draws) -> LinearTyper:
    return LinearTyper(size.types, ProbeWeights(probe.classes_, probe.coef_, probe.intercept_))


def found_by_sentence(
    detector: ProbeDetector, documents: Sequence[Document], words: WordFeatures, types: Sequence[str]
) -> tuple[Ints, Ints]:
    """Annotated mentions of each sentence, and how many of them the detector finds with the same bounds, (d,) each."""
    annotated, seen = WordLabels.of(documents, words, types).mentions, detector.runs(documents, words)[0]
    total = len(words.start) + 1
    hit = np.isin(annotated.first * total + annotated.last, seen.first * total + seen.last)
    owner = np.searchsorted(words.bounds, annotated.first, side="right") - 1
    return np.bincount(owner, minlength=len(documents)), np.bincount(owner[hit], minlength=len(documents))


def tell(what: str, done: int, total: int) -> None:
    if done == total:
        print(f"{what}: done", file=sys.stderr, flush=True)


def finetuned() -> list[dict[str, Any]]:
    """What benchmarks/finetune.py measured, if it was run; see above."""
    if not FINETUNED.exists():
        return []
    cells: list[dict[str, Any]] | None = json.loads(FINETUNED.read_text()).get("cells")
    if cells is None:
        print(f"{FINETUNED} has no list of cells; no figure of it is cited", file=sys.stderr)
    return cells or []


def report(cells: list[Cell], auto: dict[str, dict[Any, int]], tuned: list[dict[str, Any]]) -> str:
    by_metric = {TOKEN: Grid(cells), SPAN: Grid([replace(one, scores=one.others["span_micro_f1"]) for one in cells])}
    lines = [*paper_block(by_metric[TOKEN]), "", *names_intro(by_metric[TOKEN], auto), ""]
    for metric, grid in by_metric.items():
        lines += [f"## {metric}", "", *means(grid), "", *differences(grid), ""]
    if tuned:
        lines += tuned_block(tuned)
    return "\n".join([*lines, "![curves](fewshot.png)", ""])


def paper_block(grid: Grid) -> list[str]:
    """The only table beside the paper's figures: rows that, like the paper's, know no name."""
    lines = [
        "# The paper's protocol: examples alone",
        "",
        "Token macro-F1, None left out, percent; ± is one standard deviation over ten support sets. A linear layer on",
        f"the frozen last layer of {OURS} (22M parameters), C = {DEFAULT_C}, no names. The paper's average is over",
        f"four sets, with OntoNotes 5.0, not at hand here; ours is over {', '.join(grid.averaged)}:",
        "the columns cannot be compared one by one. BioNLP 2004's training part is the set's development part.",
        "",
        f"| k | {' | '.join(grid.sets)} | average of {len(grid.averaged)} | paper, RoBERTa-base | paper, NuNER |",
        "|---" * (len(grid.sets) + 4) + "|",
    ]
    for i, k in enumerate(grid.k):
        shown = [spread(grid.scores(PLAIN, name, k)) for name in (*grid.sets, AVERAGE)]
        shown += [f"{PAPER[name][i]:.1f}" for name in ("RoBERTa", "NuNER")]
        lines.append(f"| {k} | {' | '.join(shown)} |")
    return lines


def names_intro(grid: Grid, auto: dict[str, dict[Any, int]]) -> list[str]:
    lines = [
        "# With names",
        "",
        "The paper's encoder knew no names: no figure of this part can be set beside the paper's. The same support",
        f"sets and test parts as above, percent. Names alone (k = 0): threshold {NAMED_THRESHOLD}; each word by",
        f"itself, or the mentions of the detector. Names and examples: C = {NAMED_C}; spans: the detector's mentions,",
        f"typed by the probe, threshold {SPAN_THRESHOLD}; auto: spans where the detector finds {LEAST_FOUND:.0%} of",
        "the examples with the same bounds, else words. For how many of the ten support sets auto took spans:",
        "",
        f"| set | {' | '.join(f'k = {k}' for k in grid.k)} |",
        "|---" * (len(grid.k) + 1) + "|",
    ]
    for name, taken in auto.items():
        by_k = {int(k): count for k, count in taken.items()}  # JSON has no numbers for keys
        shown = [str(by_k[k]) if grid.cell(AUTO, name, k).scores else "" for k in grid.k]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return lines


def means(grid: Grid) -> list[str]:
    lines = [f"| set | | k = 0 | {' | '.join(map(str, grid.k))} |", "|---" * (len(grid.k) + 3) + "|"]
    for name in (AVERAGE, *grid.sets):
        for row in ROWS:
            values = [grid.scores(row, name, k) for k in grid.k]
            shown = [f"{100 * one.mean():.1f}" if len(one) else "" for one in values]
            constant = row in (NAMES, NAMES_FIRST)
            cells = [next(filter(None, shown)), *[""] * len(shown)] if constant else ["", *shown]
            lines.append(f"| {name} | {row} | {' | '.join(cells)} |")
    return lines


def differences(grid: Grid) -> list[str]:
    lines = [
        "Differences over the same support sets, with 95% intervals (Student's t); names alone do not vary.",
        "",
        f"| set | | {' | '.join(f'k = {k}' for k in grid.k)} |",
        "|---" * (len(grid.k) + 2) + "|",
    ]
    for name in (AVERAGE, *grid.sets):
        for model, over in DIFFERENCES:
            shown = [str(grid.difference(model, over, name, k) or "") for k in grid.k]
            lines.append(f"| {name} | {model} - {over} | {' | '.join(shown)} |")
    return lines


def tuned_block(tuned: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Fine-tuned",
        "",
        "As [finetune.md](finetune.md) has it, percent; ± is one standard deviation over its support sets.",
        "",
        "| set | | k | support sets | token macro-F1 | span micro-F1 |",
        "|---|---|---|---|---|---|",
    ]
    for one in tuned:
        token, span = np.array(one["scores"]), np.array(one.get("others", {}).get("span_micro_f1", []))
        shown = (one["set"], one["model"], one["k"], len(token), spread(token), spread(span))
        lines.append(f"| {' | '.join(map(str, shown))} |")
    return [*lines, ""]


def spread(scores: np.ndarray) -> str:
    """Mean and standard deviation in percent; nothing of a blank cell."""
    if not len(scores):
        return ""
    return f"{100 * scores.mean():.1f}" + (f" ± {100 * scores.std(ddof=1):.1f}" if len(scores) > 1 else "")


def draw(grid: Grid) -> None:
    """Token macro-F1 by the number of examples, mean over the sets without a blank cell."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes, places = figure.subplots(), range(1, len(grid.k) + 1)
    for row, label in ((PLAIN, PLAIN), (WORDS, "names and examples")):
        axes.plot(places, [100 * grid.scores(row, AVERAGE, k).mean() for k in grid.k], "o-", label=label)
    alone = 100 * grid.scores(NAMES, AVERAGE, grid.k[0]).mean()
    axes.plot([0], [alone], "s", color="black", label="names alone")
    axes.axhline(alone, color="black", linewidth=0.6, linestyle=":")
    axes.set_xticks([0, *places], ["0", *(f"{k} to {2 * k}" for k in grid.k)])
    title = f"Mean of {', '.join(grid.averaged)}"
    axes.set(xlabel="examples of each type", ylabel="token macro-F1, percent", title=title)
    axes.grid(alpha=0.25)
    axes.legend()
    figure.savefig(RESULTS / "fewshot.png", dpi=110)


if __name__ == "__main__":
    main()
