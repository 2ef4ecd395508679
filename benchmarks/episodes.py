"""Measures probes on episodes of Few-NERD INTER, sampled as its authors sample them.

    python benchmarks/episodes.py                 # 500 episodes of each kind, some minutes
    python benchmarks/episodes.py --episodes 20

An episode: five of the 17 test types at random; a support set with K to 2K mentions of each, and as many again to be
labelled, from other sentences. A sentence may enter if all its mentions are of the five types, if it holds a type of
which there are fewer than K mentions, and if it lifts none above 2K (the greedy sampling of the Few-NERD paper). The
types are those of the data's test part, which no model here was trained on. F1 is over the mentions of all episodes
together, exact boundaries and type, as in that paper; the set is tagged without BIO, so touching mentions of one type
are one. Names are those of benchmarks/concepts.py, written down before the first run. Intervals: episodes drawn again.

The episode files of the authors are not at hand: the episodes are others, drawn in the same way. nuner-mini, last
layer, exported, float32; probes as `probe train` makes them.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import WORK, data_file, exported, keep, machine
from concepts import CONCEPTS
from threadpoolctl import threadpool_limits

from nuner_embed import FewShotProtocol, LinearProbe, load_encoder
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.evaluation.fewshot import fit_draw
from nuner_embed.heads import NAMED_C, NAMED_THRESHOLD
from nuner_embed.heads.features import FeatureCache
from nuner_embed.heads.labelled_words import Runs, WordLabels, count_matrix, count_mentions, runs_of
from nuner_embed.heads.names import NamedTypes
from nuner_embed.tables import Ints

SET, SOURCE = "Few-NERD INTER", "typed/few-nerd-inter/test.txt.gz"
WAYS, SHOTS, EPISODES = 5, (1, 5), 500
RESAMPLES = 2000
NAMES, PLAIN, NAMED = "names alone", "examples alone", "names and examples"


@dataclass(frozen=True, slots=True)
class Words:
    """The words of the whole set, labelled: vectors, the codes of all types, and the mentions."""

    features: WordFeatures
    labels: WordLabels

    def of(self, sentences: Ints, types: Ints) -> tuple[Ints, Ints, Ints]:
        """The words of some sentences, (n,); their codes among the types of an episode, (n,); the sentences' bounds."""
        words = self.features.take(sentences)
        place = np.zeros(self.labels.codes.max() + 1, np.int64)
        place[types + 1] = np.arange(1, len(types) + 1)
        lengths = np.diff(self.features.bounds)[sentences]
        return words, place[self.labels.codes[words]], np.concatenate([[0], np.cumsum(lengths)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=EPISODES, help="of each kind")
    options = parser.parse_args()
    documents = list(read_annotated([data_file(SOURCE)], "conll")[0])
    types = sorted(count_mentions(documents))
    model = exported("nuner-mini", WORK / "offset-model")
    features = FeatureCache(WORK / "probing" / "features", load_encoder(model, precision="f32")).features(documents)
    words = Words(features, WordLabels.of(documents, features, types))
    counts = count_matrix(documents, types)
    fits = ways_of(types, ConceptEncoder.open(model))
    found: dict[str, Any] = {}
    with threadpool_limits(1):
        for shots in SHOTS:
            random = np.random.default_rng(shots)
            rows = [
                measure(words, *one, fits)
                for one in itertools.islice(episodes(counts, shots, random), options.episodes)
            ]
            found[f"{shots} to {2 * shots}"] = summary(np.array(rows), list(fits))
            print(shots, found[f"{shots} to {2 * shots}"], flush=True)
    result = {"machine": machine("numpy", "scipy", "onnxruntime"), "episodes": options.episodes, "shots": found}
    keep("episodes", result, report(result))


def episodes(counts: Ints, shots: int, random: np.random.Generator) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Types of an episode, its support sentences, and its sentences to be labelled."""
    while True:
        types = np.sort(random.choice(counts.shape[1], WAYS, replace=False))
        others = np.setdiff1d(np.arange(counts.shape[1]), types)
        allowed = np.flatnonzero((counts[:, others].sum(axis=1) == 0) & (counts[:, types].sum(axis=1) > 0))
        order = random.permutation(allowed)
        support = sample(counts[:, types], order, shots)
        query = sample(counts[:, types], np.setdiff1d(order, support, assume_unique=True), shots)
        if len(support) and len(query):
            yield types, support, query


def sample(counts: Ints, order: Ints, shots: int) -> Ints:
    """The first sentences, in some order, that together hold `shots` to twice as many mentions of each type."""
    held, chosen = np.zeros(counts.shape[1], np.int64), []
    for sentence in order:
        more = counts[sentence]
        if ((more > 0) & (held < shots)).any() and (held + more <= 2 * shots).all():
            held, chosen = held + more, [*chosen, sentence]
        if (held >= shots).all():
            return np.array(chosen, np.int64)
    return np.empty(0, np.int64)


def ways_of(types: list[str], concepts: ConceptEncoder) -> dict[str, Callable[[Any, Ints, Ints], LinearProbe]]:
    """What makes a probe of an episode's vectors, codes and types."""
    plain, beside_names = FewShotProtocol(), FewShotProtocol(C=NAMED_C)
    names = {label: (CONCEPTS[SET][label],) for label in types}
    named = NamedTypes(names, concepts)
    alone = {label: LinearProbe.from_concepts([names[label]], concepts, threshold=NAMED_THRESHOLD) for label in types}

    def by_names(vectors: Any, codes: Ints, chosen: Ints) -> LinearProbe:
        return joined([alone[types[i]] for i in chosen])

    def by_examples(vectors: Any, codes: Ints, chosen: Ints) -> LinearProbe:
        return fit_draw(vectors, codes, plain)

    def by_both(vectors: Any, codes: Ints, chosen: Ints) -> LinearProbe:
        return fit_draw(vectors, codes, beside_names, [types[i] for i in chosen], named)

    return {NAMES: by_names, PLAIN: by_examples, NAMED: by_both}


def joined(probes: list[LinearProbe]) -> LinearProbe:
    """One probe for the types of several probes of a single type each, which share the class none."""
    made = LinearProbe()
    made.classes_ = np.arange(len(probes) + 1)
    made.coef_ = np.vstack([probes[0].coef_[:1], *(one.coef_[1:] for one in probes)])
    made.intercept_ = np.concatenate([probes[0].intercept_[:1], *(one.intercept_[1:] for one in probes)])
    return made


def measure(
    words: Words, types: Ints, support: Ints, query: Ints, fits: dict[str, Callable[[Any, Ints, Ints], LinearProbe]]
) -> list[list[int]]:
    """Right, predicted and annotated mentions of an episode, for each way, (ways, 3)."""
    learnt, codes, _ = words.of(support, types)
    asked, expected, bounds = words.of(query, types)
    annotated = mentions(runs_of(expected, bounds))
    rows = []
    for fit in fits.values():
        probe = fit(words.features.vectors[learnt], codes, types)
        vectors = words.features.vectors[asked]
        if fit is fits[NAMES]:  # made of names: it reads vectors of unit length
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        scores = vectors @ probe.coef_.T + probe.intercept_
        predicted = mentions(runs_of(probe.classes_[scores.argmax(axis=1)], bounds))
        rows.append([len(predicted & annotated), len(predicted), len(annotated)])
    return rows


def mentions(runs: Runs) -> set[tuple[int, int, int]]:
    return set(zip(runs.first.tolist(), runs.last.tolist(), runs.code.tolist(), strict=True))


def summary(rows: np.ndarray, ways: list[str]) -> dict[str, Any]:
    """F1 over all episodes of (episodes, ways, 3), in percent, with 95% intervals; and differences from PLAIN."""
    random = np.random.default_rng(0)
    drawn = np.array([f1(rows[random.integers(len(rows), size=len(rows))]) for _ in range(RESAMPLES)])
    base = ways.index(PLAIN)
    found = {}
    for i, way in enumerate(ways):
        low, high = np.percentile(drawn[:, i], [2.5, 97.5])
        less, more = np.percentile(drawn[:, i] - drawn[:, base], [2.5, 97.5])
        values = {"f1": f1(rows)[i], "interval": [low, high], "difference": f1(rows)[i] - f1(rows)[base]}
        found[way] = {key: np.asarray(value).tolist() for key, value in {**values, "paired": [less, more]}.items()}
    return found


def f1(rows: np.ndarray) -> np.ndarray:
    right, predicted, annotated = rows.sum(axis=0).T
    return 200 * right / np.maximum(1, predicted + annotated)


def report(result: dict[str, Any]) -> str:
    lines = [
        f"{SET}, test types, {WAYS} types an episode, {result['episodes']} episodes; F1 of mentions, percent, with its",
        "95% interval. In brackets, the difference from examples alone over the same episodes.",
        "",
        "| | " + " | ".join(f"{shots} examples" for shots in result["shots"]) + " |",
        "|---" * (len(result["shots"]) + 1) + "|",
    ]
    for way in (NAMES, PLAIN, NAMED):
        cells = []
        for one in (found[way] for found in result["shots"].values()):
            (low, high), (less, more) = one["interval"], one["paired"]
            apart = "" if way == PLAIN else f" ({one['difference']:+.1f} [{less:+.1f}, {more:+.1f}])"
            cells.append(f"{one['f1']:.1f} [{low:.1f}, {high:.1f}]{apart}")
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
