"""Measures types that are given by name alone, without any example, and the mention detector.

    python benchmarks/zeroshot.py
    python benchmarks/zeroshot.py --development    # stops before the test parts

First the threshold of words is chosen on development parts (a fifth of the training parts of three sets, selected by a
hash of the sentence). Then the whole test parts are measured, by each way of `TAGGERS` at its default threshold: a
further way is a further entry there. Differences between the ways have 95% intervals of a bootstrap over sentences,
with the same sentences for all ways. The names of the concepts are those of benchmarks/concepts.py, written down
before. The figures of other systems are those that their authors report.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from common import WORK, data_file, keep, machine
from concepts import CONCEPTS
from fewshot import SETS
from strength import SETS as DEVELOPMENT
from strength import is_held_out

from nuner_embed import load_detector, load_encoder, named_tagger
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.documents import Document
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.evaluation.metrics import Scores
from nuner_embed.heads import NAMED_THRESHOLD
from nuner_embed.heads.base import Head
from nuner_embed.heads.features import FeatureCache, embed_words
from nuner_embed.heads.labelled_words import WordLabels, count_mentions, runs_of
from nuner_embed.heads.tagger import Tagger
from nuner_embed.heads.zero_shot import zero_shot_tagger
from nuner_embed.tables import Ints

OURS = "nuner-mini"
THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
DETECTED = (0.1, 0.3, 0.5, 0.7, 0.9)
SENTENCES, AT_ONCE = 1000, 512
RESAMPLES = 2000
SPAN, TOKEN = "span micro-F1", "token macro-F1"
AVERAGE = "average"
# ../shared/paper/reported-results.txt: NuNER Zero span, entity F1, whole test parts, a larger model
REPORTED = {"CrossNER AI": 61.7, "CrossNER politics": 71.7, "CrossNER science": 65.4}


def by_words(types: dict[str, str]) -> Tagger[Head]:
    return zero_shot_tagger(types, load_encoder(OURS, normalize=True), ConceptEncoder.open(OURS))


def mentions_first(types: dict[str, str]) -> Tagger[Head]:
    return named_tagger(types, model=OURS, detector=OURS)


def spans(types: dict[str, str]) -> Tagger[Head]:
    return named_tagger(types, model=OURS, decode="spans")


# What makes a tagger of labels and their names; differences are taken from the first one.
TAGGERS: dict[str, Callable[[dict[str, str]], Tagger[Head]]] = {
    "words": by_words,
    "mentions first": mentions_first,
    "span head": spans,
}


@dataclass(frozen=True, slots=True)
class Tagged:
    """What a tagger found in a test part, counted by sentence: right, predicted and annotated.

    Attributes:
        spans: mentions, (d, 3).
        tokens: words of each type, (d, types, 3).
        exact: share of the annotated mentions that were found with the very same bounds, whatever their type.
    """

    spans: Ints
    tokens: Ints
    exact: float

    @classmethod
    def of(
        cls, documents: Sequence[Document], tagged: Sequence[Document], words: WordFeatures, types: Sequence[str]
    ) -> Self:
        """Compares tagged documents with the annotated ones; `words` are those of both."""
        parts = [WordLabels.of(some, words, types) for some in (documents, tagged)]
        total, classes = len(words.start) + 1, len(types) + 1
        bounds = [one.mentions.first * total + one.mentions.last for one in parts]
        keys = [place * classes + one.mentions.code for place, one in zip(bounds, parts, strict=True)]
        right = np.isin(keys[1], keys[0])
        spans = np.zeros((len(documents), 3), np.int64)
        for column, first in enumerate((parts[1].mentions.first[right], *(one.mentions.first for one in parts[::-1]))):
            np.add.at(spans, (np.searchsorted(words.bounds, first, side="right") - 1, column), 1)
        owner = np.repeat(np.arange(len(documents)), np.diff(words.bounds))
        tokens = np.zeros((len(documents), classes, 3), np.int64)
        agreed = np.where(parts[0].codes == parts[1].codes, parts[0].codes, 0)
        for column, codes in enumerate((agreed, parts[1].codes, parts[0].codes)):
            np.add.at(tokens, (owner, codes, column), 1)
        return cls(spans, tokens[:, 1:], float(np.isin(bounds[0], bounds[1]).mean()))

    def scores(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Each metric, (n,), with each sentence as often as its weights say, (n, d)."""
        tokens = (weights @ self.tokens.reshape(len(self.tokens), -1)).reshape(len(weights), -1, 3)
        occurs = tokens[:, :, 1:].sum(axis=2) > 0
        macro = (f1(tokens) * occurs).sum(axis=1) / np.maximum(1, occurs.sum(axis=1))
        return {SPAN: f1(weights @ self.spans), TOKEN: macro}


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 of right, predicted and annotated, (..., 3)."""
    found: np.ndarray = 2 * counts[..., 0] / np.maximum(1, counts[..., 1] + counts[..., 2])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--development", action="store_true", help="stop before the test parts")
    options = parser.parse_args()
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
    resampled: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for name, (_, path) in SETS.items():
        documents = list(read_annotated([data_file(path)], "conll")[0])
        words = FeatureCache(WORK / "probing" / "features", load_encoder(OURS)).features(documents)
        found["test"][name], resampled[name] = test(name, documents, words)
        found["detector"][name] = detect(documents, words)
        print(name, found["test"][name], flush=True)
    found["differences"] = differences(found["test"], resampled)
    calibration = concepts.calibration
    result = {
        "machine": machine("torch", "numpy", "scikit-learn"),
        "calibration": {"slope": calibration.slope, "intercept": calibration.intercept, "data": calibration.data},
        "resamples": RESAMPLES,
        **found,
    }
    keep("zeroshot", result, report(found))


def measure(
    name: str, documents: list[Document], words: WordFeatures, encoder: TextEncoder, concepts: ConceptEncoder, t: float
) -> dict[str, float]:
    """Token macro-F1 and span micro-F1 of words typed by the names of a set's types, at a threshold."""
    types = {label: CONCEPTS[name][label] for label in sorted(count_mentions(documents))}
    tagger = zero_shot_tagger(types, encoder, concepts, t)
    labels, codes = WordLabels.of(documents, words, tagger.types), tagger.head.label(words)
    scores = Scores.of(tagger.types, labels, codes, runs_of(codes, words.bounds), len(documents))
    return {TOKEN: float(scores.token_macro_f1), SPAN: float(scores.span_micro_f1)}


def test(
    name: str, documents: list[Document], words: WordFeatures
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, np.ndarray]]]:
    """The scores of each tagger on a set, and those on the set's sentences drawn again."""
    types = {label: CONCEPTS[name][label] for label in sorted(count_mentions(documents))}
    once = np.ones((1, len(documents)))
    again = np.random.default_rng(0).multinomial(len(documents), np.full(len(documents), 1 / len(documents)), RESAMPLES)
    scores, resampled = {}, {}
    for row, make in TAGGERS.items():
        tagger = make(types)
        found = [
            one
            for first in range(0, len(documents), AT_ONCE)
            for one in tagger.tag([replace(one, spans=()) for one in documents[first : first + AT_ONCE]])
        ]
        tagged = Tagged.of(documents, found, words, list(types))
        whole = {metric: float(values[0]) for metric, values in tagged.scores(once).items()}
        scores[row], resampled[row] = {**whole, "exact": tagged.exact}, tagged.scores(again.astype(np.float64))
        print(f"{name}, {row}: tagged", flush=True)
    return scores, resampled


def differences(test: dict[str, Any], resampled: dict[str, Any]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Of each set, tagger and metric: the difference from the first tagger, and the ends of its 95% interval."""
    first, *others = TAGGERS
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name in (*test, AVERAGE):
        sets = list(test) if name == AVERAGE else [name]
        for row in others:
            for metric in (SPAN, TOKEN):
                mean = float(np.mean([test[one][row][metric] - test[one][first][metric] for one in sets]))
                apart = np.mean([resampled[one][row][metric] - resampled[one][first][metric] for one in sets], axis=0)
                ends = np.percentile(apart, [2.5, 97.5]).tolist()
                found.setdefault(name, {}).setdefault(row, {})[metric] = [mean, *ends]
    return found


def detect(documents: list[Document], words: WordFeatures) -> dict[str, dict[str, float]]:
    """Precision and recall of the detector by words of the set's mentions.

    Also the share of the set's mentions that the detector finds with exact bounds.
    """
    detector = load_detector(OURS)
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
        f"Whole test parts, threshold {NAMED_THRESHOLD}, percent. Exact: the share of the annotated mentions that are",
        "found with the very same bounds, whatever their type. Theirs: NuNER Zero span, as its authors report it.\n",
        "| set | | span micro-F1 | token macro-F1 | exact | reported by others, span F1 |",
        "|---|---|---|---|---|---|",
    ]
    for name in (*found["test"], AVERAGE):
        for row in TAGGERS:
            sets = list(found["test"]) if name == AVERAGE else [name]
            values = [np.mean([found["test"][one][row][what] for one in sets]) for what in (SPAN, TOKEN, "exact")]
            other = f"{REPORTED[name]:.1f}" if name in REPORTED else ""
            lines.append(f"| {name} | {row} | {' | '.join(f'{100 * value:.1f}' for value in values)} | {other} |")
    lines += [
        f"\nDifferences from {next(iter(TAGGERS))}, with 95% intervals of a bootstrap over sentences ({RESAMPLES:,}",
        "draws, the same sentences for both; of the average, drawn in each set by itself):\n",
        "| set | | span micro-F1 | token macro-F1 |",
        "|---|---|---|---|",
    ]
    for name, rows in found["differences"].items():
        for row, metrics in rows.items():
            shown = [
                f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
                for mean, low, high in (metrics[SPAN], metrics[TOKEN])
            ]
            lines.append(f"| {name} | {row} | {' | '.join(shown)} |")
    lines += [
        f"\nThe threshold of words: development parts of {', '.join(found['development'])}, span micro-F1, percent:\n",
        f"| threshold | {' | '.join(found['development'])} | mean |",
        "|---" * (len(found["development"]) + 2) + "|",
    ]
    for threshold in map(str, THRESHOLDS):
        values = [100 * one[threshold][SPAN] for one in found["development"].values()]
        lines.append(f"| {threshold} | {' | '.join(f'{value:.1f}' for value in values)} | {np.mean(values):.1f} |")
    lines += [
        "\nThe mention detector on test parts, percent: precision / recall of words, and the share of mentions that it",
        "finds with the very same bounds. The sets annotate their own types only, the detector looks for everything",
        "that can be named.\n",
        f"| threshold | {' | '.join(found['detector'])} |",
        "|---" * (len(found["detector"]) + 1) + "|",
    ]
    for threshold in map(str, DETECTED):
        pairs = [one[threshold] for one in found["detector"].values()]
        shown = [f"{100 * one['precision']:.0f} / {100 * one['recall']:.0f}, {100 * one['exact']:.0f}" for one in pairs]
        lines.append(f"| {threshold} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
