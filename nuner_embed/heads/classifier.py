"""The linear layer on frozen features, as a scikit-learn classifier."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from nuner_embed.arguments import as_names
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.heads import DEFAULT_C, DEFAULT_CLASS_WEIGHT, DEFAULT_OFFSET_STRENGTH, NAMED_THRESHOLD
from nuner_embed.heads.names import vectors_of
from nuner_embed.heads.solver import Array, Offset, solve
from nuner_embed.models.known import DEFAULT_MODEL

_COMPUTED_IN = (np.float64, np.float32)
# Hidden states have dead dimensions, whose weight in the last normalisation training drove to zero. What is left
# (1e-8 and 1e-32 in all-MiniLM-L6-v2, against 0.3 in the others) differs between runtimes.
_DEAD = 1e-6


class LinearProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Multinomial logistic regression on standardised features: the linear layer of section 4.1 of the paper.

    Minimises `sum_i weight_i * cross_entropy_i + |coef|^2 / (2 C)`, where the coefficients are those of the
    standardised features and the intercepts are free. The loss is convex and the search starts at zero: the same data
    gives the same probe, no seed is needed.

    Args:
        C: inverse strength of the penalty, as in scikit-learn's `LogisticRegression`.
        class_weight: None, "balanced", or a weight for each class, as in scikit-learn; or "sqrt", the square roots of
            the balanced weights.
        tol: the largest absolute entry that the gradient of the mean loss may have in the end, as in scikit-learn.
        max_iter: most steps of L-BFGS.
        offset: scores known before the fit, such as those of the names of types: for some of the labels a vector
            (dim,), or one number for all features, and a number; the label's score is the product of the vector with
            the raw features, plus the number. The fit finds one weight for all offsets, with the penalty
            `offset_strength * (weight - 1)^2 / 2`, and the layer that is added to them. Labels without an offset have
            the score 0; offsets of labels that `fit` is not shown are ignored.
        offset_strength: see `offset`.

    Attributes:
        classes_: the labels, sorted, (classes,).
        coef_: of the raw features, (classes, dim): standardising and offsets are folded in.
        intercept_: (classes,).
        offset_weight_: the weight of the offsets; 1 if there are none.
        gradient_norm_: the final value of what `tol` bounds.
        n_iter_: steps taken.
        n_features_in_: dim.
    """

    def __init__(
        self,
        *,
        C: float = DEFAULT_C,
        class_weight: dict[Any, float] | str | None = DEFAULT_CLASS_WEIGHT,
        tol: float = 1e-4,
        max_iter: int = 1000,
        offset: Mapping[Any, tuple[ArrayLike, float]] | None = None,
        offset_strength: float = DEFAULT_OFFSET_STRENGTH,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.offset = offset
        self.offset_strength = offset_strength

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fits the probe to features (n, dim) and their labels (n,).

        Raises:
            ValueError: fewer than two classes, or features that are not finite numbers.
        """
        if not (0 < self.C < np.inf and 0 < self.tol < np.inf):
            raise ValueError(f"C and tol must be numbers above 0, not {self.C!r} and {self.tol!r}")
        features, labels = validate_data(self, X, y, dtype=_COMPUTED_IN)
        check_classification_targets(labels)
        encoder = LabelEncoder().fit(labels)
        classes = encoder.classes_
        if len(classes) < 2:
            raise ValueError(
                f"a probe tells classes apart and needs two at least; all labels are one class: {classes[0]}"
            )
        number = encoder.transform(labels)
        weight = self._class_weights(classes, labels)[number].astype(features.dtype)
        if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.any()):
            raise ValueError(f"class weights must not be below 0, nor all 0: {self.class_weight!r}")
        known = self._known(classes, features)
        offset = None if known is None else Offset((features @ known[0].T + known[1]).T, float(self.offset_strength))
        standardised, mean, scale = _standardised(features)
        found = solve(
            standardised,
            number,
            weight,
            len(classes),
            c=float(self.C),
            tol=float(self.tol),
            max_iter=self.max_iter,
            offset=offset,
        )
        if found.gradient_norm > self.tol:
            warnings.warn(
                f"stopped at a gradient norm of {found.gradient_norm:.1e} after {found.iterations} steps, above the "
                f"tol of {self.tol:.1e}; raise tol or max_iter, or give the features in float64",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.classes_: NDArray[Any] = classes
        self.coef_: Array = found.coef / scale
        self.intercept_: Array = found.intercept - self.coef_ @ mean
        self.offset_weight_ = found.offset_weight
        if known is not None:
            self.coef_ += features.dtype.type(found.offset_weight) * known[0]
            self.intercept_ += features.dtype.type(found.offset_weight) * known[1]
        self.gradient_norm_, self.n_iter_ = found.gradient_norm, found.iterations
        return self

    @classmethod
    def from_concepts(
        cls,
        names: Sequence[str | Sequence[str]],
        concepts: ConceptEncoder | str = DEFAULT_MODEL,
        *,
        threshold: float = NAMED_THRESHOLD,
    ) -> Self:
        """A probe made of the names of types, without a single example, for features of unit length.

        The score of a type is its calibrated log-odds minus the log-odds of the threshold; the score of no type is 0.

        Args:
            names: of the types, in plain words: "film", "film director"; or several for a type, whose vectors are
                averaged: ("film", "movie").
            concepts: a calibrated concept encoder, or the model that has one.
            threshold: least probability of a type.

        Returns:
            A probe whose classes are 0 for none and i for the i-th name.

        Raises:
            ModelError: the model has no concept encoder, or it is not calibrated.
            ValueError: no name, or one that is none, or a threshold that is no probability.
        """
        several = [as_names(names)] if isinstance(names, str) else [as_names(one) for one in names]
        if not several or not all(several) or not 0 < threshold < 1:
            raise ValueError(f"at least one name, and a threshold between 0 and 1, not {several}, {threshold!r}")
        encoder = ConceptEncoder.open(concepts) if isinstance(concepts, str) else concepts
        calibration = encoder.calibration
        vectors = vectors_of(several, encoder)
        probe = cls()
        probe.classes_ = np.arange(len(several) + 1)
        probe.coef_ = np.vstack([np.zeros_like(vectors[:1]), calibration.slope * vectors]).astype(np.float32)
        odds = calibration.intercept - float(logit(threshold))
        probe.intercept_ = np.array([0.0, *[odds] * len(several)], dtype=np.float32)
        probe.n_features_in_ = vectors.shape[1]
        return probe

    def _known(self, classes: NDArray[Any], features: Array) -> tuple[Array, Array] | None:
        """The vectors (classes, dim) and numbers (classes,) of the offsets; None where no class has one."""
        known = self.offset or {}
        labels = classes.tolist()
        places = [place for place, label in enumerate(labels) if label in known]
        if not places:
            return None
        if not 0 < self.offset_strength < np.inf:
            raise ValueError(f"offset_strength must be a number above 0, not {self.offset_strength!r}")
        vectors = np.zeros((len(classes), features.shape[1]), features.dtype)
        numbers = np.zeros(len(classes), features.dtype)
        for place in places:
            vector, number = known[labels[place]]
            if np.shape(vector) not in ((), vectors[place].shape):
                raise ValueError(f"an offset of shape {np.shape(vector)} for features of {features.shape[1]} numbers")
            vectors[place], numbers[place] = vector, number
        if not (np.isfinite(vectors).all() and np.isfinite(numbers).all()):
            raise ValueError("offsets that are not finite numbers")
        return vectors, numbers

    def _class_weights(self, classes: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
        root = self.class_weight == "sqrt"
        weights: NDArray[np.float64] = compute_class_weight(
            "balanced" if root else self.class_weight, classes=classes, y=labels
        )
        return np.sqrt(weights) if root else weights

    def decision_function(self, X: ArrayLike) -> Array:
        """The score of each class, (n, classes); with two classes the score of the second one, (n,)."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: ArrayLike) -> Array:
        """The probability of each class, (n, classes)."""
        probabilities: Array = softmax(self._scores(X), axis=1)
        return probabilities

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of each row, (n,)."""
        best = self._scores(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _scores(self, X: ArrayLike) -> Array:
        check_is_fitted(self)
        features = validate_data(self, X, dtype=_COMPUTED_IN, reset=False)
        scores: Array = features @ self.coef_.T + self.intercept_
        return scores


def _standardised(features: Array) -> tuple[Array, Array, Array]:
    """Features of mean 0 and deviation 1, (dim, n), with the mean and the scale that were taken out, (dim,) each.

    The scale of a constant or dead feature is 1: one whose deviation is below a millionth of its mean or of the largest
    deviation, which is what rounding leaves in float32. scikit-learn's StandardScaler has rounding in float64 in mind
    and would blow it up to a full feature.
    """
    columns = np.array(features.T, order="C")  # sums along memory are fast, and exact enough in float32
    mean = columns.mean(axis=1)
    columns -= mean[:, None]
    peak = np.abs(columns).max() or columns.dtype.type(1)  # so that no square leaves the range of float32
    columns /= peak
    scale = peak * np.sqrt(np.einsum("ij,ij->i", columns, columns) / columns.shape[1])
    if not np.isfinite(scale).all():
        raise ValueError("features too large for float32; scale them down, or give them in float64")
    scale[scale <= _DEAD * np.maximum(np.abs(mean), scale.max())] = 1.0
    columns *= (peak / scale)[:, None]
    return columns, mean, scale
