"""Measures the recall of an index for queries by the names of types, whose vectors differ from those of rows.

    python benchmarks/concept_recall.py

Builds an index of every kind over all mentions of llm-annotated, embedded by nuner-mini, at the default target recall
of 0.95. The queries are the 1,000 most frequent concepts, and 1,000 rows, each of which is left out of its own hits.
Recall@10 is measured against a search of every row; rows with equal scores count as found.
"""

import argparse
from typing import Any

import numpy as np
from common import WORK, data_file, exported, keep, machine

from nuner_embed import ConceptEncoder, Index, encode
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.evaluation.concept_map import count_concepts
from nuner_embed.indexes.vectors import Floats

DATA = "llm-annotated/annotated.jsonl.gz"
FOLDER = WORK / "concept-recall"
KINDS = ("hnsw", "ivf", "ivf_pq")
QUERIES = 1000
ROWS = "rows"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    model = exported("nuner-mini", FOLDER / "model")
    store = encode(data_file(DATA), FOLDER / "store", model=model, rows="mention", force=True)
    counts = count_concepts(read_annotated([data_file(DATA)])[0])
    names = [name for name, _ in counts.most_common(QUERIES)]
    rows = np.random.default_rng(0).choice(len(store), QUERIES, replace=False)
    queries = {
        "names of types": ConceptEncoder.open(model).encode(names),
        ROWS: store.vectors(np.sort(rows)).astype(np.float32),
    }
    with Index.build(store, FOLDER / "flat", kind="flat", force=True) as flat:
        exact = {name: best(flat, name, vectors) for name, vectors in queries.items()}
    results = []
    for kind in KINDS:
        with Index.build(store, FOLDER / kind, kind=kind, force=True) as index:
            found = {name: recall(best(index, name, vectors), exact[name]) for name, vectors in queries.items()}
            claimed = [segment.recall.recall for segment in index.bundle.segments]
        results.append({"kind": kind, "claimed": claimed, **found})
        print(results[-1], flush=True)
    result = {"machine": machine("faiss-cpu", "numpy"), "mentions": len(store), "kinds": results}
    keep("concept_recall", result, report(len(store), results))


def best(index: Index, name: str, vectors: Floats) -> Floats:
    """The ten best scores of each query; the score of the row itself, which is the best, is left out."""
    return index.search(vectors, k=10).scores if name != ROWS else index.search(vectors, k=11).scores[:, 1:]


def recall(scores: Floats, exact: Floats) -> float:
    """The share of the ten best scores that a search reaches."""
    return float((scores >= exact[:, -1:] - 1e-5).mean())


def report(mentions: int, results: list[dict[str, Any]]) -> str:
    lines = [
        f"{mentions:,} mentions, recall@10, each kind as `index build --kind` makes it (target 0.95).\n",
        "| kind | the index says | by rows | by names of types |",
        "|---|---|---|---|",
    ]
    for one in results:
        claimed = ", ".join(f"{value:.3f}" for value in one["claimed"])
        lines.append(f"| {one['kind']} | {claimed} | {one[ROWS]:.3f} | {one['names of types']:.3f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
