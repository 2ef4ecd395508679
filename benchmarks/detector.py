"""Measures the mention detector on development parts: its threshold, trimming, and the typing of its mentions by name.

    python benchmarks/detector.py

Development parts: the sentences of MIT Movie, MIT Restaurant and BioNLP 2004 that benchmarks/strength.py holds out, and
CrossNER's own; 300 sentences of each. Test parts are not used. A found mention is right if its bounds are those of an
annotated one. The sets annotate only their own types, while the detector looks for everything that can be named. Its
precision is therefore low, and comparable only between the rows of the table.

Named types, by span micro-F1 with exact bounds and type: mentions found by the detector at its default threshold and
typed by their mean vectors (nuner_embed.extract), and words typed one by one (probe train --concepts). Both at several
thresholds of the type, for all types of a set, for each single type (the mean) and for 20 pairs of types (the mean).
"""

import argparse
import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from common import data_file, keep, machine
from concepts import CONCEPTS
from strength import SETS as HELD_OUT
from strength import is_held_out

from nuner_embed import load_detector, load_encoder
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.mentions import Found, WordFeatures, embed_detected
from nuner_embed.encoders.text import TextEncoder, unit
from nuner_embed.heads import NAMED_THRESHOLD
from nuner_embed.heads.detector import DEFAULT_THRESHOLD, ProbeDetector
from nuner_embed.heads.labelled_words import WordLabels, count_mentions, runs_of

OURS = "nuner-mini"
SETS = HELD_OUT | {
    f"CrossNER {name}": f"typed/crossner/{name.lower()}/dev.txt" for name in ("AI", "politics", "science")
}
SENTENCES = 300
THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
TYPE_THRESHOLDS = (0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
PAIRS = 20
Spans = set[tuple[int, int]]


class Untrimmed(ProbeDetector):
    """The detector without trimming."""

    @property
    def trims(self) -> bool:
        return False


@dataclass
class Recorder:
    """A detector that keeps the word features of its last call."""

    detector: ProbeDetector
    words: Any = None

    def find(self, documents: Any, words: WordFeatures) -> Found:
        self.words = words
        return self.detector.find(documents, words)


class Part:
    """The development part of a set, encoded once."""

    def __init__(self, name: str, encoder: TextEncoder, detector: ProbeDetector) -> None:
        documents = read_annotated([data_file(SETS[name])], "conll")[0]
        self.documents = [one for one in documents if name not in HELD_OUT or is_held_out(one.text)][:SENTENCES]
        recorder: Any = Recorder(detector)
        table = encoder.tokenize(self.documents, "word")
        self.vectors = embed_detected(encoder, table, recorder).vectors
        self.words = recorder.words
        self.found = detector.runs(self.documents, self.words)[0]
        self.types = sorted(count_mentions(self.documents))
        self.mentions = WordLabels.of(self.documents, self.words, self.types).mentions
        self.annotated = bounds_of(self.mentions)

    def seen(self, detector: ProbeDetector) -> Spans:
        return bounds_of(detector.runs(self.documents, self.words)[0])


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    encoder, detector, concepts = load_encoder(OURS), load_detector(OURS), ConceptEncoder.open(OURS)
    before = Untrimmed(detector.weights, detector.types, detector.semantic_hash)
    found: dict[str, Any] = {"trimmed": {}, "before": {}, "types": {}}
    for name in SETS:
        part = Part(name, encoder, detector)
        for key, one in (("trimmed", detector), ("before", before)):
            found[key][name] = {str(t): rates(part.seen(replace(one, threshold=t)), part.annotated) for t in THRESHOLDS}
        found["types"][name] = measure_types(name, part, concepts)
        print(name, found["trimmed"][name]["0.5"], found["before"][name]["0.5"], flush=True)
    keep("detector", {"machine": machine("torch", "numpy"), **found}, report(found))


def bounds_of(runs: Any) -> Spans:
    return set(zip(runs.first.tolist(), runs.last.tolist(), strict=True))


def rates(seen: set[Any], annotated: set[Any]) -> dict[str, float]:
    right = len(seen & annotated)
    return {
        "precision": right / max(1, len(seen)),
        "recall": right / max(1, len(annotated)),
        "f1": 2 * right / max(1, len(seen) + len(annotated)),
    }


def measure_types(name: str, part: Part, concepts: ConceptEncoder) -> dict[str, dict[str, float]]:
    """Span F1 by the number of named types, the way and the threshold."""
    names = concepts.encode([CONCEPTS[name][type_] for type_ in part.types])
    by_mention = concepts.probabilities(unit(part.vectors.copy()) @ names.T)
    by_word = concepts.probabilities(unit(part.words.vectors.copy()) @ names.T)
    every, random = list(range(len(part.types))), np.random.default_rng(0)
    pairs = [random.choice(every, 2, replace=False).tolist() for _ in range(PAIRS)]
    found = {}
    for asked, choices in (("1", [[one] for one in every]), ("2", pairs), ("all", [every])):
        for t in TYPE_THRESHOLDS:
            values = [[typed_f1(part, p, chosen, t) for p in (by_mention, by_word)] for chosen in choices]
            mentions, words = np.mean(values, axis=0).tolist()
            found |= {f"{asked}, {t}": {"mentions": mentions, "words": words}}
    return found


def typed_f1(part: Part, probabilities: Any, types: list[int], threshold: float) -> float:
    """Span F1 of found mentions (if there is one row for each), or of runs of words."""
    some = probabilities[:, types]
    best = np.array(types)[some.argmax(axis=1)] + 1
    codes = np.where(some.max(axis=1) >= threshold, best, 0)
    if len(codes) == len(part.words.vectors):
        runs: Any = runs_of(codes, part.words.bounds)
        seen = set(zip(runs.first.tolist(), runs.last.tolist(), runs.code.tolist(), strict=True))
    else:
        typed = zip(part.found.first.tolist(), part.found.last.tolist(), codes.tolist(), strict=True)
        seen = {one for one in typed if one[2]}
    mentions = zip(part.mentions.first.tolist(), part.mentions.last.tolist(), part.mentions.code.tolist(), strict=True)
    return rates(seen, {one for one in mentions if one[2] - 1 in types})["f1"]


def report(found: dict[str, Any]) -> str:
    sets = list(SETS)
    lines = [
        f"nuner-mini's detector on development parts, {SENTENCES} sentences each, percent: precision / recall of "
        "mentions with the very same bounds, F1; the mean F1 in brackets is that without trimming.\n",
        f"| threshold | {' | '.join(sets)} | mean |",
        "|---" * (len(sets) + 2) + "|",
    ]
    for t in map(str, THRESHOLDS):
        ones = [found["trimmed"][name][t] for name in sets]
        cells = (f"{100 * o['precision']:.0f} / {100 * o['recall']:.0f}, {100 * o['f1']:.1f}" for o in ones)
        mean, before = (100 * np.mean([found[key][name][t]["f1"] for name in sets]) for key in ("trimmed", "before"))
        lines.append(f"| {t} | {' | '.join(cells)} | {mean:.2f} ({before:.2f}) |")
    lines += [
        "\nNamed types, span micro-F1, percent: the detector's mentions typed by their mean vectors / words typed one "
        f"by one. The default threshold is {NAMED_THRESHOLD}, mentions are those found at {DEFAULT_THRESHOLD}.\n",
        f"| types asked for, threshold | {' | '.join(sets)} | mean |",
        "|---" * (len(sets) + 2) + "|",
    ]
    for asked, t in itertools.product(("1", "2", "all"), TYPE_THRESHOLDS):
        ones = [found["types"][name][f"{asked}, {t}"] for name in sets]
        pairs = [(one["mentions"], one["words"]) for one in ones]
        pairs.append(tuple(np.mean(pairs, axis=0).tolist()))
        lines.append(f"| {asked}, {t} | {' | '.join(f'{100 * m:.1f} / {100 * w:.1f}' for m, w in pairs)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
