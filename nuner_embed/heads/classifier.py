"""The linear layer on frozen features, as a scikit-learn classifier."""

import warnings
from collections.abc import Sequence
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
from nuner_embed.heads import DEFAULT_C, DEFAULT_CLASS_WEIGHT, NAMED_THRESHOLD
from nuner_embed.heads.solver import Array, solve
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

    Attributes:
        classes_: the labels, sorted, (classes,).
        coef_: of the raw features, (classes, dim): standardising is folded in.
        intercept_: (classes,).
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
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter

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
        standardised, mean, scale = _standardised(features)
        found = solve(
            standardised, number, weight, len(classes), c=float(self.C), tol=float(self.tol), max_iter=self.max_iter
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
        self.gradient_norm_, self.n_iter_ = found.gradient_norm, found.iterations
        return self

    @classmethod
    def from_concepts(
        cls, names: Sequence[str], concepts: ConceptEncoder | str = DEFAULT_MODEL, *, threshold: float = NAMED_THRESHOLD
    ) -> Self:
        """A probe made of the names of types, without a single example, for features of unit length.

        The score of a type is its calibrated log-odds minus the log-odds of the threshold; the score of no type is 0.

        Args:
            names: of the types, in plain words: "film", "film director".
            concepts: a calibrated concept encoder, or the model that has one.
            threshold: least probability of a type.

        Returns:
            A probe whose classes are 0 for none and i for the i-th name.

        Raises:
            ModelError: the model has no concept encoder, or it is not calibrated.
            ValueError: no name, or one that is none, or a threshold that is no probability.
        """
        names = as_names(names)
        if not names or not 0 < threshold < 1:
            raise ValueError(f"at least one name, and a threshold between 0 and 1, not {names}, {threshold!r}")
        encoder = ConceptEncoder.open(concepts) if isinstance(concepts, str) else concepts
        calibration = encoder.calibration
        vectors = encoder.encode(names)
        probe = cls()
        probe.classes_ = np.arange(len(names) + 1)
        probe.coef_ = np.vstack([np.zeros_like(vectors[:1]), calibration.slope * vectors]).astype(np.float32)
        odds = calibration.intercept - float(logit(threshold))
        probe.intercept_ = np.array([0.0, *[odds] * len(names)], dtype=np.float32)
        probe.n_features_in_ = vectors.shape[1]
        return probe

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
