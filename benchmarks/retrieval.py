"""Measures how well mentions, and names of types, find mentions of a type in six typed sets that no encoder here saw.

    pip install -e '.[bench]'
    python benchmarks/retrieval.py

Every gold mention is a query against all other mentions of its set. Mentions of the same sentence are left out, as are
types with fewer than 11 mentions. Four rankings are compared: by the embedding of the mention in its context, of
nuner-mini and of its base; by sentence-transformers' MiniLM embedding of the mention's text alone; at random. Each is
measured with all other mentions, and without those with the same text. Then every type is searched for by its name
(benchmarks/concepts.py, written before any run). The last table compares the centroid and the linear scorer for
searches by a few examples.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, WORK, data_file, exported, keep, machine
from concepts import CONCEPTS
from sentence_transformers import SentenceTransformer

from nuner_embed import ConceptEncoder, Corpus, Store, encode
from nuner_embed.indexes.queries import Discriminant
from nuner_embed.indexes.vectors import prepared
from nuner_embed.models.resolver import locate

SETS = {
    "CrossNER AI": "typed/crossner/ai",
    "CrossNER politics": "typed/crossner/politics",
    "CrossNER science": "typed/crossner/science",
    "MIT Movie (test)": "typed/mit-movie/test.txt",
    "MIT Restaurant (test)": "typed/mit-restaurant/test.txt",
    "BioNLP 2004 (test)": "typed/bionlp2004/test.tsv",
}
FEWEST = 11
EXAMPLES, DRAWS = (2, 4, 8, 16, 32), 10
MODELS = {"nuner-mini": "nuner-mini, in context", "minilm-l6": "base, in context"}
WAYS = (*MODELS.values(), "surface text alone", "chance")
OURS = WAYS[0]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    folder = WORK / "retrieval"
    folder.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        exported(model, folder / model)
    concepts = ConceptEncoder.open(str(folder / "nuner-mini"))
    version = concepts.facts.text_weights_sha256[:8]
    peer = SentenceTransformer(str(locate("minilm-l6").directory), device="cpu")
    results = {}
    for name, where in SETS.items():
        kept = folder / f"{where.replace('/', '-')}-{version}.json"  # an interrupted run continues
        if not kept.exists():
            kept.write_text(json.dumps(measure(name, data_file(where), kept.with_suffix(""), peer, concepts)))
        results[name] = json.loads(kept.read_text())
    keep(
        "retrieval",
        {"machine": machine("sentence-transformers", "onnxruntime", "numpy"), "sets": results},
        report(results),
    )
    draw(results)


def measure(
    set_name: str, source: Path, folder: Path, peer: SentenceTransformer, concepts: ConceptEncoder
) -> dict[str, Any]:
    stores: dict[str, Store] = {}
    for model in MODELS:
        with Corpus([source], format="conll") as corpus:
            target, graph = folder.with_name(f"{folder.name}-{model}"), str(folder.parent / model)
            stores[model] = encode(corpus, target, model=graph, rows="mention", force=True)
    table = next(iter(stores.values())).table(["document_id", "text", "label"]).to_pandas()
    counts = Counter(table["label"])
    chosen = np.flatnonzero([counts[label] >= FEWEST for label in table["label"]])
    table = table.iloc[chosen]
    labels = np.unique(table["label"], return_inverse=True)
    sentence = np.unique(table["document_id"], return_inverse=True)[1]
    surface = np.unique([text.casefold() for text in table["text"]], return_inverse=True)[1]
    texts, place = np.unique(table["text"], return_inverse=True)
    random = np.random.default_rng(0)
    vectors = {MODELS[model]: prepared(store.vectors(chosen), "cosine") for model, store in stores.items()}
    vectors[WAYS[-2]] = peer.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)[place]
    vectors[WAYS[-1]] = prepared(random.standard_normal((len(chosen), 32)), "cosine")
    found = {
        "mentions": len(chosen),
        "types": {str(name): int(counts[name]) for name in labels[0]},
        "left_out": {str(name): count for name, count in counts.items() if count < FEWEST},
        "all": {way: rank(x, labels, sentence, surface, same=True) for way, x in vectors.items()},
        "other texts": {way: rank(x, labels, sentence, surface, same=False) for way, x in vectors.items()},
        "names": by_name(vectors[OURS], labels, set_name.removesuffix(" (test)"), concepts),
        "examples": by_examples(vectors[OURS], labels[1], sentence),
    }
    print(source.name, found["all"][OURS]["mean"], flush=True)
    return found


def by_name(
    x: np.ndarray, labels: tuple[np.ndarray, np.ndarray], set_name: str, concepts: ConceptEncoder
) -> dict[str, float]:
    """Precision at 10 of the name of each type."""
    names, label = labels
    y = concepts.encode([CONCEPTS[set_name][str(name)] for name in names])
    best = np.argsort(-(y @ x.T), axis=1)[:, :10]
    return {str(name): float((label[best[i]] == i).mean()) for i, name in enumerate(names)}


def rank(
    x: np.ndarray, labels: tuple[np.ndarray, np.ndarray], sentence: np.ndarray, surface: np.ndarray, *, same: bool
) -> dict[str, Any]:
    """Precision at 1 and 10 and mean average precision, over all queries and by type; fractions of 1."""
    names, label = labels
    scores = np.empty((len(x), 3))
    for first in range(0, len(x), 512):
        some = np.arange(first, min(len(x), first + 512))
        similar = x[some] @ x.T
        barred = sentence[some, None] == sentence[None]
        if not same:
            barred |= surface[some, None] == surface[None]
        similar[barred] = -np.inf
        order = np.argsort(-similar, axis=1)
        right = label[order] == label[some, None]
        open_ = ~np.take_along_axis(barred, order, axis=1)
        right &= open_
        precision = np.cumsum(right, axis=1) / np.arange(1, len(x) + 1)
        scores[some, 0] = right[:, 0]
        scores[some, 1] = right[:, :10].mean(axis=1)
        relevant = right.sum(axis=1)
        scores[some, 2] = np.where(relevant > 0, (precision * right).sum(axis=1) / np.maximum(relevant, 1), 0)
    keys = ("p1", "p10", "map")

    def means(rows: np.ndarray) -> dict[str, float]:
        return dict(zip(keys, map(float, rows.mean(axis=0)), strict=True))

    return {"mean": means(scores), "types": {str(name): means(scores[label == i]) for i, name in enumerate(names)}}


def by_examples(x: np.ndarray, label: np.ndarray, sentence: np.ndarray) -> dict[str, dict[str, float]]:
    """Precision at 10 and MAP of a search by some examples of a type, mean over types and draws."""
    random = np.random.default_rng(0)
    scores: dict[str, dict[str, list[float]]] = {}
    scorer = Discriminant(x)
    for number in EXAMPLES:
        for _ in range(DRAWS):
            for type_ in np.unique(label):
                mine = np.flatnonzero(label == type_)
                if len(mine) < 2 * number:
                    continue
                chosen = random.choice(mine, number, replace=False)
                none = np.empty((0, x.shape[1]), np.float32)
                directions = {
                    "centroid": scorer.seen_from_mean(x[chosen].mean(axis=0)),
                    "linear scorer": scorer.direction(x[chosen], none),
                }
                barred = np.isin(sentence, sentence[chosen])
                for way, direction in directions.items():
                    order = np.argsort(-(x[~barred] @ direction))
                    right = (label[~barred] == type_)[order]
                    average = (np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean() if right.any() else 0.0
                    kept = scores.setdefault(f"{number} {way}", {"p10": [], "map": []})
                    kept["p10"].append(float(right[:10].mean()))
                    kept["map"].append(float(average))
    return {key: {name: float(np.mean(values)) for name, values in both.items()} for key, both in scores.items()}


def over_types(found: dict[str, Any], variant: str, way: str) -> float:
    """Precision at 10 of mentions, mean over types; percent."""
    return 100 * float(np.mean([one["p10"] for one in found[variant][way]["types"].values()]))


def report(results: dict[str, Any]) -> str:
    lines = ["Percent. A document is a sentence: the sets do not say more.", ""]
    lines += ["## precision at 10, mean over types", ""]
    lines += [
        "nuner-mini by the names of types, and by mentions among all others (and among those with other texts).",
        "",
    ]
    lines += [f"| set | by name | {' | '.join(WAYS)} |", "|---" * (len(WAYS) + 2) + "|"]
    rows = []
    for name, found in results.items():
        pairs = [[over_types(found, variant, way) for variant in ("all", "other texts")] for way in WAYS]
        rows.append([100 * float(np.mean(list(found["names"].values()))), *np.ravel(pairs)])
        lines.append(f"| {name} | {_paired(rows[-1])} |")
    lines += [f"| **mean over sets** | {_paired(np.mean(rows, axis=0))} |", ""]
    for variant in ("all", "other texts"):
        title = (
            "by mention, mean over queries, among all other mentions"
            if variant == "all"
            else "by mention, mean over queries, among mentions with other texts"
        )
        lines += [
            f"## {title}",
            "",
            "| set | mentions | types | ranked by | P@1 | P@10 | MAP |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, found in results.items():
            for way in WAYS:
                mean = found[variant][way]["mean"]
                head = f"{name} | {found['mentions']:,} | {len(found['types'])}" if way == WAYS[0] else "| | "
                lines.append(f"| {head} | {way} | " + " | ".join(f"{100 * mean[key]:.1f}" for key in mean) + " |")
        lines.append("")
    lines += [
        "## by type: P@10 of its name, and of its mentions among those with other texts",
        "",
        f"| set | type | mentions | by name | {' | '.join(WAYS)} |",
        "|---" * (len(WAYS) + 4) + "|",
    ]
    for name, found in results.items():
        for type_, count in found["types"].items():
            cells = [f"{100 * found['other texts'][way]['types'][type_]['p10']:.1f}" for way in WAYS]
            cells.insert(0, f"{100 * found['names'][type_]:.0f}")
            lines.append(f"| {name} | {type_} | {count:,} | " + " | ".join(cells) + " |")
    left = "; ".join(f"{name}: {', '.join(found['left_out'])}" for name, found in results.items() if found["left_out"])
    lines += ["", f"Left out for fewer than {FEWEST} mentions: {left or 'none'}.", ""]
    lines += ["## by examples of a type, nuner-mini in context, among all other mentions", ""]
    lines += [
        "| set | examples | centroid P@10 | linear scorer P@10 | centroid MAP | linear scorer MAP |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in results.items():
        for number in EXAMPLES:
            pair = [found["examples"].get(f"{number} {way}") for way in ("centroid", "linear scorer")]
            if pair[0] and pair[1]:
                cells = [f"{100 * way[key]:.1f}" for key in ("p10", "map") for way in pair if way]
                lines.append(f"| {name} | {number} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "![by type](retrieval.png)", ""])


def _paired(row: Iterable[float]) -> str:
    """The first number, then the others in pairs."""
    first, *others = row
    pairs = zip(others[::2], others[1::2], strict=True)
    return " | ".join([f"{first:.1f}", *(f"{a:.1f} ({b:.1f})" for a, b in pairs)])


def draw(results: dict[str, Any]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(13, 9), layout="constrained")
    for axes, (name, found) in zip(panels.ravel(), results.items(), strict=True):
        types: Iterable[str] = sorted(
            found["types"], key=lambda type_: found["other texts"][OURS]["types"][type_]["p10"]
        )
        place = np.arange(len(found["types"]))
        for shift, way in zip((0.3, 0.1, -0.1, -0.3), WAYS, strict=True):
            heights = [100 * found["other texts"][way]["types"][type_]["p10"] for type_ in types]
            axes.barh(place + shift, heights, height=0.2, label=way)
        axes.set_yticks(place, list(types), fontsize=7)
        axes.set(title=name, xlim=(0, 100))
    panels[0, 0].legend(fontsize=8)
    figure.supxlabel("precision at 10 among mentions with other texts, percent")
    figure.savefig(RESULTS / "retrieval.png", dpi=110)


if __name__ == "__main__":
    main()
