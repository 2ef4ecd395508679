"""Measures the speed of fitting the paper's grid of probes, beside scikit-learn's LogisticRegression one by one.

python benchmarks/probe.py

7 sizes x 10 support sets x 3 sets, on cached features of the base model, with the same rows, the same penalty and the
same tolerance for all (largest entry of the gradient of the mean loss, 3e-5), float32. "One by one" is a StandardScaler
and a LogisticRegression fitted to each support set, its prediction on the whole test part, and scikit-learn's f1_score.
It runs with the machine's two threads, with one thread, which suits it better on small products, and with one thread in
each of two processes. Dead features (see LinearProbe) are left out for all.

python benchmarks/probe.py --solvers

compares the L-BFGS of nuner_embed/heads/solver.py with scipy's L-BFGS-B on the same loss, in the same coordinates, with
ten remembered steps and the same stopping rule: `LinearProbe`'s defaults, features of nuner-mini, the support sets of
the grid. Every fit is timed on one thread, with both solvers on a support set one right after the other; then all fits
of the grid run in as many threads as there are cores, as in `evaluate fewshot`.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import WORK, data_file, keep, machine
from joblib import Parallel, delayed
from scipy.optimize import OptimizeResult, minimize
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from nuner_embed import FewShotProtocol, LinearProbe, export_onnx, load_encoder, read_set
from nuner_embed.evaluation.fewshot import fit_draw, measure, needed, plan
from nuner_embed.heads import solver
from nuner_embed.heads.features import FeatureCache
from nuner_embed.heads.labelled_words import WordLabels
from nuner_embed.machine import cores

SETS = {
    "MIT Movie": ("typed/mit-movie/train.txt", "typed/mit-movie/test.txt"),
    "MIT Restaurant": ("typed/mit-restaurant/train.txt", "typed/mit-restaurant/test.txt"),
    "BioNLP 2004": ("typed/bionlp2004/train.tsv", "typed/bionlp2004/test.tsv"),
}
# scikit-learn's defaults with a lower tolerance: at 1e-4 both end up to 0.2 points of F1 from the optimum
PROTOCOL = FewShotProtocol(C=1.0, class_weight=None, tol=3e-5)
OURS = f"nuner-embed, {cores()} threads"
ONE_BY_ONE = f"scikit-learn one by one, {cores()} threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solvers", action="store_true", help="only compare our L-BFGS with that of scipy")
    if parser.parse_args().solvers:
        compare_solvers()
        return
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
    """Milliseconds of a single fit on one thread, standardising included: the median over sets and five draws."""
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
    """The largest entry of the final gradient, in float64: the worst of one draw of each size."""
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


Minimise = Callable[[solver.Loss, np.ndarray, float, int], tuple[solver.Place, int]]


def by_scipy(loss: solver.Loss, start: np.ndarray, tol: float, max_iter: int) -> tuple[solver.Place, int]:
    """Does what `solver.minimise` does, with the L-BFGS-B of scipy.optimize."""
    here = loss(start)
    if here.gradient_norm <= tol:
        return here, 0

    def evaluated(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal here
        here = loss(flat.reshape(start.shape).astype(start.dtype))
        return here.loss, here.gradient.ravel().astype(np.float64)

    def stop(intermediate_result: OptimizeResult) -> None:
        nonlocal here
        point = intermediate_result.x.reshape(start.shape).astype(start.dtype)
        if not np.array_equal(here.point, point):
            here = loss(point)
        if here.gradient_norm <= tol:
            raise StopIteration

    options = {"maxcor": 10, "maxiter": max_iter, "maxfun": 20 * max_iter, "ftol": 0.0, "gtol": 0.0}
    found = minimize(evaluated, start.ravel(), jac=True, method="L-BFGS-B", callback=stop, options=options)
    return here, int(found.nit)


def compare_solvers() -> None:
    protocol = FewShotProtocol()
    cache = FeatureCache(WORK / "probing" / "features", load_encoder("nuner-mini"))
    grids = [Problem(name, parts, cache) for name, parts in SETS.items()]
    ours, fits = (
        solver.minimise,
        [(k.k, g, words) for g in grids for k, size in zip(g.draws, g.rows, strict=True) for words in size],
    )
    contenders: dict[str, Minimise] = {"ours": ours, "scipy": by_scipy}
    rows: dict[int, list[list[float]]] = {}
    try:
        with threadpool_limits(1):
            for k, grid, words in fits:
                row = [float(len(words))]
                for minimise in contenders.values():
                    solver.minimise = minimise
                    probe, cpu = fit_draw(grid.train.vectors[words], grid.codes[words], protocol), []
                    for _ in range(3):
                        began = time.process_time()
                        fit_draw(grid.train.vectors[words], grid.codes[words], protocol)
                        cpu.append(1e3 * (time.process_time() - began))
                    row += [min(cpu), float(probe.n_iter_), float(probe.gradient_norm_ <= protocol.tol)]
                rows.setdefault(k, []).append(row)
            seconds = {}
            for name, minimise in [*contenders.items()] * 2:
                solver.minimise = minimise
                began = time.perf_counter()
                with ThreadPoolExecutor(cores()) as pool:
                    list(
                        pool.map(
                            lambda one: fit_draw(one[1].train.vectors[one[2]], one[1].codes[one[2]], protocol), fits
                        )
                    )
                seconds[name] = min(seconds.get(name, np.inf), time.perf_counter() - began)
    finally:
        solver.minimise = ours
    names = ("words", "ours_ms", "ours_steps", "ours_converged", "scipy_ms", "scipy_steps", "scipy_converged")
    table = {str(k): dict(zip(names, map(float, np.mean(found, axis=0)), strict=True)) for k, found in rows.items()}
    ratios = {str(k): [one[4] / one[1] for one in found] for k, found in rows.items()}
    for k, row in table.items():
        row["ratio"], row["ratio_low"], row["ratio_high"] = map(float, np.percentile(ratios[k], [50, 10, 90]))
    result = {"machine": machine("numpy", "scipy", "threadpoolctl"), "fits": table, "grid_seconds": seconds}
    keep("solver", result, solver_report(result))


def solver_report(result: dict[str, Any]) -> str:
    lines = [
        "`LinearProbe`'s fit with our L-BFGS and with scipy's L-BFGS-B: one loss, one set of coordinates, one rule for",
        "stopping. Features of nuner-mini; means over ten draws of three sets; milliseconds of CPU on one thread, the",
        "best of three; scipy's over ours is the median of the pairs (tenth to ninetieth percentile).",
        "",
        "| k | words | ours, ms | steps | scipy, ms | steps | scipy / ours | converged, ours and scipy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for k, row in result["fits"].items():
        lines.append(
            f"| {k} | {row['words']:,.0f} | {row['ours_ms']:.1f} | {row['ours_steps']:.1f} | {row['scipy_ms']:.1f} | "
            f"{row['scipy_steps']:.1f} | {row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f}) | "
            f"{row['ours_converged']:.0%} and {row['scipy_converged']:.0%} |"
        )
    seconds = result["grid_seconds"]
    lines += [
        "",
        f"All fits of the grid in {cores()} threads, the better of two runs: ours {seconds['ours']:.1f} s, scipy's "
        f"{seconds['scipy']:.1f} s, {seconds['scipy'] / seconds['ours']:.2f} times as long.",
    ]
    return "\n".join(lines) + "\n"


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
