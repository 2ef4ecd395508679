"""Measures probes that start from the names of the types; the strength of the penalty beside names comes from here.

    python benchmarks/offset.py                  # development parts and test parts, about a quarter of an hour
    python benchmarks/offset.py --development    # stops before the test parts
    python benchmarks/offset.py --picture        # only draws the kept figures of the test parts again

First the penalty of the layer and that of the names' weight are chosen on development parts: those of
benchmarks/strength.py, and the `dev` parts of CrossNER politics and science with support sets of their `train` parts.
Then the test parts are measured once: ten support sets of each size, the same for the plain probe of the paper's
protocol, which knows no name, and for the probe that starts from names. The names are those of benchmarks/concepts.py,
written down before. nuner-mini, last layer, exported, float32.
"""

import argparse
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from common import RESULTS, WORK, data_file, exported, keep, machine
from concepts import CONCEPTS
from fewshot import SETS as TYPED
from strength import DEVELOPMENT, is_held_out
from strength import SETS as HALVED
from threadpoolctl import threadpool_limits

from nuner_embed import FewShotProtocol, LinearProbe, load_encoder, read_set
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.documents import Document
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.evaluation.comparison import AVERAGE, Grid
from nuner_embed.evaluation.fewshot import Cell, measure, needed, plan, score_probes
from nuner_embed.heads import DEFAULT_C, DEFAULT_CLASS_WEIGHT, DEFAULT_OFFSET_STRENGTH, NAMED_C
from nuner_embed.heads.features import FeatureCache
from nuner_embed.heads.labelled_words import WordLabels, count_matrix, count_mentions
from nuner_embed.heads.names import NamedTypes
from nuner_embed.heads.support_set import draw_k
from nuner_embed.machine import cores

K, DRAWS = (1, 4, 16, 64), 4
WITH_DEV = {"CrossNER politics": "typed/crossner/politics", "CrossNER science": "typed/crossner/science"}
SETTINGS = [None, *itertools.product((0.003, 0.01, 0.03, 0.1), (1.0, 10.0, 100.0, 1000.0))]  # C and offset_strength
PLAIN, NAMED = "examples alone", "names and examples"
TESTED = ("MIT Movie", "MIT Restaurant", "BioNLP 2004")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--development", action="store_true", help="stop before the test parts")
    parser.add_argument("--picture", action="store_true", help="only draw the kept figures again")
    options = parser.parse_args()
    if options.picture:
        draw([Cell(**cell) for cell in json.loads((RESULTS / "offset.json").read_text())["test"]])
        return
    model = exported("nuner-mini", WORK / "offset-model")
    cache = FeatureCache(WORK / "probing" / "features", load_encoder(model, precision="f32"))
    concepts = ConceptEncoder.open(model)
    found: dict[str, Any] = {"development": {}}
    with threadpool_limits(1), ThreadPoolExecutor(cores()) as pool:
        for name in (*HALVED, *WITH_DEV):
            found["development"][name] = develop(name, cache, concepts, pool)
            print(name, "measured", flush=True)
    text = report_development(found["development"])
    if options.development:
        print(text)
        return
    cells = [cell for name in TESTED for cell in test(name, cache, concepts)]
    found["test"] = [cell.to_dict() for cell in cells]
    keep("offset", {"machine": machine("numpy", "scipy", "onnxruntime"), **found}, report_test(cells) + text)
    draw(cells)


def parts(name: str) -> tuple[list[Document], list[Document]]:
    """The sentences that support sets are drawn from, and those that are measured."""
    if name in WITH_DEV:
        learnt, held = (
            read_annotated([data_file(f"{WITH_DEV[name]}/{part}.txt")], "conll")[0] for part in ("train", "dev")
        )
        return list(learnt), list(held)
    documents = read_annotated([data_file(HALVED[name])], "conll")[0]
    return (
        [one for one in documents if not is_held_out(one.text)],
        [one for one in documents if is_held_out(one.text)][:DEVELOPMENT],
    )


def develop(name: str, cache: FeatureCache, concepts: ConceptEncoder, pool: ThreadPoolExecutor) -> dict[str, Any]:
    """By setting and k: mean token macro-F1, span micro-F1 and weight of the names over the draws."""
    learnt, held = parts(name)
    types = sorted(count_mentions(learnt) | count_mentions(held))
    train, development = cache.features(learnt), cache.features(held)
    codes, counts = WordLabels.of(learnt, train, types).codes, count_matrix(learnt, types)
    named = NamedTypes({label: (CONCEPTS[name][label],) for label in types}, concepts)
    found: dict[str, dict[str, list[tuple[float, ...]]]] = {str(one): {} for one in SETTINGS}
    for k, number in itertools.product(K, range(DRAWS)):
        chosen = draw_k(counts, k, [number, k])
        if chosen is None:
            continue
        rows = train.take(chosen)

        def fit(setting: tuple[float, float] | None, rows: Any = rows) -> LinearProbe:
            vectors = train.vectors[rows]
            c, strength = setting or (DEFAULT_C, DEFAULT_OFFSET_STRENGTH)
            offset = named.offsets(types, vectors) if setting else None
            return LinearProbe(C=c, class_weight=DEFAULT_CLASS_WEIGHT, offset=offset, offset_strength=strength).fit(
                vectors, codes[rows]
            )

        probes = list(pool.map(fit, SETTINGS))
        scored = score_probes(probes, held, development, types, pool)
        for setting, probe, scores in zip(SETTINGS, probes, scored, strict=True):
            values = (scores.token_macro_f1, scores.span_micro_f1, probe.offset_weight_)
            found[str(setting)].setdefault(str(k), []).append(tuple(map(float, values)))
    return {one: {k: np.mean(all_, axis=0).tolist() for k, all_ in by_k.items()} for one, by_k in found.items()}


def test(name: str, cache: FeatureCache, concepts: ConceptEncoder) -> list[Cell]:
    """The cells of both probes on the whole test part of a set."""
    typed = read_set(name, *map(data_file, TYPED[name]), format="conll")
    plain, beside_names = FewShotProtocol(), FewShotProtocol(C=NAMED_C)
    draws = plan(typed, plain)
    train, tested = cache.features([typed.train[i] for i in needed(draws)]), cache.features(typed.test)
    named = NamedTypes({label: (CONCEPTS[name][label],) for label in typed.types}, concepts)
    cells = measure(PLAIN, typed, draws, plain, train, tested, threads=cores())
    cells += measure(NAMED, typed, draws, beside_names, train, tested, named=named, threads=cores())
    print(name, "tested", flush=True)
    return cells


def report_development(found: dict[str, Any]) -> str:
    lines = [
        f"\nDevelopment parts: {', '.join(found)}; mean over sets and {DRAWS} draws, percent: token macro-F1 / span",
        "micro-F1 (weight of the names). Sets that have no support set of a size are left out of that size.",
        "",
        "| C, strength of the prior | " + " | ".join(f"k = {k}" for k in K) + " |",
        "|---" * (len(K) + 1) + "|",
    ]
    for setting in SETTINGS:
        cells = []
        for k in K:
            values = [one[str(setting)][str(k)] for one in found.values() if str(k) in one[str(setting)]]
            token, span, weight = np.mean(values, axis=0)
            cells.append(f"{100 * token:.1f} / {100 * span:.1f}" + (f" ({weight:.2f})" if setting else ""))
        title = f"{setting[0]}, {setting[1]:g}" if setting else f"{PLAIN}, C = {DEFAULT_C}"
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def report_test(cells: list[Cell]) -> str:
    grid = Grid(cells)
    lines = [
        "Test parts, ten support sets a size, token macro-F1, None left out, percent. Examples alone: the paper's",
        f"protocol, C = {DEFAULT_C}. Names and examples: C = {NAMED_C}, prior of strength {DEFAULT_OFFSET_STRENGTH:g}.",
        "Below, the difference over the same support sets with its 95% interval.",
        "",
        "| set | | " + " | ".join(f"k = {k}" for k in grid.k) + " |",
        "|---" * (len(grid.k) + 2) + "|",
    ]
    for name in (*grid.sets, AVERAGE):
        for model in grid.models:
            values = [grid.scores(model, name, k) for k in grid.k]
            lines.append(f"| {name} | {model} | {' | '.join(f'{100 * np.mean(one):.1f}' for one in values)} |")
        shown = [str(grid.difference(NAMED, PLAIN, name, k)) for k in grid.k]
        lines.append(f"| {name} | difference | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def draw(cells: list[Cell]) -> None:
    """Token macro-F1 by the number of examples, mean over the sets; names alone as results/zeroshot.json has them."""
    from matplotlib.figure import Figure

    grid = Grid(cells)
    zero_shot = json.loads((RESULTS / "zeroshot.json").read_text())["test"]
    alone = 100 * np.mean([zero_shot[name]["token_macro_f1"] for name in grid.sets])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes, places = figure.subplots(), range(1, len(grid.k) + 1)
    for model in grid.models:
        means = [100 * np.mean(grid.scores(model, AVERAGE, k)) for k in grid.k]
        axes.plot(places, means, "o-", label=model)
    axes.plot([0], [alone], "s", color="black", label="names alone")
    axes.axhline(alone, color="black", linewidth=0.6, linestyle=":")
    axes.set_xticks([0, *places], ["0", *(f"{k} to {2 * k}" for k in grid.k)])
    axes.set(xlabel="examples of each type", ylabel="token macro-F1, percent", title=f"Mean of {', '.join(grid.sets)}")
    axes.grid(alpha=0.25)
    axes.legend()
    figure.savefig(RESULTS / "offset.png", dpi=110)


if __name__ == "__main__":
    main()
