"""A probe as a mention detector for jobs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from nuner_embed.encoders.mentions import Found
from nuner_embed.errors import ProbeError
from nuner_embed.files import expand
from nuner_embed.heads.function_words import TRIMMING, trim
from nuner_embed.heads.io import PROBE_FILE, read_probe
from nuner_embed.heads.labelled_words import UNLABELLED, Runs, runs_of
from nuner_embed.heads.linear import Floats, ProbeWeights
from nuner_embed.models.companions import DETECTOR_FOLDER
from nuner_embed.models.resolver import locate
from nuner_embed.tables import Ints

DEFAULT_THRESHOLD: Final = 0.5  # for recall; 0.8 for browsing: benchmarks/detector.py, results/detector.md


@dataclass(frozen=True, slots=True)
class ProbeDetector:
    """Finds mentions: words that are probably not of the class none; adjacent ones of a type are one mention.

    A probe that tells no types apart looks for whatever can be named: its mentions neither begin nor end with
    punctuation or an English word such as "of", and one that is nothing else is none (`function_words`). A type of the
    user's own may well consist of such words, so what a probe with types finds is left as it is.

    Attributes:
        weights: of the probe.
        types: of the probe.
        semantic_hash: of the encoder that it reads.
        threshold: how probable it must be that a word is part of a mention, of whichever type.

    Raises:
        ValueError: a threshold that is no probability.
    """

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

    def find(self, words: Sequence[str], vectors: Floats, bounds: Ints) -> Found:
        """See `Detector.find`."""
        probabilities = self.weights.probabilities(vectors)
        typed = self.weights.classes > 0
        inside = probabilities[:, typed].sum(axis=1)
        best = self.weights.classes[typed][probabilities[:, typed].argmax(axis=1)]
        runs = runs_of(np.where(inside >= self.threshold, best, 0), bounds)
        if self.trims:
            runs = _trimmed(runs, words, bounds)
        sums = np.concatenate([[0.0], np.cumsum(inside, dtype=np.float64)])
        scores = (sums[runs.last] - sums[runs.first]) / (runs.last - runs.first)
        names = [None if name == UNLABELLED else name for name in self.types]
        return Found(runs.first, runs.last, [names[code - 1] for code in runs.code], scores)


def _trimmed(runs: Runs, words: Sequence[str], bounds: Ints) -> Runs:
    """Mentions without function words and punctuation at their ends, and without those that are nothing else."""
    begins_text = np.isin(runs.first, bounds).tolist()
    first, last = runs.first.copy(), runs.last.copy()
    for number, (a, b) in enumerate(zip(runs.first.tolist(), runs.last.tolist(), strict=True)):
        left = trim(words[a:b], begins_text=begins_text[number])
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
    weights, facts = read_probe(directory)
    return ProbeDetector(weights, facts.types, facts.semantic_hash, threshold)
