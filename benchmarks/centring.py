"""Measures whether search by mention finds more mentions of the same type once the mean of the vectors is subtracted.

    pip install -e '.[bench]'
    python benchmarks/centring.py

The queries, the rows and the barred sentences are those of benchmarks/retrieval.py, with the embeddings of nuner-mini.
Rows and queries are transformed alike and compared by their cosine. The last table of each part compares searches by
the centre of some examples of a type, with and without centring, and by the linear scorer of the index. All ways are
measured on development parts first; these hold at most the first 6,000 mentions, and the development parts of CrossNER
are a part of the benchmark's sets.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import WORK, data_file, exported, keep, machine
from retrieval import FEWEST, SETS

from nuner_embed import Corpus, encode
from nuner_embed.indexes.queries import Discriminant
from nuner_embed.indexes.vectors import Floats, prepared

DEVELOPMENT = {
    "CrossNER AI (dev)": "typed/crossner/ai/dev.txt",
    "CrossNER politics (dev)": "typed/crossner/politics/dev.txt",
    "CrossNER science (dev)": "typed/crossner/science/dev.txt",
    "MIT Movie (train)": "typed/mit-movie/train.txt",
    "MIT Restaurant (train)": "typed/mit-restaurant/train.txt",
    "BioNLP 2004 (dev)": "typed/bionlp2004/train.tsv",
}
MOST = 6_000
CANDIDATES = 100
BLOCK = 512
RESAMPLES = 500
EXAMPLES, DRAWS = (2, 4, 8, 16, 32), 20
PLAIN, CENTRED, RANKED_AGAIN = "plain", "centred", f"centred, of {CANDIDATES} candidates"
COMMON = "centred on the mean of all six sets"
QUERY = "centred query, rows as they are"
LINEAR = "linear scorer"
VARIANTS = ("all", "other texts")


@dataclass(frozen=True, slots=True)
class Mentions:
    """The mentions of a set: vectors of unit length, (n, dim), and the number of each one's type, sentence and text."""

    vectors: Floats
    label: np.ndarray
    sentence: np.ndarray
    surface: np.ndarray


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    folder = WORK / "centring"
    folder.mkdir(parents=True, exist_ok=True)
    model = exported("nuner-mini", folder / "nuner-mini")
    results: dict[str, Any] = {}
    for part, sets in {"development parts": DEVELOPMENT, "sets of benchmarks/retrieval.py": SETS}.items():
        results[part], mentions = {}, {}
        for name, where in sets.items():
            target = folder / where.replace("/", "-").replace(".", "-")
            mentions[name] = read(data_file(where), target, model, MOST if sets is DEVELOPMENT else None)
        common = np.concatenate([found.vectors for found in mentions.values()]).mean(axis=0)
        for name, found in mentions.items():
            results[part][name] = {**measure(found, common), "examples": by_examples(found)}
            print(name, results[part][name]["all"], flush=True)
    keep("centring", {"machine": machine("onnxruntime", "numpy"), "parts": results}, report(results))


def read(source: Path, target: Path, model: str, most: int | None) -> Mentions:
    with Corpus([source], format="conll") as corpus:
        store = encode(corpus, target, model=model, rows="mention", force=True)
    table = store.table(["document_id", "text", "label"]).to_pandas()[:most]
    counts = Counter(table["label"])
    chosen = np.flatnonzero([counts[label] >= FEWEST for label in table["label"]])
    table = table.iloc[chosen]
    return Mentions(
        prepared(store.vectors(chosen), "cosine"),
        np.unique(table["label"], return_inverse=True)[1],
        np.unique(table["document_id"], return_inverse=True)[1],
        np.unique([text.casefold() for text in table["text"]], return_inverse=True)[1],
    )


def transforms(x: Floats, common: Floats) -> dict[str, Floats]:
    """The vectors of each way that is compared, of unit length."""
    centred = x - x.mean(axis=0)
    variance, components = np.linalg.eigh(np.cov(centred, rowvar=False))  # ascending
    ways = {PLAIN: x, CENTRED: prepared(centred, "cosine"), COMMON: prepared(x - common, "cosine")}
    for number in (1, 2, 4):
        top = components[:, -number:].astype(np.float32)
        ways[f"centred, without {number} components"] = prepared(centred - centred @ top @ top.T, "cosine")
    for shrinkage in (0.9, 0.5, 0.1):
        scale = 1 / np.sqrt((1 - shrinkage) * variance + shrinkage * variance.mean())
        ways[f"whitened, shrinkage {shrinkage}"] = prepared(centred @ (components * scale), "cosine")
    return ways


def measure(found: Mentions, common: Floats) -> dict[str, Any]:
    """Precision at 10, mean over types, in percent, of every way; and its gain over plain search with its error."""
    ways = transforms(found.vectors, common)
    scorers: dict[str, Callable[[np.ndarray], Floats]] = {}
    for way, x in ways.items():
        scorers[way] = lambda some, x=x: x[some] @ x.T  # type: ignore[misc]
    hits = {way: precision(found, scorer) for way, scorer in scorers.items()}
    directions = found.vectors - found.vectors.mean(axis=0)
    hits[QUERY] = precision(found, lambda some: directions[some] @ found.vectors.T)
    hits[RANKED_AGAIN] = precision(found, scorers[CENTRED], directions)
    result: dict[str, Any] = {"mentions": len(found.label)}
    for column, variant in enumerate(VARIANTS):
        plain = hits[PLAIN][:, column]
        result[variant] = {
            way: {"p10": over_types(rows[:, column], found.label), "gain_error": error(rows[:, column] - plain, found)}
            for way, rows in hits.items()
        }
    return result


def precision(found: Mentions, scorer: Callable[[np.ndarray], Floats], directions: Floats | None = None) -> np.ndarray:
    """Precision at 10 of each mention in percent, (n, 2): among all mentions, and among those with other texts.

    With directions, only the CANDIDATES rows with the highest inner product with a query's direction are ranked.
    """
    scores = np.empty((len(found.label), 2))
    for first in range(0, len(scores), BLOCK):
        some = np.arange(first, min(len(scores), first + BLOCK))
        barred = found.sentence[some, None] == found.sentence[None]
        similar = scorer(some)
        rough = None if directions is None else directions[some] @ found.vectors.T
        for column in range(2):
            if column:
                barred |= found.surface[some, None] == found.surface[None]
            similar[barred] = -np.inf
            if rough is None:
                best = np.argpartition(-similar, 10, axis=1)[:, :10]
            else:
                rough[barred] = -np.inf
                few = np.argpartition(-rough, CANDIDATES, axis=1)[:, :CANDIDATES]
                order = np.argsort(-np.take_along_axis(similar, few, axis=1), axis=1)[:, :10]
                best = np.take_along_axis(few, order, axis=1)
            right = (found.label[best] == found.label[some, None]) & ~np.take_along_axis(barred, best, axis=1)
            scores[some, column] = 100 * right.mean(axis=1)
    return scores


def by_examples(found: Mentions) -> dict[str, dict[str, float]]:
    """Precision at 10 of the centre of some examples of a type, mean over types and draws, in percent.

    A type is left out where it has fewer than twice as many mentions.
    """
    random = np.random.default_rng(0)
    mean, x = found.vectors.mean(axis=0), found.vectors
    centred = prepared(x - mean, "cosine")
    ways = {PLAIN: (x, x), CENTRED: (centred, centred), QUERY: (x - mean, x)}  # what is averaged, what is searched
    scorer, none = Discriminant(x), np.empty((0, x.shape[1]), np.float32)
    scores: dict[str, dict[str, list[float]]] = {str(n): {way: [] for way in (*ways, LINEAR)} for n in EXAMPLES}
    for number in EXAMPLES:
        for label in np.unique(found.label):
            mine = np.flatnonzero(found.label == label)
            for _ in range(DRAWS if len(mine) >= 2 * number else 0):
                chosen = random.choice(mine, number, replace=False)
                free = ~np.isin(found.sentence, found.sentence[chosen])
                directions = {way: (queries[chosen].mean(axis=0), rows) for way, (queries, rows) in ways.items()}
                directions[LINEAR] = (scorer.direction(x[chosen], none), x)
                for way, (direction, rows) in directions.items():
                    best = np.argpartition(-(rows[free] @ direction), 10)[:10]
                    scores[str(number)][way].append(100 * float((found.label[free][best] == label).mean()))
    return {number: {way: float(np.mean(values)) for way, values in both.items()} for number, both in scores.items()}


def over_types(values: np.ndarray, label: np.ndarray) -> float:
    return float((np.bincount(label, values) / np.bincount(label)).mean())


def error(gain: np.ndarray, found: Mentions) -> float:
    """The standard error of a gain, mean over types: sentences are drawn again, since their mentions are alike."""
    random = np.random.default_rng(0)
    number = int(found.sentence.max()) + 1
    drawn = []
    for _ in range(RESAMPLES):
        weight = np.bincount(random.integers(number, size=number), minlength=number)[found.sentence]
        count = np.bincount(found.label, weight)
        drawn.append((np.bincount(found.label, weight * gain)[count > 0] / count[count > 0]).mean())
    return float(np.std(drawn))


def report(results: dict[str, Any]) -> str:
    lines = ["Precision at 10 of search by mention, mean over types, percent. The last column is the gain over plain"]
    lines += ["search, mean over sets, and its standard error, from sentences drawn again.", ""]
    for part, sets in results.items():
        for variant in VARIANTS:
            lines += [f"## {part}: among {'all mentions' if variant == 'all' else 'mentions with other texts'}", ""]
            lines += [f"| way | {' | '.join(sets)} | mean | gain |", "|---" * (len(sets) + 3) + "|"]
            plain = np.array([found[variant][PLAIN]["p10"] for found in sets.values()])
            for way in next(iter(sets.values()))[variant]:
                row = np.array([found[variant][way]["p10"] for found in sets.values()])
                errors = np.array([found[variant][way]["gain_error"] for found in sets.values()])
                gain = f"{(row - plain).mean():+.2f} ± {np.sqrt(np.square(errors).sum()) / len(errors):.2f}"
                cells = [*(f"{value:.1f}" for value in row), f"{row.mean():.2f}", "" if way == PLAIN else gain]
                lines.append(f"| {way} | {' | '.join(cells)} |")
            lines.append("")
        lines += [f"## {part}: by the centre of examples, among all mentions", ""]
        lines += [f"| examples | way | {' | '.join(sets)} | mean |", "|---" * (len(sets) + 3) + "|"]
        for number in EXAMPLES:
            for way in (PLAIN, CENTRED, QUERY, LINEAR):
                row = np.array([found["examples"][str(number)][way] for found in sets.values()])
                cells = " | ".join(f"{value:.1f}" for value in row)
                lines.append(f"| {number} | {way} | {cells} | {row.mean():.2f} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
