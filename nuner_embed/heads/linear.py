"""What a trained probe is at work: a matrix and a vector. scikit-learn is needed to fit one, not to use it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuner_embed.errors import ProbeError
from nuner_embed.tables import Ints

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class ProbeWeights:
    """Scores words.

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
