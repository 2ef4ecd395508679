"""Measures a probe made of concept names, without any example, and the mention detector.

    python benchmarks/pretrained.py    # for the few-shot curve beside it
    python benchmarks/zeroshot.py

First the threshold is chosen on development parts (a fifth of the training parts of three sets, selected by a hash of
the sentence); then the test parts are measured once, with the default threshold. The names of the concepts are those of
benchmarks/concepts.py, written down before. The figures of other systems are those that their authors report.
"""

import argparse
import json
from dataclasses import replace
from typing import Any

import numpy as np
from common import RESULTS, data_file, keep, machine
from concepts import CONCEPTS
from fewshot import SETS
from strength import SETS as DEVELOPMENT
from strength import is_held_out

from nuner_embed import load_detector, load_encoder
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.documents import Document
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.evaluation.metrics import Scores
from nuner_embed.heads import NAMED_THRESHOLD
from nuner_embed.heads.features import embed_words
from nuner_embed.heads.labelled_words import WordLabels, count_mentions, runs_of
from nuner_embed.heads.zero_shot import zero_shot_tagger

OURS = "nuner-mini"
THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
DETECTED = (0.1, 0.3, 0.5, 0.7, 0.9)
SENTENCES = 1000
# ../shared/paper/reported-results.txt: NuNER Zero span, entity F1, whole test parts, a larger model
REPORTED = {"CrossNER AI": 61.7, "CrossNER politics": 71.7, "CrossNER science": 65.4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--development", action="store_true", help="stop before the test parts")
    options = parser.parse_args()
    fewshot = RESULTS / "pretrained.json"
    if not (options.development or fewshot.exists()):
        raise SystemExit(f"{fewshot} is not there; run benchmarks/pretrained.py before")
    encoder, concepts = load_encoder(OURS, normalize=True), ConceptEncoder.open(OURS)
    found: dict[str, Any] = {"development": {}, "test": {}, "detector": {}}
    for name, path in DEVELOPMENT.items():
        held = [one for one in read_annotated([data_file(path)], "conll")[0] if is_held_out(one.text)][:SENTENCES]
        words = embed_words(encoder, held)
        found["development"][name] = {
            str(threshold): measure(name, held, words, encoder, concepts, threshold) for threshold in THRESHOLDS
        }
        print(name, found["development"][name], flush=True)
    if options.development:
        return
    for name, (_, path) in SETS.items():
        documents = list(read_annotated([data_file(path)], "conll")[0])
        words = embed_words(encoder, documents)
        found["test"][name] = measure(name, documents, words, encoder, concepts, NAMED_THRESHOLD)
        found["detector"][name] = detect(documents)
        print(name, found["test"][name], flush=True)
    found["curve"] = curve(json.loads(fewshot.read_text())["cells"], found["test"])
    calibration = concepts.calibration
    result = {
        "machine": machine("torch", "numpy", "scikit-learn"),
        "calibration": {"slope": calibration.slope, "intercept": calibration.intercept, "data": calibration.data},
        **found,
    }
    keep("zeroshot", result, report(found))
    draw(found["curve"])


def measure(
    name: str, documents: list[Document], words: WordFeatures, encoder: TextEncoder, concepts: ConceptEncoder, t: float
) -> dict[str, float]:
    """Token macro-F1 and span micro-F1 of a probe made of the names of a set's types."""
    types = {label: CONCEPTS[name][label] for label in sorted(count_mentions(documents))}
    tagger = zero_shot_tagger(types, encoder, concepts, t)
    labels, codes = WordLabels.of(documents, words, tagger.types), tagger.head.label(words)
    scores = Scores.of(tagger.types, labels, codes, runs_of(codes, words.bounds), len(documents))
    return {"token_macro_f1": float(scores.token_macro_f1), "span_micro_f1": float(scores.span_micro_f1)}


def curve(cells: list[dict[str, Any]], test: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Span micro-F1 of each set by k, over all draws; from names alone at k = 0."""
    found: dict[str, dict[str, list[float]]] = {name: {"0": [one["span_micro_f1"]]} for name, one in test.items()}
    for cell in cells:
        if cell["model"] == OURS and cell["scores"]:
            found[cell["set"]][str(cell["k"])] = cell["others"]["span_micro_f1"]
    return found


def detect(documents: list[Document]) -> dict[str, dict[str, float]]:
    """Precision and recall of the detector by words of the set's mentions.

    Also the share of the set's mentions that the detector finds with exact bounds.
    """
    detector = load_detector(OURS)
    words = embed_words(load_encoder(OURS), documents)
    labels = WordLabels.of(documents, words, sorted(count_mentions(documents)))
    mentions = set(zip(labels.mentions.first.tolist(), labels.mentions.last.tolist(), strict=True))
    inside = labels.codes > 0
    found = {}
    for threshold in DETECTED:
        seen = replace(detector, threshold=threshold).runs(documents, words)[0]
        chosen = np.zeros(len(inside), bool)
        for first, last in zip(seen.first, seen.last, strict=True):
            chosen[first:last] = True
        right = np.count_nonzero(chosen & inside)
        exact = mentions & set(zip(seen.first.tolist(), seen.last.tolist(), strict=True))
        found[str(threshold)] = {
            "precision": right / max(1, np.count_nonzero(chosen)),
            "recall": right / max(1, np.count_nonzero(inside)),
            "exact": len(exact) / max(1, len(mentions)),
        }
    return found


def report(found: dict[str, Any]) -> str:
    lines = [
        f"Test parts, threshold {NAMED_THRESHOLD}, percent. Theirs: NuNER Zero span, as its authors report it.\n",
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
    lines += ["\nFrom names alone (0), and from k to 2k examples of a type: span micro-F1, percent, mean over draws.\n"]
    sizes = sorted({size for one in found["curve"].values() for size in one}, key=int)
    lines += [f"| set | {' | '.join(sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    for name, one in found["curve"].items():
        shown = (f"{100 * np.mean(one[size]):.1f}" if size in one else "" for size in sizes)
        lines.append(f"| {name} | {' | '.join(shown)} |")
    lines += [
        "\n![curves](zeroshot.png)\n",
        "The mention detector on test parts, percent: precision / recall of words, and the share of mentions that it "
        "finds with the very same bounds. The sets annotate their own types only, the detector looks for everything "
        "that can be named.\n",
        f"| threshold | {' | '.join(found['detector'])} |",
        "|---" * (len(found["detector"]) + 1) + "|",
    ]
    for threshold in map(str, DETECTED):
        pairs = [one[threshold] for one in found["detector"].values()]
        shown = (f"{100 * one['precision']:.0f} / {100 * one['recall']:.0f}, {100 * one['exact']:.0f}" for one in pairs)
        lines.append(f"| {threshold} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def draw(curves: dict[str, dict[str, list[float]]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    sizes = sorted({size for one in curves.values() for size in one}, key=int)
    for name, one in curves.items():
        known = [size for size in sizes if size in one]
        axes.plot([sizes.index(size) for size in known], [100 * np.mean(one[size]) for size in known], "o-", label=name)
    axes.set_xticks(range(len(sizes)), ["names alone", *(f"k = {size}" for size in sizes[1:])])
    axes.set(ylabel="span micro-F1, percent", title="nuner-mini, frozen: from the names of types to examples of them")
    axes.legend(fontsize=8)
    figure.savefig(RESULTS / "zeroshot.png", dpi=110)


if __name__ == "__main__":
    main()
