"""Measures recall, speed, memory and build time of indexes over a million real word vectors, here and elsewhere.

    pip install -e '.[bench]'
    python benchmarks/index.py [--again CONTENDER]

The vectors are those of the words of every 13th paragraph of the books, encoded once into benchmarks/work/index; the
queries are 2,000 words of other paragraphs. All contenders get the same float32 vectors of unit length, the same
queries in batches of 32, and one thread per core. Measurements are kept, so that an interrupted run continues.
"""

import argparse
import gc
import gzip
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from common import RESULTS, WORK, data_file, keep, machine

from nuner_embed import Index, Store, encode, export_onnx
from nuner_embed.indexes import SearchParameters
from nuner_embed.indexes.exact import nearest
from nuner_embed.indexes.faiss.factory import parameters_of, refining
from nuner_embed.indexes.vectors import prepared
from nuner_embed.machine import cores

FOLDER = WORK / "index"
EVERY, WORDS = 13, 1_010_000
QUERIES, AT, BATCH = 2_000, 10, 32
# nprobe, ef_search, k_factor: those that the chosen kind has
SETTINGS = [
    (8, 16, 8), (16, 32, 8), (16, 48, 12), (24, 64, 12), (32, 96, 12), (16, 48, 16), (20, 64, 16), (24, 96, 16),
    (32, 128, 16), (48, 192, 16), (32, 128, 24), (64, 256, 24), (96, 512, 32),
]  # fmt: skip
Curve = list[dict[str, Any]]
Search = Callable[[np.ndarray, Any], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="append", default=[], choices=[*CONTENDERS, "layer", "filters"])
    again = parser.parse_args().again
    base, queries = vectors("store"), vectors("queries")
    queries = queries[np.random.default_rng(0).choice(len(queries), QUERIES, replace=False)]
    truth, brute = brute_force(base, queries)
    results = {}
    for name, run in {**CONTENDERS, "layer": layer, "filters": filters}.items():
        path = FOLDER / f"measured-{name}.json"
        if name in again or not path.exists():
            print(f"{name} ...", flush=True)
            found = run(base, queries, truth)
            path.write_text(json.dumps(found))
            gc.collect()
        results[name] = json.loads(path.read_text())
    report(results, brute, len(base), base.shape[1])


def vectors(name: str) -> np.ndarray:
    """The rows of a store, scaled to unit length, (n, 384) float32."""
    store = Store.open(make_store(name))
    return np.concatenate([prepared(shard.vectors, "cosine") for shard in store.shards])


def make_store(name: str) -> Path:
    path, corpus = FOLDER / name, FOLDER / f"{name}.txt"
    if (path / "manifest.json").exists() and Store.open(path, allow_incomplete=True).complete:
        return path
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "model").exists():
        export_onnx("minilm-l6", FOLDER / "model")
    words = 0
    books = data_file("text/books-paragraphs.txt.gz")
    with gzip.open(books, "rt", encoding="utf-8") as lines, corpus.open("w") as out:
        for number, line in enumerate(lines):
            if name == "store" and number % EVERY == 0 and words < WORDS:
                words += len(line.split())
                out.write(line)
            elif name == "queries" and number % EVERY and number % 1000 == 6:
                out.write(line)
    encode(corpus, path, model=str(FOLDER / "model"))
    return path


def brute_force(base: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, float]:
    """The score of each query's tenth neighbour, and queries a second of an exhaustive search; kept once measured."""
    path = FOLDER / "truth.npz"
    if path.exists():
        known = np.load(path)
        return known["scores"], float(known["rate"])
    index = faiss.IndexFlatIP(base.shape[1])
    index.add(base)
    began = time.perf_counter()
    scores = np.concatenate([index.search(queries[a : a + BATCH], AT)[0] for a in range(0, 320, BATCH)])
    rate = len(scores) / (time.perf_counter() - began)
    scores = index.search(queries, AT)[0][:, -1]
    np.savez(path, scores=scores, rate=rate)
    return scores, rate


def sweep(base: np.ndarray, queries: np.ndarray, truth: np.ndarray, search: Search, settings: list[Any]) -> Curve:
    """Recall and the better of two rates for each setting; a neighbour that ties with the tenth counts as found."""
    curve = []
    for setting in settings:
        rates = []
        for _ in range(2):
            began = time.perf_counter()
            ids = np.concatenate([search(queries[a : a + BATCH], setting) for a in range(0, len(queries), BATCH)])
            rates.append(len(queries) / (time.perf_counter() - began))
        scores = np.einsum("qd,qkd->qk", queries, base[ids.ravel()].reshape(*ids.shape, -1))
        recall = float((scores >= truth[:, None] - 1e-5).mean())
        curve.append({"setting": str(setting), "recall": recall, "rate": max(rates)})
        print(f"  {setting}: {recall:.4f} {max(rates):,.0f}", flush=True)
    return curve


def cold(files: list[Path], open_: Callable[[], Search], queries: np.ndarray, setting: Any) -> dict[str, float]:
    """Seconds to open the index and to answer 1,000 queries, after the system dropped the files from its cache."""
    for path in files:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.perf_counter()
    search = open_()
    opened = time.perf_counter()
    for a in range(0, 1000, BATCH):
        search(queries[a : a + BATCH], setting)
    return {"open_seconds": opened - began, "first_thousand_seconds": time.perf_counter() - opened}


def ours(base: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Measures `nuner-embed index build` with its defaults."""
    path = FOLDER / "index"
    shutil.rmtree(path, ignore_errors=True)
    began = time.perf_counter()
    index = Index.build(FOLDER / "store", path)
    seconds = time.perf_counter() - began
    (segment,) = index.bundle.segments
    settings = [SearchParameters(nprobe=nprobe, ef_search=ef, k_factor=factor) for nprobe, ef, factor in SETTINGS]

    def searching(opened: Index) -> Search:
        return lambda some, parameters: opened.search(some, AT, parameters=parameters).ids

    curve = sweep(base, queries, truth, searching(index), [None, *settings])
    files = [path for path in (path / "segments").rglob("*") if path.is_file()]
    index.close()
    return {
        "kind": segment.factory,
        "build_seconds": seconds,
        "resident_bytes": segment.bytes_resident,
        "disk_bytes": sum(file.stat().st_size for file in files),
        "claimed": segment.recall.to_dict(),
        "trials": segment.to_dict()["trials"],
        "curve": curve,
        **cold(files, lambda: searching(Index.open(path)), queries, None),
    }


def layer(base: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Compares our search with the FAISS objects beneath it, batch by batch in turns; the best of 15 of each batch."""
    index = Index.open(FOLDER / "index")
    backend = index._state.segments[0].backend
    parameters = index.bundle.segments[0].parameters
    batches = [queries[a : a + BATCH] for a in range(0, len(queries), BATCH)]
    seconds = {name: np.full(len(batches), np.inf) for name in ("raw", "ours")}
    raw = backend.refined or backend.index
    params = parameters_of(backend.index, parameters, None)
    params = refining(params, parameters.k_factor) if backend.refined else params
    searches = {"raw": lambda some: raw.search(some, AT, params=params), "ours": lambda some: index.search(some, AT)}
    for _ in range(15):
        for number, batch in enumerate(batches):
            for name, search in searches.items():
                began = time.perf_counter()
                search(batch)
                seconds[name][number] = min(seconds[name][number], time.perf_counter() - began)
    return {name: float(best.sum()) for name, best in seconds.items()}


def filters(base: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> list[dict[str, Any]]:
    """Recall and speed of our own setting with filters that leave some of the rows."""
    index = Index.open(FOLDER / "index")
    (segment,) = index._state.segments
    some = queries[:320]
    rows = []
    for condition in ("true", "word % 2 = 0", "word % 10 = 3", "word % 30 = 3", "word % 300 = 3"):
        keep = np.isin(segment.ids, index.ids(condition))
        exact = nearest(segment.vectors, some, AT, segment.order.marked(keep))[0][:, -1:]
        began = time.perf_counter()
        found = np.concatenate(
            [index.search(some[a : a + BATCH], AT, filter=condition).scores for a in range(0, 320, BATCH)]
        )
        seconds = time.perf_counter() - began
        recall = float((found >= exact - 1e-5).mean())
        rows.append({"filter": condition, "share": float(keep.mean()), "recall": recall, "rate": len(some) / seconds})
        print(f"  {rows[-1]}", flush=True)
    return rows


def faiss_peer(factory: str, settings: list[int], parameters: Callable[[int], Any]) -> Callable[..., dict[str, Any]]:
    def run(base: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        path = FOLDER / "peer.faiss"
        began = time.perf_counter()
        index = faiss.index_factory(base.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(base[:: max(1, len(base) // 200_000)])
        index.add(base)
        seconds = time.perf_counter() - began
        faiss.write_index(index, str(path))

        def searching(opened: Any) -> Search:
            return lambda some, setting: opened.search(some, AT, params=parameters(setting))[1]

        curve = sweep(base, queries, truth, searching(index), settings)
        del index
        return found(seconds, path, curve, lambda: searching(faiss.read_index(str(path))), queries)

    return run


def hnswlib_peer(base: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    import hnswlib

    path = FOLDER / "peer.hnswlib"
    began = time.perf_counter()
    index = hnswlib.Index("ip", base.shape[1])
    index.init_index(len(base), ef_construction=200, M=16)
    index.set_num_threads(cores())
    index.add_items(base)
    seconds = time.perf_counter() - began
    index.save_index(str(path))

    def searching(opened: Any) -> Search:
        def search(some: np.ndarray, effort: int) -> np.ndarray:
            opened.set_ef(effort)
            return opened.knn_query(some, AT, num_threads=cores())[0].astype(np.int64)

        return search

    def open_() -> Search:
        opened = hnswlib.Index("ip", base.shape[1])
        opened.load_index(str(path))
        return searching(opened)

    curve = sweep(base, queries, truth, searching(index), [16, 32, 40, 48, 64, 96, 128, 192])
    del index
    return found(seconds, path, curve, open_, queries)


def usearch_peer(base: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    from usearch.index import Index as Peer

    path = FOLDER / "peer.usearch"
    began = time.perf_counter()
    index = Peer(ndim=base.shape[1], metric="ip", dtype="f16", connectivity=16, expansion_add=128)
    index.add(np.arange(len(base)), base, threads=cores())
    seconds = time.perf_counter() - began
    index.save(str(path))

    def searching(opened: Any) -> Search:
        def search(some: np.ndarray, effort: int) -> np.ndarray:
            opened.expansion_search = effort
            return opened.search(some, AT, threads=cores()).keys.astype(np.int64)

        return search

    def open_() -> Search:
        opened = Peer(ndim=base.shape[1], metric="ip", dtype="f16", connectivity=16)
        opened.load(str(path))
        return searching(opened)

    curve = sweep(base, queries, truth, searching(index), [16, 32, 48, 64, 96, 128, 192])
    del index
    return found(seconds, path, curve, open_, queries)


def found(seconds: float, path: Path, curve: Curve, open_: Callable[[], Search], queries: np.ndarray) -> dict[str, Any]:
    """The measurements of another library; the size of its file stands for its memory."""
    nearest = min(curve, key=lambda point: abs(point["recall"] - 0.95))
    size = path.stat().st_size
    result = cold([path], open_, queries, int(nearest["setting"]))
    path.unlink()
    return {"build_seconds": seconds, "resident_bytes": size, "disk_bytes": size, "curve": curve, **result}


def probing(lists: int) -> Any:
    return faiss.SearchParametersIVF(nprobe=lists)


def queueing(effort: int) -> Any:
    return faiss.SearchParametersHNSW(efSearch=effort)


OURS = "nuner-embed auto"
CONTENDERS: dict[str, Callable[..., dict[str, Any]]] = {
    OURS: ours,
    "faiss IVF4096,Flat": faiss_peer("IVF4096,Flat", [4, 8, 12, 16, 24, 32, 48], probing),
    "faiss HNSW32": faiss_peer("HNSW32", [16, 32, 48, 64, 96, 128, 192], queueing),
    "hnswlib": hnswlib_peer,
    "usearch f16": usearch_peer,
}


def at_095(curve: Curve) -> float | None:
    """Queries a second at a recall of 0.95, interpolated between the two neighbouring measurements."""
    front = sorted(curve, key=lambda point: point["recall"])
    front = [p for p in front if not any(q["recall"] >= p["recall"] and q["rate"] > p["rate"] for q in front)]
    if not front or not front[0]["recall"] <= 0.95 <= front[-1]["recall"]:
        return None
    return float(np.interp(0.95, [p["recall"] for p in front], [p["rate"] for p in front]))


def report(results: dict[str, Any], brute: float, rows: int, dim: int) -> None:
    peers = {name: result for name, result in results.items() if name in CONTENDERS}
    rates = {name: at_095(result["curve"]) for name, result in peers.items()}
    lines = [
        f"{rows:,} word vectors of {dim} dimensions, cosine, {QUERIES:,} queries of other paragraphs in batches of "
        f"{BATCH}, {cores()} threads. Queries/s are interpolated at recall@10 = 0.95, ties counted as found. A cold "
        "start is one after the system was told to forget the index's files.",
        "",
        "| | queries/s at 0.95 | bytes a vector in memory | on disk | build, s | cold: open, s | first 1,000, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in peers.items():
        rate = f"{rates[name]:,.0f}" if rates[name] else "not reached"
        sizes = f"{result['resident_bytes'] / rows:,.0f} | {result['disk_bytes'] / rows:,.0f}"
        times = (
            f"{result['build_seconds']:,.0f} | {result['open_seconds']:.1f} | {result['first_thousand_seconds']:.2f}"
        )
        lines.append(f"| {name} | {rate} | {sizes} | {times} |")
    lines.append(f"| brute force (faiss IndexFlatIP) | {brute:,.0f} (exact) | {4 * dim:,} | {4 * dim:,} | | | |")
    mine, claimed = peers[OURS], peers[OURS]["claimed"]
    others = {name: rate for name, rate in rates.items() if name != OURS and rate}
    best = max(others, key=lambda name: others[name])
    my_rate = rates[OURS] or 0.0
    over = results["layer"]["ours"] / results["layer"]["raw"] - 1
    lines += [
        "",
        f"auto chose {mine['kind']}: {my_rate / others[best]:.2f}x the queries/s of the best peer ({best}), "
        f"{my_rate / others['hnswlib']:.2f}x hnswlib's; {mine['resident_bytes'] / rows / (4 * dim):.3f} of float32's "
        "bytes in memory, the stored vectors being read where they lie on the disk; "
        f"{mine['build_seconds'] / peers['hnswlib']['build_seconds']:.2f}x hnswlib's build time, measuring included.",
        "",
        f"The index says recall {claimed['recall']:.3f} ({claimed['low']:.3f} to {claimed['high']:.3f}) for rows that "
        f"were held out; with these queries its own setting finds {mine['curve'][0]['recall']:.3f} at "
        f"{mine['curve'][0]['rate']:,.0f} queries/s.",
        "",
        f"Our layer over the FAISS objects beneath it, the same search batch by batch in turns, best of 15: "
        f"{over:+.1%}.",
        "",
        "Where a filter leaves some of the rows, the same setting (which then tries harder; up to 20,000 rows are all "
        "looked at):",
        "",
        "| filter | leaves | recall@10 | queries/s |",
        "|---|---|---|---|",
        *(f"| `{r['filter']}` | {r['share']:.1%} | {r['recall']:.3f} | {r['rate']:,.0f} |" for r in results["filters"]),
        "",
        "![recall against queries a second](index.png)",
        "",
    ]
    where = machine("faiss-cpu", "hnswlib", "usearch", "numpy")
    keep("index", {"machine": where, "brute_force_rate": brute, "rows": rows, **results}, "\n".join(lines))
    draw(peers, "index")


def draw(peers: dict[str, Any], name: str) -> None:
    """Draws the curves of contenders into benchmarks/results/NAME.png."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5.5), layout="constrained")
    for label, result in peers.items():
        points = sorted((p["recall"], p["rate"]) for p in result["curve"])
        front = [p for p in points if not any(q[0] >= p[0] and q[1] > p[1] for q in points)]
        axes.plot(*zip(*front, strict=True), marker="o", markersize=4, label=label)
    axes.axvline(0.95, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="recall@10", ylabel="queries a second", yscale="log", xlim=(0.85, 1.0))
    axes.grid(visible=True, which="both", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)
    figure.savefig(RESULTS / f"{name}.png", dpi=120)


if __name__ == "__main__":
    main()
