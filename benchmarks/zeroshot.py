"""Named types, no example: how well a probe made of concept names finds mentions, and how well the detector does.

    python benchmarks/zeroshot.py [MODEL] [--name NAME]

MODEL is a calibrated checkpoint that `nuner-embed pretrain` made. First the threshold, on development parts (a fifth of
the training parts of three sets, taken by a hash of the sentence); then the test parts, once, with the default one. The
labels' names as concepts stand in benchmarks/concepts.py and were written down before. Figures of others are theirs.
"""

import argparse
from typing import Any

import numpy as np
from common import data_file, keep, machine
from concepts import CONCEPTS
from fewshot import SETS
from strength import SETS as DEVELOPMENT
from strength import is_held_out

from nuner_embed import load_detector, load_encoder
from nuner_embed.documents import Document
from nuner_embed.encoding.concepts import ConceptEncoder
from nuner_embed.encoding.encoder import TextEncoder
from nuner_embed.errors import ProbeError
from nuner_embed.evaluation.metrics import Scores
from nuner_embed.probing.features import embed_words
from nuner_embed.probing.reading import read_annotated
from nuner_embed.probing.words import WordFeatures, WordLabels, count_mentions, runs_of
from nuner_embed.probing.zero_shot import DEFAULT_THRESHOLD, zero_shot_tagger

THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
DETECTED = (0.1, 0.3, 0.5, 0.7, 0.9)
SENTENCES = 1000
# ../shared/paper/reported-results.txt: NuNER Zero span, entity F1, all of each test part, another and larger model
REPORTED = {"CrossNER AI": 61.7, "CrossNER politics": 71.7, "CrossNER science": 65.4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="nuner-mini")
    parser.add_argument("--name", default="zeroshot", help="of the result")
    options = parser.parse_args()
    encoder, concepts = load_encoder(options.model, normalize=True), ConceptEncoder.open(options.model)
    found: dict[str, Any] = {"development": {}, "test": {}, "detector": {}}
    for name, path in DEVELOPMENT.items():
        held = [one for one in read_annotated([data_file(path)], "conll")[0] if is_held_out(one.text)][:SENTENCES]
        words = embed_words(encoder, held)
        found["development"][name] = {
            str(threshold): measure(name, held, words, encoder, concepts, threshold) for threshold in THRESHOLDS
        }
        print(name, found["development"][name], flush=True)
    for name, (_, path) in SETS.items():
        documents = list(read_annotated([data_file(path)], "conll")[0])
        words = embed_words(encoder, documents)
        found["test"][name] = measure(name, documents, words, encoder, concepts, DEFAULT_THRESHOLD)
        found["detector"][name] = detect(options.model, documents)
        print(name, found["test"][name], flush=True)
    calibration = concepts.calibration
    result = {
        "machine": machine("torch", "numpy", "scikit-learn"),
        "calibration": {"slope": calibration.slope, "intercept": calibration.intercept, "data": calibration.data},
        **found,
    }
    keep(options.name, result, report(found))


def measure(
    name: str, documents: list[Document], words: WordFeatures, encoder: TextEncoder, concepts: ConceptEncoder, t: float
) -> dict[str, float]:
    """Token macro-F1 and span micro-F1 of a probe that was made of a set's type names."""
    types = {label: CONCEPTS[name][label] for label in sorted(count_mentions(documents))}
    tagger = zero_shot_tagger(types, encoder, concepts, t)
    labels, codes = WordLabels.of(documents, words, tagger.types), tagger.label(words)
    scores = Scores.of(tagger.types, labels, codes, runs_of(codes, words.bounds), len(documents))
    return {"token_macro_f1": float(scores.token_macro_f1), "span_micro_f1": float(scores.span_micro_f1)}


def detect(model: str, documents: list[Document]) -> dict[str, dict[str, float]]:
    """How many words that the detector finds are in a mention of the set, and how many of those it finds."""
    try:
        detector = load_detector(model)
    except ProbeError:
        return {}
    words = embed_words(load_encoder(model), documents)
    inside = WordLabels.of(documents, words, sorted(count_mentions(documents))).codes > 0
    probabilities = detector.weights.probabilities(words.vectors)[:, detector.weights.classes > 0].sum(axis=1)
    found = {}
    for threshold in DETECTED:
        chosen = probabilities >= threshold
        right = np.count_nonzero(chosen & inside)
        precision, recall = right / max(1, np.count_nonzero(chosen)), right / max(1, np.count_nonzero(inside))
        found[str(threshold)] = {"precision": float(precision), "recall": float(recall)}
    return found


def report(found: dict[str, Any]) -> str:
    lines = [
        f"Test parts, threshold {DEFAULT_THRESHOLD}, percent. Theirs: NuNER Zero span, as its authors report it.\n",
        "| set | span micro-F1 | token macro-F1 | reported by others, span F1 |",
        "|---|---|---|---|",
    ]
    for name, one in found["test"].items():
        other = f"{REPORTED[name]:.1f}" if name in REPORTED else ""
        lines.append(f"| {name} | {100 * one['span_micro_f1']:.1f} | {100 * one['token_macro_f1']:.1f} | {other} |")
    lines += [
        f"\nDevelopment parts of {', '.join(found['development'])}, span micro-F1, percent:\n",
        f"| threshold | {' | '.join(found['development'])} | mean |",
        "|---" * (len(found["development"]) + 2) + "|",
    ]
    for threshold in map(str, THRESHOLDS):
        values = [100 * one[threshold]["span_micro_f1"] for one in found["development"].values()]
        lines.append(f"| {threshold} | {' | '.join(f'{value:.1f}' for value in values)} | {np.mean(values):.1f} |")
    if any(found["detector"].values()):
        lines += [
            "\nThe mention detector on test parts: words, precision / recall, percent. The sets annotate their own "
            "types only, the detector looks for everything that can be named.\n",
            f"| threshold | {' | '.join(found['detector'])} |",
            "|---" * (len(found["detector"]) + 1) + "|",
        ]
        for threshold in map(str, DETECTED):
            pairs = [one[threshold] for one in found["detector"].values()]
            shown = (f"{100 * one['precision']:.0f} / {100 * one['recall']:.0f}" for one in pairs)
            lines.append(f"| {threshold} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
