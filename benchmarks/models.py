"""Measures the models of this project side by side on test parts, and their speed.

    nuner-embed models fetch nuner-base
    python benchmarks/models.py

The models are nuner-mini, its base, and nuner-base. What is measured, with 95% intervals of the differences
from nuner-mini:

- k = ...: few-shot NER by the paper's protocol, frozen encoders, names not used, ten support sets of k to 2k mentions
- by name, by mention: precision at 10 of a search by the name of a type, and by a mention among all other mentions
  that are not of its sentence, mean over types of at least 11 mentions, then over sets; the interval is of a bootstrap
  over types
- names alone: span micro-F1 of the span head (`nuner-embed tag`), without any example, mean of the three CrossNER sets;
  the interval is of a bootstrap over sentences
- tokens/s: of the encoder alone in float32, exported, over sentences of the test parts; the models take turns, and the
  median of three rounds counts

Finished parts are kept, and an interrupted run continues.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, WORK, data_file, exported, keep, machine
from concepts import CONCEPTS
from fewshot import PAPER, tell
from fewshot import SETS as FEW_SHOT
from recipe import by_concept, by_mention, frequent, mentions_of
from retrieval import SETS as RETRIEVED
from zeroshot import RESAMPLES, SPAN, Tagged

from nuner_embed import FewShotProtocol, evaluate_fewshot, load_encoder, named_tagger, read_set
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.evaluation.comparison import AVERAGE, Grid
from nuner_embed.evaluation.fewshot import Cell, TypedSet
from nuner_embed.heads.features import embed_words
from nuner_embed.heads.labelled_words import count_mentions
from nuner_embed.models.resolver import locate

FOLDER = WORK / "models"
MINI, BASE = "nuner-mini", "nuner-base"
OURS = (MINI, BASE)
MINILM = "all-MiniLM-L6-v2"
K = (1, 4, 16)
CROSSNER = ("CrossNER AI", "CrossNER politics", "CrossNER science")
SENTENCES, ROUNDS = 1500, 3
TICKS = (2000, 5000, 10_000, 20_000)  # of the picture
TARGETS = {MINI: (32, 55, 63, 86, 79), BASE: (38, 60, 67, 88, 82)}
Floats = np.ndarray


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    models = {MINI: MINI, BASE: BASE, MINILM: "minilm-l6"}
    graphs = {name: exported(model, FOLDER / f"{name}.onnx") for name, model in models.items()}
    sets = [read_set(name, *map(data_file, parts), format="conll") for name, parts in FEW_SHOT.items()]
    few_shot = evaluate_fewshot(
        graphs, sets, FOLDER / "runs", FewShotProtocol(k=K), cache=FOLDER / "features", progress=tell, note=print
    )
    found = {
        "few_shot": few_shot,
        "retrieval": {name: kept("retrieval", name, graphs, retrieval) for name in models},
        "named": {name: kept("named", name, graphs, named) for name in OURS},
        "speed": speed(graphs),
    }
    result = {"machine": machine("numpy", "scikit-learn", "onnxruntime"), "targets": TARGETS, **found}
    keep("models", result, report(found))
    draw(found)


def kept(what: str, name: str, graphs: dict[str, str], measure: Callable[[str], Any]) -> Any:
    """A measurement of a model, made unless there is one of the same weights."""
    path = FOLDER / f"{what}-{name}-{locate(graphs[name]).weights_sha256[:12]}.json"
    if not path.exists():
        path.write_text(json.dumps(measure(graphs[name])))
        print(what, name, "measured", flush=True)
    return json.loads(path.read_text())


def retrieval(graph: str) -> dict[str, dict[str, list[float]]]:
    """Precision at 10 of each type of each set, by its name (where there is a concept encoder) and by mention."""
    encoder = load_encoder(graph)
    has_concepts = (Path(graph) / "concept_encoder").is_dir()
    found = {}
    for name, path in RETRIEVED.items():
        documents = tuple(read_annotated([data_file(path)], "conll")[0])
        typed = TypedSet(name.removesuffix(" (test)"), (), documents, name)
        x, labels, sentence = mentions_of(encoder, typed)
        found[name] = {"mention": by_mention(x, labels, sentence)}
        if has_concepts:
            found[name]["name"] = by_concept(x, labels, typed.name, ConceptEncoder.open(graph))
        assert len(found[name]["mention"]) == len(frequent(labels))
    return found


def named(graph: str) -> dict[str, list[float]]:
    """Span micro-F1 of the span head on each set's test part: once as it is, then of the sentences drawn again."""
    encoder = load_encoder(graph)
    found = {}
    for name in FEW_SHOT:
        documents = list(read_annotated([data_file(FEW_SHOT[name][1])], "conll")[0])
        types = {label: CONCEPTS[name][label] for label in sorted(count_mentions(documents))}
        tagger = named_tagger(types, model=graph, decode="spans")
        bare = [type(one)(one.id, one.text, words=one.words) for one in documents]
        tagged = Tagged.of(documents, list(tagger.tag(bare)), embed_words(encoder, documents), list(types))
        number = len(documents)
        again = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), RESAMPLES)
        weights = np.concatenate([np.ones((1, number)), again])
        found[name] = tagged.scores(weights)[SPAN].tolist()
    return found


def speed(graphs: dict[str, str]) -> dict[str, list[float]]:
    """Tokens per second of each model in each round."""
    documents = [one for _, path in FEW_SHOT.values() for one in read_annotated([data_file(path)], "conll")[0]]
    chosen = np.random.default_rng(0).choice(len(documents), SENTENCES, replace=False)
    texts = [documents[i] for i in chosen]
    encoders = {name: load_encoder(graph) for name, graph in graphs.items() if name in OURS}
    tables = {name: encoder.tokenize(texts, "token") for name, encoder in encoders.items()}
    found: dict[str, list[float]] = {name: [] for name in encoders}
    for turn in range(ROUNDS + 1):
        for name, encoder in encoders.items():
            began = time.perf_counter()
            rows = len(encoder.encode_rows(tables[name], "token").vectors)
            if turn:  # the first round warms up
                found[name].append(rows / (time.perf_counter() - began))
    return found


def over_sets(found: dict[str, dict[str, list[float]]], by: str, draws: Sequence[Floats] | None = None) -> Any:
    """The mean over types, then over sets; with draws of the types of each set, (n, types), one for each draw."""
    rows = [np.array(one[by]) for one in found.values()]
    if draws is None:
        return float(np.mean([row.mean() for row in rows]))
    return np.mean([row[chosen].mean(axis=1) for row, chosen in zip(rows, draws, strict=True)], axis=0)


def interval(values: Floats, mean: float) -> str:
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def searched(found: dict[str, Any], name: str, by: str) -> tuple[str, str]:
    """A search's precision at 10, and its difference from nuner-mini's, as text."""
    mine, first = found["retrieval"][name], found["retrieval"][MINI]
    if any(by not in one for one in mine.values()):
        return "", ""
    random = np.random.default_rng(0)
    draws = [random.integers(0, len(one[by]), (RESAMPLES, len(one[by]))) for one in first.values()]
    apart = over_sets(mine, by, draws) - over_sets(first, by, draws)
    mean = over_sets(mine, by)
    return f"{100 * mean:.1f}", interval(apart, mean - over_sets(first, by))


def tagged(found: dict[str, Any], name: str, sets: Sequence[str]) -> tuple[str, str]:
    """Span F1 by names alone, mean over sets, and its difference from nuner-mini's, as text."""
    if name not in found["named"]:
        return "", ""
    mine, first = (np.mean([found["named"][one][set_] for set_ in sets], axis=0) for one in (name, MINI))
    return f"{100 * mine[0]:.1f}", interval(mine[1:] - first[1:], mine[0] - first[0])


def tokens_per_second(found: dict[str, Any], name: str) -> float:
    return float(np.median(found["speed"][name]))


def report(found: dict[str, Any]) -> str:
    grid = Grid([Cell(**cell) for cell in found["few_shot"]["cells"]])
    models = list(found["retrieval"])
    columns = [f"k = {k}" for k in K] + ["by name P@10", "by mention P@10", "names alone F1"]
    values, apart = {}, {}
    for name in models:
        scores = [100 * grid.scores(name, AVERAGE, k) for k in K]
        rest = [searched(found, name, "name"), searched(found, name, "mention"), tagged(found, name, CROSSNER)]
        values[name] = [f"{one.mean():.1f} ± {one.std(ddof=1):.1f}" for one in scores] + [one[0] for one in rest]
        apart[name] = [str(grid.difference(name, MINI, AVERAGE, k)) for k in K] + [one[1] for one in rest]
    lines = [
        "Test parts, percent. k = ...: token macro-F1 with None left out, linear layer on the frozen last layer, ten",
        f"support sets, mean of {', '.join(grid.averaged)}; P@10: six sets; names alone: span micro-F1 of the span",
        f"head, mean of {', '.join(CROSSNER)}. Tokens/s: encoder alone, float32, ONNX or OpenVINO, median.\n",
        f"| model | {' | '.join(columns)} | tokens/s |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for name in models:
        rate = f"{tokens_per_second(found, name):,.0f}" if name in found["speed"] else ""
        lines.append(f"| {name} | {' | '.join(values[name])} | {rate} |")
    for name, wanted in TARGETS.items():
        lines.append(f"| aimed at for {name} | {' | '.join(map(str, wanted))} | | |")
    reported = [PAPER["NuNER"][i] for i in (0, 2, 4)]
    lines.append(f"| the paper's NuNER, four sets | {' | '.join(f'{one:.1f}' for one in reported)} | | | | |")
    lines += ["\nDifferences from nuner-mini, with their 95% intervals:\n"]
    lines += [f"| model | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(apart[name])} |" for name in models if name != MINI]
    lines += ["\nFew-shot, by set (k = 1, 4, 16):\n", f"| model | {' | '.join(grid.sets)} |"]
    lines += ["|---" * (len(grid.sets) + 1) + "|"]
    for name in models:
        cells = [[100 * grid.scores(name, set_, k) for k in K] for set_ in grid.sets]
        shown = [" / ".join(f"{one.mean():.1f}" if len(one) else "-" for one in cell) for cell in cells]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    lines += ["\nNames alone, span micro-F1, by set:\n", f"| model | {' | '.join(FEW_SHOT)} |"]
    lines += ["|---" * (len(FEW_SHOT) + 1) + "|"]
    for name in found["named"]:
        lines.append(f"| {name} | {' | '.join(tagged(found, name, [set_])[0] for set_ in FEW_SHOT)} |")
    lines += ["\nSearch, P@10 by name / by mention, by set:\n", f"| model | {' | '.join(RETRIEVED)} |"]
    lines += ["|---" * (len(RETRIEVED) + 1) + "|"]
    for name in models:
        cells = found["retrieval"][name]
        shown = [
            " / ".join(f"{100 * np.mean(one[by]):.1f}" for by in ("name", "mention") if by in one)
            for one in cells.values()
        ]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join([*lines, "\n![quality against speed](models.png)\n"])


def draw(found: dict[str, Any]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    grid = Grid([Cell(**cell) for cell in found["few_shot"]["cells"]])
    quality: dict[str, Callable[[str], float]] = {
        "four examples of each type\ntoken macro-F1": lambda name: 100 * grid.scores(name, AVERAGE, 4).mean(),
        "search by a mention\nprecision at 10": lambda name: 100 * over_sets(found["retrieval"][name], "mention"),
        "names alone, CrossNER\nspan F1": lambda name: float(tagged(found, name, CROSSNER)[0]),
    }
    figure, panels = plt.subplots(1, len(quality), figsize=(11, 3.6), layout="constrained")
    for axes, (title, of) in zip(panels, quality.items(), strict=True):
        for name in found["speed"]:
            rate, value = tokens_per_second(found, name), of(name)
            axes.plot(rate, value, "o", markersize=9)
            axes.annotate(f"{name}\n{value:.1f}", (rate, value), xytext=(8, -4), textcoords="offset points", fontsize=9)
        axes.set(title=title, xscale="log")
        axes.set_xticks(TICKS, [f"{one:,}" for one in TICKS])
        axes.set_xticks([], minor=True)
        axes.margins(x=0.6, y=0.35)
    figure.supxlabel("tokens a second, encoder alone, float32")
    figure.savefig(RESULTS / "models.png", dpi=110)


if __name__ == "__main__":
    main()
