"""Compares penalties and class weights of probes; the defaults come from here.

python benchmarks/strength.py

Measured on development parts only: a fifth of the training part of each set, selected by a hash of the sentence, at
most 1,000 sentences. Support sets are drawn from the remaining sentences. Test parts are not used.
"""

import argparse
import hashlib
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from common import WORK, data_file, keep, machine
from threadpoolctl import threadpool_limits

from nuner_embed import LinearProbe, export_onnx, load_encoder
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.documents import Document
from nuner_embed.evaluation.fewshot import score_probes
from nuner_embed.heads.features import FeatureCache
from nuner_embed.heads.labelled_words import WordLabels, count_matrix, count_mentions
from nuner_embed.heads.support_set import draw_k
from nuner_embed.machine import cores

SETS = {
    "MIT Movie": "typed/mit-movie/train.txt",
    "MIT Restaurant": "typed/mit-restaurant/train.txt",
    "BioNLP 2004": "typed/bionlp2004/train.tsv",
}
K, DRAWS, DEVELOPMENT = (1, 4, 16, 64), 6, 1000
STRENGTHS, WEIGHTS = (0.003, 0.01, 0.03, 0.1, 1.0, 10.0), (None, "sqrt", "balanced")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    model = WORK / "probing" / "last"
    if not model.exists():
        export_onnx("minilm-l6", model)
    encoder = load_encoder(str(model))
    cache = FeatureCache(WORK / "probing" / "features", encoder)
    found: dict[tuple[str, int, str, float], list[tuple[float, float]]] = {}
    with threadpool_limits(1), ThreadPoolExecutor(cores()) as pool:
        for name, path in SETS.items():
            measure(name, read_annotated([data_file(path)], "conll")[0], cache, pool, found)
            print(name, "measured", flush=True)
    rows = {
        f"{weights}, C = {c}": {
            f"k = {k}": [float(np.mean([found[name, k, weights, c] for name in SETS], axis=(0, 1))[i]) for i in (0, 1)]
            for k in K
        }
        for weights, c in itertools.product(map(str, WEIGHTS), STRENGTHS)
    }
    result = {"machine": machine("numpy", "scipy", "scikit-learn", "onnxruntime"), "mean over sets": rows}
    keep("strength", result, report(rows))


def measure(
    name: str,
    documents: tuple[Document, ...],
    cache: FeatureCache,
    pool: ThreadPoolExecutor,
    found: dict[tuple[str, int, str, float], list[tuple[float, float]]],
) -> None:
    held = [document for document in documents if is_held_out(document.text)][:DEVELOPMENT]
    rest = [document for document in documents if not is_held_out(document.text)]
    types = sorted(count_mentions(documents))
    development, train = cache.features(held), cache.features(rest)
    codes, counts = WordLabels.of(rest, train, types).codes, count_matrix(rest, types)
    for k, number in itertools.product(K, range(DRAWS)):
        chosen = draw_k(counts, k, [number, k])
        assert chosen is not None
        rows = train.take(chosen)
        settings = list(itertools.product(WEIGHTS, STRENGTHS))
        probes = pool.map(
            lambda setting, rows=rows: LinearProbe(C=setting[1], class_weight=setting[0]).fit(
                train.vectors[rows], codes[rows]
            ),
            settings,
        )
        for (weights, c), scores in zip(
            settings, score_probes(list(probes), held, development, types, pool), strict=True
        ):
            pair = (scores.token_macro_f1, scores.span_micro_f1)
            found.setdefault((name, k, str(weights), c), []).append(pair)


def is_held_out(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[0] < 256 // 5


def report(rows: dict[str, dict[str, list[float]]]) -> str:
    lines = [
        f"Development parts of {', '.join(SETS)}; mean over sets and {DRAWS} draws, percent: token macro-F1, None left",
        "out / span micro-F1. all-MiniLM-L6-v2, last layer.",
        "",
        "| class weights | " + " | ".join(f"k = {k}" for k in K) + " | mean |",
        "|---" * (len(K) + 2) + "|",
    ]
    for name, cells in rows.items():
        shown = [" / ".join(f"{100 * value:.1f}" for value in pair) for pair in cells.values()]
        mean = np.mean(list(cells.values()), axis=0)
        lines.append(f"| {name} | " + " | ".join(shown) + f" | {100 * mean[0]:.1f} / {100 * mean[1]:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
