"""The linear head: a matrix and a vector that give each word one of the types or none; adjacent words of a type are one
mention. scikit-learn is needed to fit the head (`classifier`), not to use it.

The threshold for a corpus with few mentions: sentences that were chosen because they hold a type hold more of it than
other texts do, and a head that was trained on them expects as much everywhere. What the head finds in a sample of the
corpus says by how much it is wrong. The threshold moves less than the two shares would ask for if the probabilities
were calibrated, which they are not from a few examples: moved all the way, hardly anything is found. Measured with
other ways in benchmarks/prevalence.py, results/prevalence.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import Progress
from nuner_embed.documents import Document, Span, is_text, split_words
from nuner_embed.encoders.base import Encoder
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.errors import ProbeError
from nuner_embed.heads import EVEN_THRESHOLD
from nuner_embed.heads.base import Arrays, HeadFacts, WithFacts, require_encoder, require_probability
from nuner_embed.heads.features import embed_words
from nuner_embed.heads.io import save_head
from nuner_embed.heads.labelled_words import SCHEME, Runs, runs_of
from nuner_embed.metadata import Count, Positive
from nuner_embed.tables import Ints
from nuner_embed.tags import OUTSIDE

Floats = NDArray[np.floating[Any]]
ALLOWED: Final = 0.2  # in dense corpora, types are found at least this often, relative to the sentences drawn for them
POWER: Final = 0.5
HIGHEST: Final = 0.9
_LEAST_WORDS = 1000  # too few words do not show a share of a percent
_CHARACTERS, _OF_A_DOCUMENT = 50_000, 2000  # some 8,000 words, a second or two
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class ProbeWeights:
    """Scores vectors of words or mentions.

    Attributes:
        classes: the class of each row: 0 for none, i for the i-th type, (classes,).
        coef: (classes, dim).
        intercept: (classes,).

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.
    """

    classes: Ints
    coef: Floats
    intercept: Floats

    def __post_init__(self) -> None:
        classes = len(self.classes)
        if self.coef.ndim != 2 or len(self.coef) != classes or self.intercept.shape != (classes,):
            raise ValueError(f"weights of shapes {self.coef.shape}, {self.intercept.shape} for {classes} classes")
        if not (np.isfinite(self.coef).all() and np.isfinite(self.intercept).all()):
            raise ValueError("weights that are not finite numbers")

    def __repr__(self) -> str:
        return f"ProbeWeights({len(self.classes)} classes, dim {self.coef.shape[1]})"

    @classmethod
    def from_saved(cls, arrays: Arrays, types: Sequence[str], prefix: str = "") -> Self:
        """The weights among the arrays of a saved head, checked against its types.

        Raises:
            KeyError, ValueError: an array is missing or does not fit.
        """
        classes, coef, intercept = (arrays[f"{prefix}{name}"] for name in ("classes", "coef", "intercept"))
        if classes.dtype != np.int64 or classes.ndim != 1 or not len(classes):
            raise ValueError(f"classes are {classes.dtype} of shape {classes.shape}")
        if not all(one.dtype in (np.float32, np.float64) for one in (coef, intercept)):
            raise ValueError(f"weights are {coef.dtype} and {intercept.dtype}")
        if np.unique(classes).size != len(classes) or not np.isin(classes, np.arange(len(types) + 1)).all():
            raise ValueError(f"classes {classes.tolist()[:20]} for {len(types)} types")
        return cls(classes, coef, intercept)

    def to_saved(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        """The arrays, by the names under which a head is saved."""
        return {f"{prefix}classes": self.classes, f"{prefix}coef": self.coef, f"{prefix}intercept": self.intercept}

    def scores(self, vectors: Floats) -> Floats:
        """A score for each class, (n, classes), of word vectors (n, dim).

        Raises:
            ProbeError: the vectors have another length than the weights.
        """
        if vectors.shape[1] != self.coef.shape[1]:
            raise ProbeError(
                f"the probe's weights are for vectors of {self.coef.shape[1]} numbers, the encoder's have "
                f"{vectors.shape[1]}; train the probe again"
            )
        scores: Floats = vectors @ self.coef.T + self.intercept
        return scores

    def probabilities(self, vectors: Floats) -> Floats:
        """The probability of each class, (n, classes)."""
        scores = self.scores(vectors)
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        return scores

    def predict(self, vectors: Floats) -> Ints:
        """The most probable class of each word, (n,)."""
        codes: Ints = self.classes[self.scores(vectors).argmax(axis=1)]
        return codes


@dataclass(frozen=True, slots=True)
class Training:
    """What a probe was trained on.

    Attributes:
        sentences: documents in the support set.
        words: words in these documents.
        mentions: mentions of each type in these documents.
        k: the support set was drawn with between k and 2k mentions of each type; None if all the data was taken.
        seed: of the draw; None if nothing was drawn.
        left_out: types of the data that the probe does not know, with the number of their mentions.
        lost: mentions that hold no word, or overlap an earlier mention.
        gradient_norm: largest entry of the gradient of the mean loss in the end.
        iterations: of the solver.
        mention_words: words of the support set that are in mentions.
        background_words: words of texts without annotations, which were learnt as words of no type.
    """

    sentences: Count
    words: Count
    mentions: dict[str, Count]
    k: Positive | None
    seed: int | None
    left_out: dict[str, Count]
    lost: Count
    gradient_norm: float
    iterations: Count
    mention_words: Count = 0  # missing in probes of earlier versions, as is the next field
    background_words: Count = 0

    @classmethod
    def none(cls, types: Sequence[str]) -> Self:
        """The facts of a probe that was made without examples."""
        return cls(
            sentences=0,
            words=0,
            mentions=dict.fromkeys(types, 0),
            k=None,
            seed=None,
            left_out={},
            lost=0,
            gradient_norm=0.0,
            iterations=0,
        )


@dataclass(frozen=True, slots=True)
class ProbeFacts(HeadFacts):
    """What a linear head is, apart from its weights; class 0 is none, class i is `types[i - 1]`.

    Attributes:
        parameters: of the `LinearProbe`, with the names beside the examples if there were any; or the concepts and the
            threshold of a head that was made of names alone.
        training: see `Training`.
    """

    parameters: dict[str, Any]
    training: Training

    def __repr__(self) -> str:
        return f"ProbeFacts({self.model!r}, {len(self.types)} types)"

    @property
    def ignored(self) -> Mapping[str, int]:
        """See `HeadFacts.ignored`."""
        return self.training.left_out

    @property
    def threshold(self) -> float:
        """Least probability of a type; 0.5, where the most probable class wins, unless the head was made of names."""
        return float(self.parameters.get("threshold", EVEN_THRESHOLD))

    def require_sound(self) -> None:
        """See `HeadFacts.require_sound`."""
        HeadFacts.require_sound(self)
        if self.training.mention_words > self.training.words:
            raise ValueError(
                f"training: {self.training.mention_words} words in mentions, and {self.training.words} in all"
            )
        threshold = self.parameters.get("threshold", 0.5)
        if type(threshold) not in (int, float) or not 0 < threshold < 1:
            raise ValueError(f"parameters: the threshold is no number between 0 and 1, but {threshold!r:.40}")
        for key in ("concepts", "names"):
            given = self.parameters.get(key, {})
            names = (
                [[label, *_several(names)] for label, names in given.items()] if isinstance(given, dict) else [[None]]
            )
            if not all(isinstance(name, str) and is_text(name) for one in names for name in one):
                raise ValueError(f"parameters: the {key} are not names by types")


def _several(names: Any) -> Sequence[Any]:
    return names if isinstance(names, list) else [names]


@dataclass(frozen=True, slots=True)
class LinearHead(WithFacts):
    """Finds mentions of the types that a probe was trained for, word by word.

    Attributes:
        weights: score the classes of each word: the types, and none.
        facts: types, encoder and training of the head.
    """

    kind: ClassVar[str] = "linear"
    facts_type: ClassVar[type[HeadFacts]] = ProbeFacts
    scheme: ClassVar[str] = SCHEME

    weights: ProbeWeights
    facts: ProbeFacts

    @classmethod
    def from_saved(cls, facts: ProbeFacts, arrays: Arrays) -> Self:
        """See `Head.from_saved`."""
        if sorted(arrays) != ["classes", "coef", "intercept"]:
            raise ValueError(f"it holds {', '.join(sorted(arrays))[:60]}")
        return cls(ProbeWeights.from_saved(arrays, facts.types), facts)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """See `Head.save`."""
        save_head(path, self, self.weights.to_saved(), force=force)

    @property
    def threshold(self) -> float:
        """See `Head`."""
        return self.facts.threshold

    def label(self, features: WordFeatures, types: Sequence[str] | None = None, threshold: float | None = None) -> Ints:
        """The class of each word, (n,): 0 for none, else 1 + the place of the word's type in `types`.

        Args:
            features: the words, embedded by the head's encoder.
            types: a list in place of the head's own; words of types outside the list become words of none.
            threshold: as in `tag`.
        """
        if threshold is None:
            codes = self.weights.predict(features.vectors)
        else:
            codes = self.weights.classes[self._best(self.weights.probabilities(features.vectors), threshold)]
        if types is None:
            return codes
        place = {name: 1 + i for i, name in enumerate(types)}
        renumbered: Ints = np.array([0, *(place.get(name, 0) for name in self.types)], dtype=np.int64)[codes]
        return renumbered

    def tag(
        self, encoder: Encoder, documents: Sequence[Document], threshold: float | None = None, *, scores: bool = False
    ) -> list[Document]:
        """See `Head.tag`; a mention's score is the mean probability of its words.

        The threshold is the least probability of the best type of a word, relative to no type.
        """
        require_encoder(self, encoder)
        features = embed_words(encoder, documents)
        probabilities = self.weights.probabilities(features.vectors)
        best = self._best(probabilities, threshold)
        runs = runs_of(self.weights.classes[best], features.bounds)
        own = _means(probabilities[np.arange(len(best)), best], runs)
        of_classes = _means(probabilities, runs).tolist() if scores else [[]] * len(own)
        names = [self.types[code - 1] if code else OUTSIDE for code in self.weights.classes.tolist()]
        spans: list[list[Span]] = [[] for _ in documents]
        owners = np.searchsorted(features.bounds, runs.first, side="right") - 1
        for owner, first, last, code, score, row in zip(
            owners.tolist(), runs.first, runs.last, runs.code, own.tolist(), of_classes, strict=True
        ):
            start, end = int(features.start[first]), int(features.end[last - 1])
            of_types = dict(zip(names, row, strict=True)) if scores else None
            spans[owner].append(Span(start, end, self.types[code - 1], score, of_types))
        return [replace(document, spans=tuple(found)) for document, found in zip(documents, spans, strict=True)]

    def threshold_for(self, encoder: Encoder, documents: Sequence[Document], progress: Progress) -> float:
        """See `Head.threshold_for`; mentions are counted in some 8,000 words of the documents, see `rare_threshold`.

        Returns:
            Between 0.5, for documents with enough mentions or fewer than 1,000 words, and 0.9. The head's own threshold
            if the head was trained with a background, or made of names.
        """
        require_encoder(self, encoder)
        training = self.facts.training
        sample: list[Document] = []
        if training.mention_words and not training.background_words:
            sample = prevalence_sample(documents)
        if not sample:
            return self.threshold
        words = found = 0
        for first in range(0, len(sample), _AT_ONCE):
            progress("counting mentions", first, len(sample))
            codes = self.weights.predict(embed_words(encoder, sample[first : first + _AT_ONCE]).vectors)
            words += len(codes)
            found += int(np.count_nonzero(codes))
        progress("counting mentions", len(sample), len(sample))
        return rare_threshold(training.mention_words / training.words, found / max(1, words))

    def _best(self, probabilities: Floats, threshold: float | None) -> Ints:
        """The column of the most probable class of each word at a threshold, (n,)."""
        weighed = probabilities.copy()
        weighed[:, self.weights.classes == 0] *= self._odds_asked_for(threshold)
        best: Ints = weighed.argmax(axis=1)
        return best

    def _odds_asked_for(self, threshold: float | None) -> float:
        """The factor by which a threshold raises the odds that a type needs against no type."""
        if threshold is None:
            return 1.0
        require_probability(threshold)
        return threshold / (1 - threshold) / (self.threshold / (1 - self.threshold))


def _means(values: Floats, runs: Runs) -> Floats:
    """The mean of the values of the words (n,) or (n, classes) of each run: (runs,) or (runs, classes)."""
    sums = np.cumsum(np.concatenate([np.zeros((1, *values.shape[1:])), values]), axis=0)
    lengths = (runs.last - runs.first).reshape(-1, *[1] * (values.ndim - 1))
    means: Floats = (sums[runs.last] - sums[runs.first]) / lengths
    return means


def rare_threshold(learnt: float, found: float, *, allowed: float = ALLOWED, power: float = POWER) -> float:
    """The threshold for a corpus that may hold far fewer mentions than the training texts of a probe.

    Args:
        learnt: share of words in mentions, in the training texts.
        found: share of words in mentions that the probe finds at a threshold of 0.5, in a sample of the corpus.
        allowed: the threshold stays 0.5 as long as `found` is at least this share of `learnt`.
        power: to which the ratio of the two shares is raised.

    Returns:
        0.5 where at least a fifth of what was learnt from is found; else the odds are the square root of how many times
        less than that fifth is found. 0.9 at most.
    """
    odds = (allowed * learnt / found) ** power if found else float("inf")
    return HIGHEST if odds >= HIGHEST / (1 - HIGHEST) else max(EVEN_THRESHOLD, odds / (1 + odds))


def prevalence_sample(documents: Sequence[Document]) -> list[Document]:
    """Some of the documents, evenly spread and cut to 2,000 characters: 50,000 characters or one document.

    The sample is empty where the documents hold fewer than 1,000 words.
    """
    cut = [
        one if len(one.text) <= _OF_A_DOCUMENT else replace(one, text=one.text[:_OF_A_DOCUMENT], words=None, spans=())
        for one in documents
    ]
    sample = cut[:: -(-sum(len(one.text) for one in cut) // _CHARACTERS) or 1]
    words = sum(len(split_words(one.text)) if one.words is None else len(one.words) for one in sample)
    return sample if words >= _LEAST_WORDS else []
