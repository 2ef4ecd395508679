"""How fast the paper's grid of probes is fitted and measured, beside scikit-learn's LogisticRegression one by one.

python benchmarks/probe.py

7 sizes x 10 support sets x 3 sets, on cached features of the base model, the same rows for everybody, the same
penalty, the same tolerance (largest entry of the gradient of the mean loss, 3e-5), float32. "One by one" is a
StandardScaler and a LogisticRegression fitted to each support set, its prediction on the whole test part, and
scikit-learn's f1_score. It is given the machine's two threads, and once more one thread, which suits it better on small
products; and once one thread in each of two processes. Features that are dead (see LinearProbe) are left out for all.
"""

import argparse
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import WORK, data_file, keep, machine
from joblib import Parallel, delayed
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from nuner_embed import LinearProbe, Protocol, export_onnx, load_encoder, read_set
from nuner_embed.evaluation.fewshot import measure
from nuner_embed.evaluation.protocol import needed, plan
from nuner_embed.heads.features import FeatureCache
from nuner_embed.heads.labelled_words import WordLabels
from nuner_embed.machine import cores

SETS = {
    "MIT Movie": ("typed/mit-movie/train.txt", "typed/mit-movie/test.txt"),
    "MIT Restaurant": ("typed/mit-restaurant/train.txt", "typed/mit-restaurant/test.txt"),
    "BioNLP 2004": ("typed/bionlp2004/train.tsv", "typed/bionlp2004/test.tsv"),
}
# scikit-learn's defaults, but for a tolerance of a third: at 1e-4 both end up to 0.2 points of F1 from the optimum
PROTOCOL = Protocol(C=1.0, class_weight=None, tol=3e-5)
OURS = f"nuner-embed, {cores()} threads"
ONE_BY_ONE = f"scikit-learn one by one, {cores()} threads"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    folder = WORK / "probing"
    if not (folder / "last layer").exists():
        export_onnx("minilm-l6", folder / "last layer")
    cache = FeatureCache(folder / "features", load_encoder(str(folder / "last layer")))
    grids = [Problem(name, parts, cache) for name, parts in SETS.items()]
    contenders = {
        OURS: ours,
        ONE_BY_ONE: partial(one_by_one, threads=cores()),
        "scikit-learn one by one, 1 thread": partial(one_by_one, threads=1),
        f"scikit-learn, {cores()} processes of 1 thread": in_processes,
    }
    found = {}
    for name, run in contenders.items():
        began = time.perf_counter()
        scores = {grid.name: run(grid) for grid in grids}
        seconds = time.perf_counter() - began
        found[name] = {"seconds": seconds, "scores": {key: value.tolist() for key, value in scores.items()}}
        print(f"{name}: {seconds:.1f} s", flush=True)
    result = {
        "machine": machine("numpy", "scipy", "scikit-learn", "threadpoolctl"),
        "grid": found,
        "fits": fits(grids),
        "gradients": gradients(grids),
    }
    keep("probe", result, report(result))


class Problem:
    """A set with its draws and features."""

    def __init__(self, name: str, parts: tuple[str, str], cache: FeatureCache) -> None:
        self.name = name
        self.typed = read_set(name, *map(data_file, parts), format="conll")
        self.draws = plan(self.typed, PROTOCOL)
        chosen = [self.typed.train[i] for i in needed(self.draws)]
        train, test = cache.features(chosen), cache.features(self.typed.test)
        alive = train.vectors.std(axis=0) > 1e-5
        self.train = replace(train, vectors=np.ascontiguousarray(train.vectors[:, alive]))
        self.test = replace(test, vectors=np.ascontiguousarray(test.vectors[:, alive]))
        types = self.typed.types
        self.codes = WordLabels.of(chosen, self.train, types).codes
        self.gold = WordLabels.of(self.typed.test, self.test, types).codes
        place = {int(sentence): i for i, sentence in enumerate(needed(self.draws))}
        self.rows = [
            [self.train.take(np.array([place[int(i)] for i in sentences])) for sentences in size.sets]
            for size in self.draws
        ]


def ours(grid: Problem) -> np.ndarray:
    cells = measure("", grid.typed, grid.draws, PROTOCOL, grid.train, grid.test, threads=cores())
    return np.array([cell.scores for cell in cells])


def single(x: np.ndarray, y: np.ndarray, test: np.ndarray, gold: np.ndarray, types: int) -> float:
    scaler = StandardScaler().fit(x)
    probe = LogisticRegression(C=PROTOCOL.C, tol=PROTOCOL.tol, max_iter=10_000).fit(scaler.transform(x), y)
    predicted = probe.predict(scaler.transform(test))
    return float(f1_score(gold, predicted, labels=np.arange(1, types + 1), average="macro", zero_division=0))


def one_by_one(grid: Problem, threads: int) -> np.ndarray:
    with threadpool_limits(threads):
        return np.array([[_single(grid, words) for words in size] for size in grid.rows])


def _single(grid: Problem, words: np.ndarray) -> float:
    return single(grid.train.vectors[words], grid.codes[words], grid.test.vectors, grid.gold, len(grid.typed.types))


def in_processes(grid: Problem) -> np.ndarray:
    folder = Path(WORK) / "probing" / "joblib"
    jobs = (
        delayed(single)(
            grid.train.vectors[words], grid.codes[words], grid.test.vectors, grid.gold, len(grid.typed.types)
        )
        for size in grid.rows
        for words in size
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = Parallel(n_jobs=cores(), temp_folder=str(folder))(jobs)
    return np.array(scores).reshape(len(grid.rows), -1)


def fits(grids: list[Problem]) -> dict[str, dict[str, float]]:
    """Milliseconds for a fit alone on one thread, standardising included: median over sets and five draws."""
    times: dict[int, list[tuple[float, float, float]]] = {}
    with threadpool_limits(1):
        for grid in grids:
            for size, rows in zip(grid.draws, grid.rows, strict=True):
                for words in rows[:5]:
                    x, y = grid.train.vectors[words], grid.codes[words]
                    began = time.perf_counter()
                    LinearProbe(C=PROTOCOL.C, class_weight=None, tol=PROTOCOL.tol).fit(x, y)
                    middle = time.perf_counter()
                    LogisticRegression(C=PROTOCOL.C, tol=PROTOCOL.tol, max_iter=10_000).fit(
                        StandardScaler().fit_transform(x), y
                    )
                    ended = time.perf_counter()
                    times.setdefault(size.k, []).append((len(words), 1e3 * (middle - began), 1e3 * (ended - middle)))
    names = ("words", "nuner-embed", "scikit-learn")
    return {str(k): dict(zip(names, map(float, np.median(rows, axis=0)), strict=True)) for k, rows in times.items()}


def gradients(grids: list[Problem]) -> dict[str, float]:
    """The largest entry of the gradient of the mean loss in the end, in float64: the worst of one draw of each size."""
    worst = {"nuner-embed": 0.0, "scikit-learn": 0.0}
    for grid in grids:
        for rows in grid.rows:
            x, y = grid.train.vectors[rows[0]], grid.codes[rows[0]]
            z = StandardScaler().fit_transform(x)
            mine = LinearProbe(C=PROTOCOL.C, class_weight=None, tol=PROTOCOL.tol).fit(x, y)
            scale, mean = x.std(axis=0, dtype=np.float64), x.mean(axis=0, dtype=np.float64)
            peer = LogisticRegression(C=PROTOCOL.C, tol=PROTOCOL.tol, max_iter=10_000).fit(z, y)
            for name, coef, intercept, classes in (
                ("nuner-embed", mine.coef_ * scale, mine.intercept_ + mine.coef_ @ mean, mine.classes_),
                ("scikit-learn", peer.coef_, peer.intercept_, peer.classes_),
            ):
                wide = (x - mean) / scale
                residual = softmax(wide @ coef.T + intercept, axis=1)
                residual[np.arange(len(y)), np.searchsorted(classes, y)] -= 1
                gradient = residual.T @ wide + coef / PROTOCOL.C
                norm = max(np.abs(gradient).max(), np.abs(residual.sum(axis=0)).max()) / len(y)
                worst[name] = max(worst[name], float(norm))
    return worst


def report(result: dict[str, Any]) -> str:
    found = result["grid"]
    base = found[OURS]["seconds"]
    lines = [
        f"The grid: {len(PROTOCOL.k)} sizes x {PROTOCOL.draws} draws x {len(SETS)} sets = "
        f"{len(PROTOCOL.k) * PROTOCOL.draws * len(SETS)} probes, fitted and measured on whole test parts.",
        "",
        "| | seconds | times ours | F1 - ours, mean (largest), points |",
        "|---|---|---|---|",
    ]
    mine = np.array([found[OURS]["scores"][name] for name in SETS])
    for name, run in found.items():
        difference = 100 * (np.array([run["scores"][one] for one in SETS]) - mine)
        cell = difference.mean(axis=2)
        shown = f"{cell.mean():+.2f} ({np.abs(cell).max():.2f})" if name != OURS else ""
        lines.append(f"| {name} | {run['seconds']:.1f} | {run['seconds'] / base:.1f}x | {shown} |")
    worst = result["gradients"]
    lines += [
        "",
        "The difference is that of cell means (ten draws); the largest is over the 21 cells. The gradient's largest",
        f"entry in the end, in float64, at worst: ours {worst['nuner-embed']:.1e}, scikit-learn's "
        f"{worst['scikit-learn']:.1e}.",
        "",
        "A fit alone, one thread, milliseconds:",
        "",
        "| k | words | nuner-embed | scikit-learn | ratio |",
        "|---|---|---|---|---|",
    ]
    for k, row in result["fits"].items():
        lines.append(
            f"| {k} | {row['words']:,.0f} | {row['nuner-embed']:.0f} | {row['scikit-learn']:.0f} | "
            f"{row['scikit-learn'] / row['nuner-embed']:.1f}x |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
