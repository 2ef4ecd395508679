"""Chooses the penalties of probes that start from the names of the types, on development parts.

python benchmarks/offset.py

The penalty of the layer and that of the names' weight, on the development parts of benchmarks/strength.py, and on the
`dev` parts of CrossNER politics and science with support sets of their `train` parts. Test parts are not used: those
are benchmarks/fewshot.py's. The names are those of benchmarks/concepts.py, written down before. nuner-mini, last layer,
exported, float32.
"""

import argparse
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from common import WORK, data_file, exported, keep, machine
from concepts import CONCEPTS
from strength import DEVELOPMENT, is_held_out
from strength import SETS as HALVED
from threadpoolctl import threadpool_limits

from nuner_embed import LinearProbe, load_encoder
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.documents import Document
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.evaluation.fewshot import score_probes
from nuner_embed.heads import DEFAULT_C, DEFAULT_CLASS_WEIGHT, DEFAULT_OFFSET_STRENGTH
from nuner_embed.heads.features import FeatureCache
from nuner_embed.heads.labelled_words import WordLabels, count_matrix, count_mentions
from nuner_embed.heads.names import NamedTypes
from nuner_embed.heads.support_set import draw_k
from nuner_embed.machine import cores

K, DRAWS = (1, 4, 16, 64), 4
WITH_DEV = {"CrossNER politics": "typed/crossner/politics", "CrossNER science": "typed/crossner/science"}
SETTINGS = [None, *itertools.product((0.003, 0.01, 0.03, 0.1), (1.0, 10.0, 100.0, 1000.0))]  # C and offset_strength
PLAIN = "examples alone"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    model = exported("nuner-mini", WORK / "offset-model")
    cache = FeatureCache(WORK / "probing" / "features", load_encoder(model, precision="f32"))
    concepts = ConceptEncoder.open(model)
    found: dict[str, Any] = {"development": {}}
    with threadpool_limits(1), ThreadPoolExecutor(cores()) as pool:
        for name in (*HALVED, *WITH_DEV):
            found["development"][name] = develop(name, cache, concepts, pool)
            print(name, "measured", flush=True)
    keep("offset", {"machine": machine("numpy", "scipy", "onnxruntime"), **found}, report(found["development"]))


def parts(name: str) -> tuple[list[Document], list[Document]]:
    """The sentences that support sets are drawn from, and those that are measured."""
    if name in WITH_DEV:
        learnt, held = (
            read_annotated([data_file(f"{WITH_DEV[name]}/{part}.txt")], "conll")[0] for part in ("train", "dev")
        )
        return list(learnt), list(held)
    documents = read_annotated([data_file(HALVED[name])], "conll")[0]
    return (
        [one for one in documents if not is_held_out(one.text)],
        [one for one in documents if is_held_out(one.text)][:DEVELOPMENT],
    )


def develop(name: str, cache: FeatureCache, concepts: ConceptEncoder, pool: ThreadPoolExecutor) -> dict[str, Any]:
    """By setting and k: mean token macro-F1, span micro-F1 and weight of the names over the draws."""
    learnt, held = parts(name)
    types = sorted(count_mentions(learnt) | count_mentions(held))
    train, development = cache.features(learnt), cache.features(held)
    codes, counts = WordLabels.of(learnt, train, types).codes, count_matrix(learnt, types)
    named = NamedTypes({label: (CONCEPTS[name][label],) for label in types}, concepts)
    found: dict[str, dict[str, list[tuple[float, ...]]]] = {str(one): {} for one in SETTINGS}
    for k, number in itertools.product(K, range(DRAWS)):
        chosen = draw_k(counts, k, [number, k])
        if chosen is None:
            continue
        rows = train.take(chosen)

        def fit(setting: tuple[float, float] | None, rows: Any = rows) -> LinearProbe:
            vectors = train.vectors[rows]
            c, strength = setting or (DEFAULT_C, DEFAULT_OFFSET_STRENGTH)
            offset = named.offsets(types, vectors) if setting else None
            return LinearProbe(C=c, class_weight=DEFAULT_CLASS_WEIGHT, offset=offset, offset_strength=strength).fit(
                vectors, codes[rows]
            )

        probes = list(pool.map(fit, SETTINGS))
        scored = score_probes(probes, held, development, types, pool)
        for setting, probe, scores in zip(SETTINGS, probes, scored, strict=True):
            values = (scores.token_macro_f1, scores.span_micro_f1, probe.offset_weight_)
            found[str(setting)].setdefault(str(k), []).append(tuple(map(float, values)))
    return {one: {k: np.mean(all_, axis=0).tolist() for k, all_ in by_k.items()} for one, by_k in found.items()}


def report(found: dict[str, Any]) -> str:
    lines = [
        f"Development parts: {', '.join(found)}; mean over sets and {DRAWS} draws, percent: token macro-F1 / span",
        "micro-F1 (weight of the names). Sets that have no support set of a size are left out of that size.",
        "",
        "| C, strength of the prior | " + " | ".join(f"k = {k}" for k in K) + " |",
        "|---" * (len(K) + 1) + "|",
    ]
    for setting in SETTINGS:
        cells = []
        for k in K:
            values = [one[str(setting)][str(k)] for one in found.values() if str(k) in one[str(setting)]]
            token, span, weight = np.mean(values, axis=0)
            cells.append(f"{100 * token:.1f} / {100 * span:.1f}" + (f" ({weight:.2f})" if setting else ""))
        title = f"{setting[0]}, {setting[1]:g}" if setting else f"{PLAIN}, C = {DEFAULT_C}"
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
