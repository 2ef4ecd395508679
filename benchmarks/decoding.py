"""Compares two ways to decode a probe trained on names and examples: word by word, and typing the detector's mentions.

    python benchmarks/decoding.py

The development parts, the support sets' sentences and the names are those of benchmarks/offset.py. `auto` takes, for
each support set, the mentions where the detector finds at least that share of the examples with the same bounds; the
default of `probe train --decode auto` comes from here, and so does the threshold of a mention's type. Span micro-F1.
"""

import argparse
from typing import Any

import numpy as np
from common import WORK, exported, keep, machine
from concepts import CONCEPTS
from detected import DetectedMentions
from offset import HALVED, WITH_DEV, K, parts

from nuner_embed import NamedTypes, load_detector, load_encoder, score_tagger, train_probe
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.errors import ProbeError
from nuner_embed.heads.decoding import LEAST_FOUND, SPAN_THRESHOLD, share_found
from nuner_embed.heads.features import FeatureCache
from nuner_embed.heads.labelled_words import WordLabels, count_mentions
from nuner_embed.heads.named import LinearTyper
from nuner_embed.heads.support_set import choose_support

DRAWS = 4
THRESHOLDS, SHARES = (0.1, 0.2, 0.3, 0.4, 0.5), (0.4, 0.5, 0.55, 0.6, 0.65, 0.7)
WORDS = "words"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    model = exported("nuner-mini", WORK / "offset-model")
    encoder, concepts, detector = load_encoder(model, precision="f32"), ConceptEncoder.open(model), load_detector(model)
    cache = WORK / "probing" / "features"
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name in (*HALVED, *WITH_DEV):
        learnt, held = parts(name)
        types = sorted(count_mentions(learnt) | count_mentions(held))
        words = FeatureCache(cache, encoder).features(held)
        mentions, annotated = DetectedMentions.of(encoder, detector, held, words), WordLabels.of(held, words, types)
        named = NamedTypes({label: (CONCEPTS[name][label],) for label in types}, concepts)
        for k in K:
            for seed in range(DRAWS):
                try:
                    support = choose_support(learnt, types=None, k=k, seed=seed, short="fail", what=name)
                except ProbeError:
                    continue
                tagger = train_probe(support.documents, encoder, named=named, cache=cache)
                typer = LinearTyper(tagger.types, tagger.head.weights)
                row = {
                    WORDS: float(score_tagger(tagger, held, cache=cache).span_micro_f1),
                    "share": share_found(tagger, detector, support.documents, cache),
                    **{str(t): float(mentions.score(typer, t, types, annotated).span_micro_f1) for t in THRESHOLDS},
                }
                found.setdefault(name, {}).setdefault(str(k), []).append(row)
        print(
            name, {k: np.mean([list(row.values()) for row in rows], axis=0).round(3) for k, rows in found[name].items()}
        )
    keep("decoding", {"machine": machine("numpy", "onnxruntime"), "sets": found}, report(found))


def report(found: dict[str, Any]) -> str:
    lines = [
        f"Development parts of {', '.join(found)}; names and examples, {DRAWS} support sets of each size, span",
        "micro-F1, percent, mean over the sets that have a support set of the size.",
        "",
        "| | " + " | ".join(f"k = {k}" for k in K) + " |",
        "|---" * (len(K) + 1) + "|",
        _row("words", [[[row[WORDS] for row in rows] for rows in by_k] for by_k in _by_k(found)]),
    ]
    for t in map(str, THRESHOLDS):
        lines.append(
            _row(f"spans, threshold {t}", [[[row[t] for row in rows] for rows in one] for one in _by_k(found)])
        )
    for share in SHARES:
        chosen = [[[_auto(row, share) for row in rows] for rows in one] for one in _by_k(found)]
        lines.append(_row(f"auto, from a share of {share:.0%} on", chosen))
    lines += [
        f"\nBy set, k = {' / '.join(map(str, K))}: share of the examples that the detector finds with the same bounds,",
        f"and span micro-F1 of words, spans (threshold {SPAN_THRESHOLD}) and auto (from {LEAST_FOUND:.0%} on).",
        "",
        "| set | share found | words | spans | auto |",
        "|---|---|---|---|---|",
    ]
    for name, sizes in found.items():
        cells = [
            " / ".join(
                f"{100 * np.mean([pick(row) for row in sizes[str(k)]]):.1f}" if str(k) in sizes else "-" for k in K
            )
            for pick in (
                lambda row: row["share"],
                lambda row: row[WORDS],
                lambda row: row[str(SPAN_THRESHOLD)],
                lambda row: _auto(row, LEAST_FOUND),
            )
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _by_k(found: dict[str, Any]) -> list[list[list[dict[str, float]]]]:
    return [[sizes[str(k)] for sizes in found.values() if str(k) in sizes] for k in K]


def _auto(row: dict[str, float], share: float) -> float:
    return row[str(SPAN_THRESHOLD)] if row["share"] >= share else row[WORDS]


def _row(title: str, by_k: list[list[list[float]]]) -> str:
    return f"| {title} | {' | '.join(f'{100 * np.mean([np.mean(rows) for rows in one]):.1f}' for one in by_k)} |"


if __name__ == "__main__":
    main()
