"""Chooses how a span head decides on mentions and types, on development parts, and compares it with the other ways.

    python benchmarks/spans.py [NAME=DIRECTORY ...]    # further models with span heads, as pretrain makes them

Three sets give a fifth of their training parts, selected by a hash of the sentence, and CrossNER its development parts;
test parts are not used. A span's type is the one with the largest log-odds, either as they are or less the logarithm of
the mean probability of the type among mentions of all kinds ("relative"). Whether the span is a mention of that type is
decided by the product of both probabilities, again with log-odds as they are or relative. The names of the types are
those of benchmarks/concepts.py.
"""

import argparse
import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from common import WORK, data_file, keep, machine
from concepts import CONCEPTS
from scipy.special import expit
from strength import DEVELOPMENT as SENTENCES
from strength import SETS, is_held_out

from nuner_embed import load_encoder, named_tagger
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.documents import Document
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.heads.features import FeatureCache
from nuner_embed.heads.labelled_words import WordLabels, count_mentions
from nuner_embed.heads.span_selection import disjoint
from nuner_embed.heads.spans import SpanHead, load_span_head
from nuner_embed.tables import Ints

OURS = "nuner-mini"
CROSSNER = {"CrossNER AI": "ai", "CrossNER politics": "politics", "CrossNER science": "science"}
THRESHOLDS = (0.03, 0.05, 0.1, 0.15, 0.2, 0.3)
RULES = {
    (choice, accept): f"{choice}, {accept}" for choice in ("as is", "relative") for accept in ("as is", "relative")
}
OTHERS = {"words": {"decode": "words"}, "the detector's mentions": {"detector": OURS}}
Mentions = set[tuple[int, int, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="NAME=DIRECTORY")
    given = dict(one.split("=", 1) for one in parser.parse_args().models)
    encoder, concepts = load_encoder(OURS), ConceptEncoder.open(OURS)
    cache = FeatureCache(WORK / "probing" / "features", encoder)
    found: dict[str, Any] = {"rules": {}, "others": {}, "exact": {}}
    for name, documents in development().items():
        words = cache.features(documents)
        types = {label: CONCEPTS[name][label] for label in sorted(count_mentions(documents))}
        labels = WordLabels.of(documents, words, tuple(types)).mentions
        gold = set(zip(labels.first.tolist(), labels.last.tolist(), labels.code.tolist(), strict=True))
        for model, directory in {"span head": OURS, **given}.items():
            head = load_span_head(directory)
            if head is None:
                raise SystemExit(f"{directory} has no span head")
            scored = measure(head.named(types, concepts), words, gold)
            found["rules"].setdefault(model, {})[name] = scored["rules"]
            found["exact"].setdefault(model, {})[name] = scored["exact"]
        for way, options in OTHERS.items():
            scored = other(types, options, documents, words, gold)
            found["others"].setdefault(way, {})[name] = scored["f1"]
            found["exact"].setdefault(way, {})[name] = scored["exact"]
        print(name, json.dumps({way: one[name] for way, one in found["exact"].items()}), flush=True)
    keep("spans", {"machine": machine("torch", "numpy"), **found}, report(found))


def development() -> dict[str, list[Document]]:
    parts = {}
    for name, path in SETS.items():
        parts[name] = [one for one in read_annotated([data_file(path)], "conll")[0] if is_held_out(one.text)][
            :SENTENCES
        ]
    for name, folder in CROSSNER.items():
        parts[name] = list(read_annotated([data_file(f"typed/crossner/{folder}/dev.txt")], "conll")[0])
    return parts


def measure(head: SpanHead, words: WordFeatures, gold: Mentions) -> dict[str, Any]:
    """Span micro-F1 by rule and threshold, and the share of the mentions found with the same bounds at 0.1."""
    parts = list(head.scorer.score(words))
    first, last = (np.concatenate([getattr(one, side) for one in parts]) for side in ("first", "last"))
    mention = expit(np.concatenate([one.mention for one in parts]))
    odds = np.concatenate([one.vectors for one in parts]) @ head.vectors.T + head.scorer.intercept
    relative = odds - head.log_usual()
    of = {"as is": odds, "relative": relative}
    found: dict[str, dict[str, float]] = {}
    rows = np.arange(len(first))
    for (choice, accept), name in RULES.items():
        best = of[choice].argmax(axis=1)
        probability = mention * expit(of[accept][rows, best])
        for threshold in THRESHOLDS:
            kept = np.flatnonzero(probability >= threshold)
            chosen = kept[disjoint(first[kept], last[kept], probability[kept])]
            mentions = as_mentions(first[chosen], last[chosen], best[chosen] + 1)
            found.setdefault(name, {})[str(threshold)] = f1(mentions, gold)
            if (choice, accept, threshold) == ("relative", "as is", 0.1):
                exact = share(mentions, gold)
    return {"rules": found, "exact": exact}


def other(
    types: Mapping[str, str], options: Mapping[str, Any], documents: list[Document], words: WordFeatures, gold: Mentions
) -> dict[str, float]:
    tagger = named_tagger(types, model=OURS, **options)
    found = tagger.tag([replace(one, spans=()) for one in documents])
    labels = WordLabels.of(found, words, tuple(types)).mentions
    mentions = as_mentions(labels.first, labels.last, labels.code)
    return {"f1": f1(mentions, gold), "exact": share(mentions, gold)}


def as_mentions(first: Ints, last: Ints, code: Ints) -> Mentions:
    return set(zip(first.tolist(), last.tolist(), code.tolist(), strict=True))


def f1(found: Mentions, gold: Mentions) -> float:
    return 200 * len(found & gold) / max(1, len(found) + len(gold))


def share(found: Mentions, gold: Mentions) -> float:
    return 100 * len({one[:2] for one in found} & {one[:2] for one in gold}) / max(1, len(gold))


def report(found: dict[str, Any]) -> str:
    names = list(next(iter(found["others"].values())))

    def row(what: str, values: list[float]) -> str:
        return f"| {what} | {' | '.join(f'{value:.1f}' for value in values)} | {np.mean(values):.1f} |"

    head = [f"| | {' | '.join(names)} | mean |", "|---" * (len(names) + 2) + "|"]
    lines = ["Development parts, span micro-F1, percent, at a threshold of 0.1.\n", *head]
    lines += [row(way, [one[name] for name in names]) for way, one in found["others"].items()]
    for model, rule in itertools.product(found["rules"], RULES.values()):
        lines.append(row(f"{model}: {rule}", [found["rules"][model][name][rule]["0.1"] for name in names]))
    lines += ["\nMentions of which the bounds are exactly right, percent, whatever their type.\n", *head]
    lines += [row(way, [one[name] for name in names]) for way, one in found["exact"].items()]
    lines += ["\nThe mean over the sets by threshold: span micro-F1, percent.\n"]
    lines += [f"| rule: type, acceptance | {' | '.join(map(str, THRESHOLDS))} |", "|---" * (len(THRESHOLDS) + 1) + "|"]
    for model, rule in itertools.product(found["rules"], RULES.values()):
        means = [np.mean([found["rules"][model][name][rule][str(t)] for name in names]) for t in THRESHOLDS]
        lines.append(f"| {model}: {rule} | {' | '.join(f'{value:.1f}' for value in means)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
