"""Measures FAISS's RaBitQ lists beside the product-quantised lists of `ivf_pq`, which `auto` takes for many rows.

    pip install -e '.[bench]'
    python benchmarks/rabitq.py [--rows N ...] [--again]

The vectors and queries are those of benchmarks/index.py, in float16 and mapped from a file, as in an index. Every
contender is a backend of `index build` with as many lists, trained on as many rows, and compares its candidates with
their stored vectors. A quarter of the queries gives the curve and the fastest setting that reaches the recall; one half
is then searched for by all contenders in turns. A search runs on one thread and is timed by the processor time of this
thread, which other work of the machine hardly changes. Indexes and curves are kept, so that an interrupted run goes on.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import keep, machine
from index import AT, BATCH, FOLDER, QUERIES, Curve, at_095, draw, vectors

from nuner_embed.indexes.base import SearchParameters
from nuner_embed.indexes.faiss.backend import FaissBackend, scan
from nuner_embed.indexes.recall import recall_of
from nuner_embed.indexes.vectors import Floats, Vectors
from nuner_embed.machine import cores

TARGET, ENOUGH = 0.95, 0.985  # the curve ends where more than ENOUGH is found
ROUNDS = 9
BASE = "ivf_pq"
CHOOSING, JUDGING = slice(0, None, 4), slice(1, None, 2)  # the queries that choose settings, and those that judge them


def contenders(rows: int, dim: int) -> dict[str, str]:
    """Each contender's factory string; the number after RaBitQ is bits a dimension, one where there is none."""
    base = FaissBackend.spec_of(BASE, rows, dim)
    lists = base.split(",")[0]
    quarter = f"IVF{int(lists.removeprefix('IVF')) // 4}"
    return {
        BASE: base,
        "RaBitQ, 1 bit": f"{lists},RaBitQ",
        "RaBitQ, 4 bits": f"{lists},RaBitQ4",
        "RaBitQ fast scan, 1 bit": f"{lists},RaBitQfs",
        "RaBitQ fast scan, 1 bit, rotated": f"RR{dim},{lists},RaBitQfs",
        "RaBitQ fast scan, 1 bit, 5/6 of the dimensions": f"PCAR{dim * 5 // 6},{lists},RaBitQfs",
        "RaBitQ fast scan, 1 bit, a quarter of the lists": f"{quarter},RaBitQfs",
        "RaBitQ fast scan, 2 bits": f"{lists},RaBitQfs2",
        "RaBitQ fast scan, 4 bits": f"{lists},RaBitQfs4",
    }


@dataclass(frozen=True, slots=True)
class Task:
    """The rows of one size, the queries, and what is to be found.

    Attributes:
        folder: of what is kept.
        vectors: the rows, mapped.
        queries: (q, dim).
        truth: the score of each query's tenth nearest row, (q,).
    """

    folder: Path
    vectors: Vectors
    queries: Floats
    truth: Floats

    def recall(self, backend: FaissBackend, parameters: SearchParameters, part: slice) -> tuple[float, float]:
        """Recall@10, and queries a second of processor time."""
        queries = self.queries[part]
        with backend.threads(1):
            began = time.thread_time()
            scores = [backend.search(queries[a : a + BATCH], AT, parameters)[0] for a in range(0, len(queries), BATCH)]
            rate = len(queries) / (time.thread_time() - began)
        return float(recall_of(np.concatenate(scores), self.truth[part]).mean()), rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 500_000])
    parser.add_argument("--again", action="store_true", help="build and measure again what is kept")
    options = parser.parse_args()
    sizes = []
    for rows in options.rows:
        task = prepare(rows)
        built = {
            name: measure(name, spec, task, options.again) for name, spec in contenders(rows, task.vectors.dim).items()
        }
        in_turns(built, task)
        sizes.append({"rows": rows, "contenders": {name: facts for name, (_, facts) in built.items()}})
    report(sizes)


def prepare(rows: int) -> Task:
    """Rows drawn at random from the store of benchmarks/index.py, and their exact neighbours."""
    folder = FOLDER / "rabitq" / str(rows)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "truth.npy").exists():
        base, queries = vectors("store"), vectors("queries")
        chosen = np.sort(np.random.default_rng(0).choice(len(base), rows, replace=False))
        np.save(folder / "vectors.npy", base[chosen].astype(np.float16))
        queries = queries[np.random.default_rng(0).choice(len(queries), QUERIES, replace=False)]
        np.save(folder / "queries.npy", queries)
        truth = scan(Vectors.open(folder / "vectors.npy", "cosine"), queries, AT)[0][:, -1]
        np.save(folder / "truth.npy", truth)
    queries, truth = (np.load(folder / f"{name}.npy") for name in ("queries", "truth"))
    return Task(folder, Vectors.open(folder / "vectors.npy", "cosine"), queries, truth)


def measure(name: str, spec: str, task: Task, again: bool) -> tuple[FaissBackend, dict[str, Any]]:
    """Builds and saves a contender, and measures its curve; or opens what an earlier run has kept."""
    kept = task.folder / f"{spec.replace(',', '-')}.json"
    file = kept.with_suffix(".faiss")
    if kept.exists() and not again:
        return FaissBackend.open(file, spec, task.vectors), json.loads(kept.read_text())
    print(f"{len(task.vectors):,} rows, {name}: {spec}", flush=True)
    backend = FaissBackend.new(spec, task.vectors)
    began = time.perf_counter()
    backend.train(len(task.vectors))
    trained = time.perf_counter()
    for chunk in task.vectors.chunks(0, len(task.vectors)):
        backend.add(chunk)
    facts = {
        "spec": spec,
        "train_seconds": trained - began,
        "build_seconds": time.perf_counter() - began,
        "resident_bytes": backend.bytes_resident,
        "curve": curve(backend, task),
    }
    backend.save(file)
    kept.write_text(json.dumps(facts))
    return backend, facts


def curve(backend: FaissBackend, task: Task) -> Curve:
    """Recall and queries a second of settings that `index build` tries.

    Of the numbers of candidates every second one is tried, 2 to 48 times k. With each of them the lists grow in number
    until more than ENOUGH is found, or no more, or half the rate of the best setting that reaches the target is left.
    """
    points: Curve = []
    best = 0.0
    for family in list(backend.settings())[::2]:
        before = -1.0
        for parameters in family:
            recall, rate = task.recall(backend, parameters, CHOOSING)
            points.append({"setting": parameters.to_dict(), "recall": recall, "rate": rate})
            if recall > ENOUGH or recall - before < 0.001 or rate < best / 2:
                break
            best = max(best, rate) if recall >= TARGET else best
            before = recall
    front = max((p for p in points if p["recall"] >= TARGET), key=lambda p: p["rate"], default=None)
    print(f"  {len(points)} settings; fastest at {TARGET}: {front}", flush=True)
    return points


def in_turns(built: dict[str, tuple[FaissBackend, dict[str, Any]]], task: Task) -> None:
    """Searches with all contenders in turns, each at its fastest setting that reaches the target; adds to their facts.

    A contender that never reaches the target is left out.
    """
    running = {}
    for name, (backend, facts) in built.items():
        if any(point["recall"] >= TARGET for point in facts["curve"]):
            running[name] = fastest(backend, facts["curve"], task)
    names = list(running)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(ROUNDS + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            recall, rate = task.recall(built[name][0], running[name], JUDGING)
            if number:  # the first round warms up
                rates[name].append(rate)
            built[name][1]["recall_in_turns"] = recall
    for name in names:
        ratio = np.quantile(np.divide(rates[name], rates[BASE]), (0.25, 0.5, 0.75)).tolist()
        found = {"setting": running[name].to_dict(), "rates": rates[name], "ratio": ratio}
        built[name][1].update(found, rate=float(np.median(rates[name])))


def fastest(backend: FaissBackend, points: Curve, task: Task) -> SearchParameters:
    """The fastest setting that reaches the target: the best four of the curve are measured again, three times."""
    reached = sorted((p for p in points if p["recall"] >= TARGET), key=lambda p: p["rate"], reverse=True)[:4]
    settings = [
        SearchParameters(nprobe=p["setting"]["probes"], ef_search=1, k_factor=p["setting"]["candidates"])
        for p in reached
    ]
    rates = np.zeros(len(settings))
    for _ in range(3):
        for number, setting in enumerate(settings):
            rates[number] = max(rates[number], task.recall(backend, setting, CHOOSING)[1])
    return settings[int(rates.argmax())]


def report(sizes: list[dict[str, Any]]) -> None:
    where = machine("faiss-cpu", "numpy")
    lines = [
        f"Word vectors, cosine, float16 on disk; queries of other paragraphs in batches of {BATCH}; one thread, and "
        f"its processor time; instructions that matter: {', '.join(where['features']) or 'none'}. All candidates are "
        f"compared with their stored vectors. Curve: queries/s interpolated at recall@{AT} = {TARGET}, "
        f"{QUERIES // 4:,} queries. In turns: each at its fastest setting that reaches {TARGET} there, with "
        f"{QUERIES // 2:,} other queries in {ROUNDS} rounds; the median, and for the ratio to {BASE} the quartiles. "
        f"Builds take {cores()} threads, and the time of a clock.",
        "",
    ]
    for size in sizes:
        lines += table(size["rows"], size["contenders"])
    winners = [name for name in sizes[0]["contenders"] if all(wins(name, size["contenders"]) for size in sizes)]
    lines += [
        f"Faster than {BASE} in three of four rounds, with no more memory, at each size: "
        f"{'; '.join(winners) or 'none'}.",
        "",
        f"![recall against queries a second, {sizes[-1]['rows']:,} rows](rabitq.png)",
        "",
    ]
    keep("rabitq", {"machine": where, "sizes": sizes}, "\n".join(lines))
    draw(sizes[-1]["contenders"], "rabitq")


def wins(name: str, facts: dict[str, dict[str, Any]]) -> bool:
    """Whether a contender is faster than BASE by more than noise, and holds no more in memory."""
    mine = facts[name]
    return "ratio" in mine and mine["ratio"][0] > 1 and mine["resident_bytes"] <= facts[BASE]["resident_bytes"]


def table(rows: int, facts: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"{rows:,} rows:",
        "",
        f"| | factory string | curve, queries/s | in turns: recall | queries/s | to {BASE} | bytes a vector "
        "| build, s (of which training) |",
        "|---|---|---|---|---|---|---|---|",
        *(row(name, one, rows) for name, one in facts.items()),
        "",
    ]


def row(name: str, facts: dict[str, Any], rows: int) -> str:
    rate = at_095(facts["curve"])
    turns = "not reached | | "
    if "ratio" in facts:
        low, ratio, high = facts["ratio"]
        turns = f"{facts['recall_in_turns']:.3f} | {facts['rate']:,.0f} | {ratio:.2f} ({low:.2f} to {high:.2f})"
    return (
        f"| {name} | `{facts['spec']}` | {f'{rate:,.0f}' if rate else ''} | {turns} | "
        f"{facts['resident_bytes'] / rows:,.0f} | {facts['build_seconds']:,.0f} ({facts['train_seconds']:,.0f}) |"
    )


if __name__ == "__main__":
    main()
