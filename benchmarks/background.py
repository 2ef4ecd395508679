"""Measures how a background changes the false alarms of probes for rare types.

    python benchmarks/background.py

A probe learns one type from 8 to 16 mentions and looks for the type in the rest of the corpus. The training sentences
were chosen because they contain the type; in the rest, a few words in a thousand are of the type. Compared, with five
draws each, by span F1 with exact bounds:

- the probe without a background;
- 4,000 words of the rest, or of the package's sample corpus, learnt as words of no type, with each kind of class
  weights;
- the probe without a background, with its intercepts moved to the share of the type that expectation maximisation
  estimates in the rest (Saerens et al. 2002).

Last, whether the sample corpus as a background would be a good default: the paper's macro-F1 over all types of MIT
Movie. No test part is used: only the LLM's annotations, a development part and a training part.
"""

import argparse
import gzip
import hashlib
import itertools
import json
from typing import Any

import numpy as np
from common import WORK, data_file, keep, machine
from scipy.special import expit, logit

from nuner_embed import Corpus, LinearProbe, load_encoder
from nuner_embed.bundled import DOCUMENTS, SENTENCES
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.documents import Document
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.evaluation.metrics import Scores
from nuner_embed.heads.features import FeatureCache
from nuner_embed.heads.labelled_words import Runs, WordLabels, count_matrix, count_mentions, runs_of
from nuner_embed.heads.probe import BACKGROUND_WORDS
from nuner_embed.heads.support_set import draw_k

K, DRAWS = 8, 5
RARE = (
    ("LLM-annotated news of science and farming", "crop"),
    ("LLM-annotated news of science and farming", "natural disaster"),
    ("Few-NERD INTER, development part", "building-library"),
    ("MIT Movie, training part", "SONG"),
)
WEIGHTS = ("sqrt", None, "balanced")
Found = dict[str, list[int]]  # numbers of right, found and annotated mentions


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    encoder = load_encoder("nuner-mini")
    cache = FeatureCache(WORK / "background" / "features", encoder)
    sample = cache.features([one for one in Corpus([SENTENCES, DOCUMENTS]) if isinstance(one, Document)]).vectors
    rows: list[dict[str, Any]] = []
    features: WordFeatures | None = None
    documents: list[Document] = []
    for name, cases in itertools.groupby(RARE, key=lambda case: case[0]):
        documents = read(name)
        features = cache.features(documents)
        for _, type_ in cases:
            rows.append({"set": name, "type": type_, **measure_rare(documents, features, type_, sample)})
            print(rows[-1], flush=True)
    assert features is not None  # those of MIT Movie, the last set
    every = measure_all(documents, features, sample)
    result = {"machine": machine("torch", "numpy", "scikit-learn"), "rare": rows, "all types": every}
    keep("background", result, report(rows, every))


def read(name: str) -> list[Document]:
    """The documents of a set, at most 3,000, in an order that a hash determines."""
    if name.startswith("LLM"):
        path = data_file("llm-annotated/annotated.jsonl.gz")
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            wanted = {one["id"] for one in map(json.loads, lines) if one["source"] == "abc"}
        return [document for document in read_annotated([path])[0] if document.id in wanted]
    path, most = ("few-nerd-inter/dev.txt.gz", 2500) if name.startswith("Few") else ("mit-movie/train.txt", 3000)
    documents = read_annotated([data_file(f"typed/{path}")], "conll")[0]
    return order(documents, most)


def order(documents: list[Document], most: int) -> list[Document]:
    """At most so many documents, in an order that a hash determines."""
    return sorted(documents, key=lambda document: hashlib.sha256(document.text.encode()).digest())[:most]


class Draw:
    """The sentences to learn from, and the rest: documents, their words and labels."""

    def __init__(self, documents: list[Document], features: WordFeatures, types: list[str], seed: int) -> None:
        chosen = draw_k(count_matrix(documents, types), K, [seed, K])
        assert chosen is not None
        rest = np.setdiff1d(np.arange(len(documents)), chosen)
        labels = WordLabels.of(documents, features, types)
        learnt, rows = features.take(chosen), features.take(rest)
        self.x, self.y = features.vectors[learnt], labels.codes[learnt]
        self.rest = features.vectors[rows]
        self.bounds = np.concatenate([[0], np.cumsum(np.diff(features.bounds)[rest])])
        self.start, self.end = features.start[rows], features.end[rows]
        self.documents = [documents[i] for i in rest]
        words = WordFeatures(self.bounds, self.start, self.end, self.rest)
        self.labels = WordLabels.of(self.documents, words, types)
        self.random = np.random.default_rng(seed)

    def with_background(self, words: Any, class_weight: str | None) -> LinearProbe:
        """A probe that learns from words of no type in addition to the sentences."""
        some = words[self.random.choice(len(words), min(len(words), BACKGROUND_WORDS), replace=False)]
        codes = np.append(self.y, np.zeros(len(some), self.y.dtype))
        return LinearProbe(class_weight=class_weight).fit(np.concatenate([self.x, some]), codes)


def measure_rare(documents: list[Document], features: WordFeatures, type_: str, sample: Any) -> dict[str, Any]:
    """Precision, recall and F1 of each way, over all draws together."""
    found: Found = {}
    shares = []
    for seed in range(DRAWS):
        draw = Draw(documents, features, [type_], seed)
        annotated = spans(draw.labels.mentions)
        shares.append([(draw.y > 0).mean(), (draw.labels.codes > 0).mean()])
        plain = LinearProbe().fit(draw.x, draw.y)
        ways = {"no background": plain.decision_function(draw.rest)}
        ways["no background, share by EM"] = moved(ways["no background"], draw.y)
        for weights in WEIGHTS:
            ways[f"the rest, {weights}"] = draw.with_background(draw.rest, weights).decision_function(draw.rest)
        ways["sample corpus, balanced"] = draw.with_background(sample, "balanced").decision_function(draw.rest)
        for way, scores in ways.items():
            seen = spans(runs_of((scores > 0).astype(np.int64), draw.bounds))
            counts = found.setdefault(way, [0, 0, 0])
            for i, count in enumerate((len(seen & annotated), len(seen), len(annotated))):
                counts[i] += count
    learnt, there = np.mean(shares, axis=0).tolist()
    return {
        "share learnt from": learnt,
        "share in the rest": there,
        "ways": {way: rates(*n) for way, n in found.items()},
    }


def moved(scores: Any, codes: Any) -> Any:
    """The scores, adapted to the share of positives that expectation maximisation estimates in the scored words."""
    weight = np.sqrt(len(codes) / (2 * np.bincount(codes)))
    mass = weight * np.bincount(codes)
    before = share = float(mass[1] / mass.sum())
    for _ in range(500):
        after = max(float(expit(scores + logit(share) - logit(before)).mean()), 1e-7)
        if abs(np.log(after / share)) < 1e-6:
            break
        share = after
    return scores + logit(share) - logit(before)


def spans(runs: Runs) -> set[tuple[int, int]]:
    return set(zip(runs.first.tolist(), runs.last.tolist(), strict=True))


def rates(right: int, found: int, annotated: int) -> dict[str, float]:
    return {
        "precision": right / max(1, found),
        "recall": right / max(1, annotated),
        "f1": 2 * right / max(1, found + annotated),
    }


def measure_all(documents: list[Document], features: WordFeatures, sample: Any) -> dict[str, float]:
    """Token macro-F1 over all types, None left out, as the mean over draws."""
    types = sorted(count_mentions(documents))
    found: dict[str, list[float]] = {}
    for seed in range(3):
        draw = Draw(documents, features, types, seed)
        for way, probe in (
            ("no background", LinearProbe().fit(draw.x, draw.y)),
            ("sample corpus, balanced", draw.with_background(sample, "balanced")),
        ):
            codes = probe.predict(draw.rest).astype(np.int64)
            scores = Scores.of(types, draw.labels, codes, runs_of(codes, draw.bounds), len(draw.bounds) - 1)
            found.setdefault(way, []).append(float(scores.token_macro_f1))
    return {way: float(np.mean(values)) for way, values in found.items()}


def report(rows: list[dict[str, Any]], every: dict[str, float]) -> str:
    ways = list(rows[0]["ways"])
    lines = [
        f"nuner-mini, k = {K}, {DRAWS} draws together, percent: precision / recall, span F1 with exact bounds. In "
        "brackets how many of the words learnt from, and of the rest, are of the type.\n",
        f"| background, class weights | {' | '.join(head(row) for row in rows)} | mean F1 |",
        "|---" * (len(rows) + 2) + "|",
    ]
    for way in ways:
        found = [row["ways"][way] for row in rows]
        cells = (f"{100 * one['precision']:.0f} / {100 * one['recall']:.0f}, {100 * one['f1']:.1f}" for one in found)
        lines.append(f"| {way} | {' | '.join(cells)} | {100 * np.mean([one['f1'] for one in found]):.1f} |")
    lines += [
        f"\nAll types of MIT Movie (training part), k = {K}, token macro-F1 without None, percent, mean of 3 draws: "
        + "; ".join(f"{way} {100 * value:.1f}" for way, value in every.items())
        + ".",
        "\nThe sets, by the order of columns: " + "; ".join(f"{row['type']}: {row['set']}" for row in rows) + ".",
    ]
    return "\n".join(lines) + "\n"


def head(row: dict[str, Any]) -> str:
    return f"{row['type']} ({100 * row['share learnt from']:.0f}, {100 * row['share in the rest']:.2f})"


if __name__ == "__main__":
    main()
