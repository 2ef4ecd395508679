"""Span finders: a probe as a mention detector, and the spans that documents already have.

A detected mention neither begins nor ends with an English function word or punctuation, nor consists of them alone.
Both lists are this project's own. Which words are trimmed was decided on development parts (benchmarks/detector.py,
results/detector.md). Articles, quantifiers and prepositions of place, time and amount are not trimmed: as many right
mentions begin with them as wrong ones ("the wizard of oz", "under five dollars", "carry out"). A list knows words in
lower case alone: "The Who", "World War I", "US" and "Will Smith" stay whole.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np

from nuner_embed.documents import Document
from nuner_embed.encoders.mentions import Found, WordFeatures
from nuner_embed.errors import ProbeError
from nuner_embed.files import expand
from nuner_embed.heads.base import Arrays
from nuner_embed.heads.io import PROBE_FILE, open_head
from nuner_embed.heads.labelled_words import UNLABELLED, Runs, runs_of
from nuner_embed.heads.linear import Floats, LinearHead, ProbeWeights
from nuner_embed.models.directories import DETECTOR_FOLDER
from nuner_embed.models.resolver import locate

DEFAULT_THRESHOLD: Final = 0.5  # for recall; 0.8 for browsing: benchmarks/detector.py, results/detector.md
# Part of the facts of a detector, so that a store is never continued with other rules of trimming.
TRIMMING: Final = "English function words and punctuation, 1"

_LINKING_WORDS = """
    of and or nor but that which who whom whose to for by with from as than so if because while is are was were be
    been being has have had
"""
_OTHER_WORDS = """
    a an the this these those one ones all any both each either every few many more most much neither no none not
    other others several some such another enough i me my mine myself you your yours yourself he him his himself she
    her hers herself it its itself we us our ours ourselves they them their theirs themselves someone anyone
    everyone something anything nothing everything about above across after against along among around at before
    behind below beneath beside besides between beyond despite during except in inside into like near off on onto
    out outside over past per since through throughout till toward towards under until up upon via within without
    yet although though whereas unless whether what when where how why here there then now very too also just only
    even still ever never again almost quite rather am do does did doing done having will would shall should can
    could may might must ought 's 're 've 'll 'd 'm n't ’s ’re ’ve ’ll ’d ’m n’t thank thanks please hello hi yes ok
    okay oh
"""
_LINKING: Final = frozenset(_LINKING_WORDS.split())
_FUNCTION_WORDS: Final = _LINKING | frozenset(_OTHER_WORDS.split())
_PUNCTUATION: Final = frozenset("\"'`´“”‘’«»‹›„‚,;:-–—−/\\|_&()[]{}<>")
_CLOSING: Final = {")": "(", "]": "[", "}": "{", ">": "<"}
_OPENING: Final = {opening: closing for closing, opening in _CLOSING.items()}
_APOSTROPHES: Final = "'’"
_POSSESSIVE: Final = frozenset(mark + "s" for mark in _APOSTROPHES)
_NO_LAST_WORDS: Final = _LINKING | _PUNCTUATION | _POSSESSIVE | {"s"}  # though some stay, in a context


@dataclass(frozen=True, slots=True)
class ProbeDetector:
    """Finds mentions: words that are probably not of the class none; adjacent ones of a type are one mention.

    A probe that tells no types apart looks for whatever can be named: its mentions neither begin nor end with
    punctuation or an English word such as "of", and one that is nothing else is none (`trim`). A type of the
    user's own may well consist of such words, so what a probe with types finds is left as it is.

    Attributes:
        weights: of the probe.
        types: of the probe.
        semantic_hash: of the encoder that it reads.
        threshold: least probability that a word is part of a mention of any type.

    Raises:
        ValueError: a threshold that is no probability.
    """

    kind: ClassVar[str] = "probe"

    weights: ProbeWeights
    types: tuple[str, ...] = field(repr=False)
    semantic_hash: str
    threshold: float = DEFAULT_THRESHOLD

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, not {self.threshold!r}")

    @property
    def trims(self) -> bool:
        """Whether function words and punctuation are taken off the ends of mentions."""
        return self.types == (UNLABELLED,)

    @property
    def facts(self) -> dict[str, Any]:
        """The hash of the probe, the threshold, and what is trimmed."""
        content = hashlib.sha256(repr(self.types).encode())
        for array in (self.weights.classes, self.weights.coef, self.weights.intercept):
            content.update(np.ascontiguousarray(array).tobytes())
        return {
            "probe_sha256": content.hexdigest(),
            "threshold": self.threshold,
            "trimmed": TRIMMING if self.trims else None,
        }

    def runs(self, documents: Sequence[Document], words: WordFeatures) -> tuple[Runs, Floats]:
        """The mentions as runs of words, and the mean probability that the words of each are in a mention, (m,)."""
        probabilities = self.weights.probabilities(words.vectors)
        typed = self.weights.classes > 0
        inside = probabilities[:, typed].sum(axis=1)
        best = self.weights.classes[typed][probabilities[:, typed].argmax(axis=1)]
        runs = runs_of(np.where(inside >= self.threshold, best, 0), words.bounds)
        if self.trims:
            runs = _trimmed(runs, documents, words)
        sums = np.concatenate([[0.0], np.cumsum(inside, dtype=np.float64)])
        return runs, (sums[runs.last] - sums[runs.first]) / (runs.last - runs.first)

    def find(self, documents: Sequence[Document], words: WordFeatures) -> Found:
        """See `SpanFinder.find`."""
        runs, scores = self.runs(documents, words)
        names = [None if name == UNLABELLED else name for name in self.types]
        owners = np.searchsorted(words.bounds, runs.first, side="right") - 1
        labels = [names[code - 1] for code in runs.code]
        return Found(owners, words.start[runs.first], words.end[runs.last - 1], labels, scores)

    def to_saved(self) -> tuple[dict[str, Any], Arrays]:
        """The detector as JSON values and arrays."""
        return {"types": list(self.types), "threshold": self.threshold}, self.weights.to_saved()

    @classmethod
    def from_saved(cls, values: dict[str, Any], arrays: Arrays, semantic_hash: str) -> Self:
        """What `to_saved` gave.

        Raises:
            KeyError, TypeError, ValueError: something is missing or does not fit.
        """
        types = tuple(values["types"])
        return cls(ProbeWeights.from_saved(arrays, types), types, semantic_hash, values["threshold"])


@dataclass(frozen=True, slots=True)
class GivenSpans:
    """Takes the spans of the documents as the mentions, including nested and touching spans.

    Attributes:
        semantic_hash: of any encoder; its embeddings are not used.
    """

    kind: ClassVar[str] = "given"

    semantic_hash: str

    @property
    def facts(self) -> dict[str, Any]:
        """See `SpanFinder.facts`."""
        return {"given": True}

    def find(self, documents: Sequence[Document], words: WordFeatures) -> Found:
        """See `SpanFinder.find`."""
        spans = [span for one in documents for span in one.spans]
        document = np.repeat(np.arange(len(documents)), [len(one.spans) for one in documents])
        start, end = np.array([(span.start, span.end) for span in spans], dtype=np.int64).reshape(-1, 2).T
        scores = np.array([1.0 if span.score is None else span.score for span in spans])
        return Found(document, start, end, [span.label for span in spans], scores)

    def to_saved(self) -> tuple[dict[str, Any], Arrays]:
        """Nothing besides the kind."""
        return {}, {}

    @classmethod
    def from_saved(cls, values: dict[str, Any], arrays: Arrays, semantic_hash: str) -> Self:
        """What `to_saved` gave."""
        return cls(semantic_hash)


def _trimmed(runs: Runs, documents: Sequence[Document], features: WordFeatures) -> Runs:
    """Trims the ends of mentions, and drops mentions of function words and punctuation alone."""
    owners = (np.searchsorted(features.bounds, runs.first, side="right") - 1).tolist()
    begins_text = np.isin(runs.first, features.bounds).tolist()
    starts, ends = features.start.tolist(), features.end.tolist()
    first, last = runs.first.copy(), runs.last.copy()
    for number, (owner, a, b) in enumerate(zip(owners, first.tolist(), last.tolist(), strict=True)):
        text = documents[owner].text
        if _stays_whole(text[starts[a] : ends[a]], text[starts[b - 1] : ends[b - 1]]):
            continue
        words = [text[start:end] for start, end in zip(starts[a:b], ends[a:b], strict=True)]
        left = trim(words, begins_text=begins_text[number])
        first[number], last[number] = a + left[0], a + left[1]
    kept = last > first
    return Runs(first[kept], last[kept], runs.code[kept])


def load_detector(name: str | Path, threshold: float = DEFAULT_THRESHOLD) -> ProbeDetector:
    """The mention detector that belongs to a model, or any probe as one.

    Args:
        name: a model, or the directory of a probe.
        threshold: see `ProbeDetector`.

    Raises:
        ProbeError: the model has no detector, or the probe cannot be read.
        ModelError: there is no such model.
    """
    directory = expand(name)
    if not (directory / PROBE_FILE).is_file():
        directory = locate(str(name)).directory / DETECTOR_FOLDER
        if not (directory / PROBE_FILE).is_file():
            raise ProbeError(
                f"{name} has no mention detector (nuner-mini has one); name a probe as one (nuner-embed probe train "
                "makes them, from spans with any labels or none), or give a corpus with spans"
            )
    head = open_head(directory)
    if not isinstance(head, LinearHead):
        raise ProbeError(f"{directory} holds a head of the kind {head.kind!r}; a mention detector is a linear one")
    return ProbeDetector(head.weights, head.types, head.semantic_hash, threshold)


def trim(words: Sequence[str], *, begins_text: bool) -> tuple[int, int]:
    """The words of a mention that remain when function words and punctuation are removed from both ends.

    Args:
        words: of the mention, in order.
        begins_text: the mention begins its text, where a function word has a capital letter.

    Returns:
        The first word and one past the last; equal if nothing remains.
    """
    first, last = 0, len(words)
    while first < last and _begins_nothing(words[first:last]):
        first += 1
    while first < last and _ends_nothing(words[first:last]):
        last -= 1
    initial = 1 if begins_text and first == 0 else 0
    if all(_says_nothing(word.lower() if i < initial else word) for i, word in enumerate(words[first:last])):
        return first, first
    return first, last


def _stays_whole(first: str, last: str) -> bool:
    """Whether `trim` surely leaves a mention as it is that begins and ends with these words; true of most, and fast."""
    return first[0].isalpha() and first.lower() not in _FUNCTION_WORDS and last not in _NO_LAST_WORDS


def _begins_nothing(words: Sequence[str]) -> bool:
    word = words[0]
    if word in _OPENING and _OPENING[word] in words:  # "(S)-warfarin"
        return False
    return word in _LINKING or word in _PUNCTUATION


def _ends_nothing(words: Sequence[str]) -> bool:
    word = words[-1]
    if word in _CLOSING and _CLOSING[word] in words:
        return False
    if word == "s" and len(words) > 2 and words[-2] in _APOSTROPHES:  # "Oslo's", as plain text is split
        return True
    return word in _LINKING or word in _PUNCTUATION or (word in _POSSESSIVE and len(words) > 1)


def _says_nothing(word: str) -> bool:
    return word in _FUNCTION_WORDS or all(unicodedata.category(character)[0] == "P" for character in word)
