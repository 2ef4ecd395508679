"""Measures ways to find rare types without a background, such as a threshold that depends on the share found.

    python benchmarks/prevalence.py

A probe learns one type, three types, or all types of a set from 8 to 16 mentions of each, and looks for them in the
rest of the set. Compared with the probe at a threshold of 0.5, by span F1 with exact bounds over all draws together:
the threshold of `rare_threshold`, and the same with other constants; intercepts moved, entirely or half-way, to the
shares that expectation maximisation estimates (Saerens et al. 2002); 4,000 words of the rest as a background for every
probe. On the first four sets a constant of a half was best. The other sets, looked at afterwards, lost by it for types
that are neither rare nor dense, so it became a fifth. Then the types of benchmarks/background.py by words, and the
false alarms of "crop". No test part is used.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from background import RARE, Draw, head, order, read, spans
from common import WORK, data_file, keep, machine
from scipy.special import logit, softmax
from sklearn.metrics import average_precision_score

from nuner_embed import LinearProbe, load_encoder
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.documents import Document
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.heads.features import FeatureCache
from nuner_embed.heads.labelled_words import count_mentions, runs_of
from nuner_embed.heads.linear import ALLOWED, POWER, prevalence_sample, rare_threshold

SETS = {
    "MIT Movie": lambda: read("MIT Movie"),
    "MIT Restaurant": lambda: conll("mit-restaurant/train.txt"),
    "Few-NERD INTER": lambda: read("Few-NERD"),
    "LLM-annotated": lambda: read("LLM"),
    "BioNLP 2004": lambda: conll("bionlp2004/train.tsv", 2000),
    "CrossNER AI": lambda: conll("crossner/ai/dev.txt"),
    "CrossNER politics": lambda: conll("crossner/politics/dev.txt"),
    "CrossNER science": lambda: conll("crossner/science/dev.txt"),
}
LEAST = 24  # mentions that a set must have of a type that is looked for
DRAWS, RARE_DRAWS = 2, 5
NOW, PLAIN = "threshold by the share found", "threshold 0.5"
GRID = {
    NOW: (ALLOWED, POWER),
    "the same below a half, not a fifth": (0.5, POWER),
    "the same, odds not rooted": (ALLOWED, 1.0),
}
GROUPS = {"below 5%": (0.0, 0.05), "5 to 10%": (0.05, 0.1), "10 to 30%": (0.1, 0.3), "30% and more": (0.3, 9.0)}
CROPS = ("crop", "fruit", "grain", "cereal", "vegetable", "produce", "wheat", "harvest", "agricultural commodity",
         "agricultural product", "agricultural yield")  # fmt: skip
Counts = dict[str, Any]  # by way: numbers of right, found and annotated mentions


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    cache = FeatureCache(WORK / "background" / "features", load_encoder("nuner-mini"))
    tasks: list[dict[str, Any]] = []
    rare: list[dict[str, Any]] = []
    crops: dict[str, Any] = {}
    for name, load in SETS.items():
        documents = load()
        features = cache.features(documents)
        for types in tasks_of(documents):
            tasks.append({"set": name, "types": types, **measure(documents, features, types)})
        print(name, sum(task["set"] == name for task in tasks), flush=True)
        for where, type_ in RARE:
            if name.split()[0] in where and ("MIT" not in where or name == "MIT Movie"):
                rare.append({"type": type_, **by_words(documents, features, type_)})
        if name == "LLM-annotated":
            crops = false_alarms(documents, features)
    result = {"machine": machine("torch", "numpy", "scikit-learn"), "tasks": tasks, "rare": rare, "crop": crops}
    keep("prevalence", result, report(tasks, rare, crops))


def conll(path: str, most: int = 3000) -> list[Document]:
    return order(read_annotated([Path(data_file(f"typed/{path}"))], "conll")[0], most)


def tasks_of(documents: list[Document]) -> list[list[str]]:
    """Single types (at most 20), six triples of types, and all types; not all of the LLM's thousands."""
    types = [name for name, count in count_mentions(documents).most_common() if count >= LEAST]
    random = np.random.default_rng(0)
    singles = types[:: -(-len(types) // 20)]
    threes = [sorted(random.choice(types, 3, replace=False).tolist()) for _ in range(6)]
    every = [sorted(types)] if len(count_mentions(documents)) < 100 else []
    return [[one] for one in singles] + threes + every


def scores_of(probe: LinearProbe, vectors: Any) -> Any:
    scores = probe.decision_function(vectors)
    return np.stack([np.zeros_like(scores), scores], axis=1) if scores.ndim == 1 else scores


def share_found(documents: list[Document], codes: Any, bounds: Any) -> float:
    """The share of the words in mentions, in the documents that a probe would look at."""
    sample = {id(one) for one in prevalence_sample(documents)}
    words = [codes[bounds[i] : bounds[i + 1]] for i, one in enumerate(documents) if id(one) in sample]
    return float((np.concatenate(words) > 0).mean())


def ways_of(draw: Draw, documents: list[Document]) -> tuple[dict[str, Any], float]:
    """The scores of each way, and the threshold that follows from the share found."""
    plain = scores_of(LinearProbe().fit(draw.x, draw.y), draw.rest)
    learnt, found = float((draw.y > 0).mean()), share_found(documents, plain.argmax(axis=1), draw.bounds)
    ways = {PLAIN: plain}
    for way, (allowed, power) in GRID.items():
        ways[way] = plain.copy()
        ways[way][:, 0] += logit(rare_threshold(learnt, found, allowed=allowed, power=power))
    shift = expected(plain, draw.y)
    ways["shares by EM"], ways["shares by EM, half the shift"] = plain + shift, plain + shift / 2
    ways["the rest as a background"] = scores_of(draw.with_background(draw.rest, "balanced"), draw.rest)
    return ways, rare_threshold(learnt, found)


def expected(scores: Any, codes: Any) -> Any:
    """The values to add to the scores for the shares that expectation maximisation estimates."""
    mass = np.sqrt(np.bincount(codes))
    before = share = np.log(mass / mass.sum())
    for _ in range(200):
        after = np.maximum(softmax(scores - before + share, axis=1).mean(axis=0), 1e-5)
        after = np.log(after / after.sum())
        if np.abs(after - share).max() < 1e-5:
            break
        share = after
    return share - before


def measure(documents: list[Document], features: WordFeatures, types: list[str]) -> dict[str, Any]:
    counts: Counts = {}
    ratios, thresholds = [], []
    for seed in range(DRAWS):
        draw = Draw(documents, features, types, seed)
        mentions = draw.labels.mentions
        annotated = set(zip(mentions.first.tolist(), mentions.last.tolist(), mentions.code.tolist(), strict=True))
        ways, threshold = ways_of(draw, draw.documents)
        thresholds.append(threshold)
        ratios.append(float((draw.labels.codes > 0).mean() / (draw.y > 0).mean()))
        for way, scores in ways.items():
            runs = runs_of(scores.argmax(axis=1).astype(np.int64), draw.bounds)
            seen = set(zip(runs.first.tolist(), runs.last.tolist(), runs.code.tolist(), strict=True))
            some = np.array([len(seen & annotated), len(seen), len(annotated)])
            counts[way] = counts.get(way, 0) + some
    f1 = {way: float(200 * n[0] / max(1, n[1] + n[2])) for way, n in counts.items()}
    return {"share": float(np.mean(ratios)), "threshold": float(np.mean(thresholds)), "f1": f1}


def by_words(documents: list[Document], features: WordFeatures, type_: str) -> dict[str, Any]:
    """Precision, recall and F1 of words, and average precision, as means of draws; the shares of the type."""
    found: dict[str, list[list[float]]] = {}
    shares, thresholds = [], []
    for seed in range(RARE_DRAWS):
        draw = Draw(documents, features, [type_], seed)
        truth = draw.labels.codes > 0
        shares.append([(draw.y > 0).mean(), truth.mean()])
        ways, threshold = ways_of(draw, draw.documents)
        thresholds.append(threshold)
        for way in (PLAIN, NOW, "the rest as a background"):
            margin = ways[way][:, 1] - ways[way][:, 0]
            seen = margin > 0
            right = int((seen & truth).sum())
            rates = right / max(1, int(seen.sum())), right / truth.sum(), 2 * right / (seen.sum() + truth.sum())
            found.setdefault(way, []).append([*map(float, rates), float(average_precision_score(truth, margin))])
    learnt, there = np.mean(shares, axis=0).tolist()
    means = {way: np.mean(values, axis=0).tolist() for way, values in found.items()}
    return {
        "share learnt from": learnt,
        "share in the rest": there,
        "threshold": float(np.mean(thresholds)),
        "words": means,
    }


def false_alarms(documents: list[Document], features: WordFeatures) -> dict[str, dict[str, int]]:
    """The mentions found as crops, over all draws, by the concepts that the LLM gave them."""
    kinds: dict[str, Counter[str]] = {}
    for seed in range(RARE_DRAWS):
        draw = Draw(documents, features, ["crop"], seed)
        exact, truth = spans(draw.labels.mentions), draw.labels.codes > 0
        ways, _ = ways_of(draw, draw.documents)
        for way in (PLAIN, NOW, "the rest as a background"):
            runs = runs_of(ways[way].argmax(axis=1).astype(np.int64), draw.bounds)
            for first, last in sorted(spans(runs)):
                owner = int(np.searchsorted(draw.bounds, first, side="right")) - 1
                start, end = draw.start[first], draw.end[last - 1]
                labels = [s.label or "" for s in draw.documents[owner].spans if s.start < end and s.end > start]
                kind = "annotated as something else, or not at all"
                if (first, last) in exact:
                    kind = "a crop, exact"
                elif truth[first:last].any():
                    kind = "a crop, other bounds"
                elif any(label.removesuffix("s").endswith(CROPS) for label in labels):
                    kind = "another name for it: cereal crop, grain, fruit, agricultural commodity ..."
                kinds.setdefault(way, Counter())[kind] += 1
    return {way: dict(found) for way, found in kinds.items()}


def report(tasks: list[dict[str, Any]], rare: list[dict[str, Any]], crops: dict[str, Any]) -> str:
    groups = {name: [task for task in tasks if low <= task["share"] < high] for name, (low, high) in GROUPS.items()}
    lines = [
        f"nuner-mini, k = 8, {DRAWS} draws together. Tasks are a type, three types or all types of a set. "
        "Columns: the share of words in mentions, beside what it is where the probe learns. "
        "Change of span F1 against a threshold of 0.5, in points: mean, and the worst task.\n",
        "| way | " + " | ".join(f"{name} ({len(some)} tasks)" for name, some in groups.items()) + " |",
        "|---" * (len(groups) + 1) + "|",
    ]
    for way in tasks[0]["f1"]:
        cells = (change(some, way) if way != PLAIN else level(some) for some in groups.values())
        lines.append(f"| {way} | {' | '.join(cells)} |")
    lines += [
        f"\nBy set, {NOW}. A half was best on the first four; a fifth was taken once "
        "the last four had been looked at, which a half did harm.\n",
        "| set | tasks | span F1 at 0.5 | change | all types together: F1 at 0.5, change, threshold |",
        "|---" * 5 + "|",
    ]
    for name in SETS:
        some = [task for task in tasks if task["set"] == name]
        every = [task for task in some if len(task["types"]) > 3]
        last = "; ".join(f"{level([one])}, {change([one], NOW).split(',')[0]}, {one['threshold']:.2f}" for one in every)
        lines.append(f"| {name} | {len(some)} | {level(some)} | {change(some, NOW)} | {last} |")
    lines += [
        f"\nRare types by words, {RARE_DRAWS} draws, percent: precision / recall, F1; average precision. In brackets "
        "how many of the words learnt from, and of the rest, are of the type.\n",
        "| way | " + " | ".join(map(head, rare)) + " |",
        "|---" * (len(rare) + 1) + "|",
    ]
    for way in rare[0]["words"]:
        cells = (
            "{:.0f} / {:.0f}, {:.1f}; {:.1f}".format(*(100 * value for value in one["words"][way])) for one in rare
        )
        lines.append(f"| {way} | {' | '.join(cells)} |")
    lines += [
        "| that threshold | " + " | ".join(f"{one['threshold']:.2f}" for one in rare) + " |",
        '\nWhat is found as a "crop", mentions of all draws together, by what the LLM annotated there:\n',
        "| | " + " | ".join(crops) + " |",
        "|---" * (len(crops) + 1) + "|",
    ]
    for kind in dict.fromkeys(kind for found in crops.values() for kind in sorted(found)):
        lines.append(f"| {kind} | {' | '.join(str(found.get(kind, 0)) for found in crops.values())} |")
    return "\n".join(lines) + "\n"


def level(tasks: list[dict[str, Any]]) -> str:
    return f"{np.mean([task['f1'][PLAIN] for task in tasks]):.1f}"


def change(tasks: list[dict[str, Any]], way: str) -> str:
    by = np.array([task["f1"][way] - task["f1"][PLAIN] for task in tasks])
    return f"{by.mean():+.1f}, worst {by.min():+.1f}"


if __name__ == "__main__":
    main()
