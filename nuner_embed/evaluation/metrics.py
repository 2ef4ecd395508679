"""How well labelled words and mentions agree with the annotation; every figure is a fraction of 1.

Three figures go by the name of F1 in the literature and differ by ten points and more on the same predictions, so each
carries its name in full wherever it is printed:

- token macro-F1: F1 of each type over words, averaged over types, None left out. The paper's "macro-averaged F1-score
  of token classifications" (section 4.1); over the classes that occur in the annotation or the prediction.
- token macro-F1 with None: the same with the class of words that are in no mention.
- span micro-F1: over whole mentions with exact boundaries and type, as conlleval and seqeval count.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import Progress, Texts, as_documents, as_names, silent
from nuner_embed.documents import Document
from nuner_embed.errors import ProbeError
from nuner_embed.heads.base import Head
from nuner_embed.heads.features import FeatureCache, feature_folder
from nuner_embed.heads.labelled_words import (
    NONE,
    SCHEME,
    Runs,
    WordLabels,
    count_mentions,
    require_known,
    runs_of,
    types_among,
)
from nuner_embed.heads.linear import LinearHead
from nuner_embed.heads.tagger import Tagger
from nuner_embed.tables import Ints


@dataclass(frozen=True, slots=True)
class Counts:
    """Hits and misses, from which precision, recall and F1 follow; two counts can be added.

    Attributes:
        right: predicted and annotated.
        predicted: predicted.
        annotated: annotated.
    """

    right: NDArray[np.int64]
    predicted: NDArray[np.int64]
    annotated: NDArray[np.int64]

    def precision(self) -> NDArray[np.float64]:
        """Share of what was predicted that is right; 0 where nothing was predicted."""
        return _share(self.right, self.predicted)

    def recall(self) -> NDArray[np.float64]:
        """Share of what was annotated that was found; 0 where nothing was annotated."""
        return _share(self.right, self.annotated)

    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of both; 0 where there is neither."""
        return _share(2 * self.right, self.predicted + self.annotated)

    def total(self) -> "Counts":
        """The counts of all classes together."""
        return Counts(*(np.atleast_1d(part.sum()) for part in (self.right, self.predicted, self.annotated)))


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


@dataclass(frozen=True, slots=True)
class Scores:
    """How a prediction compares with the annotation of some documents; two of them can be added.

    Attributes:
        types: names of the types.
        confusion: words by annotated (row) and predicted (column) class, None first, (types + 1, types + 1).
        spans: mentions of each type, None first and empty, (types + 1,) each.
        documents: how many.
        lost: annotated mentions that do not count, since words cannot show them: they overlap an earlier one, or
            hold no word.
        scheme: how the head's labels become mentions.
    """

    types: tuple[str, ...]
    confusion: NDArray[np.int64]
    spans: Counts
    documents: int
    lost: int = 0
    scheme: str = SCHEME

    @classmethod
    def of(cls, types: Sequence[str], annotated: WordLabels, predicted: Ints, found: Runs, documents: int) -> Self:
        """Compares predicted codes, (n,), and mentions with what is annotated."""
        size = len(types) + 1
        confusion = np.bincount(annotated.codes * size + predicted, minlength=size * size).reshape(size, size)
        words, mentions = len(predicted) + 1, annotated.mentions
        wanted, given = ((runs.first * words + runs.last) * size + runs.code for runs in (mentions, found))
        right = np.intersect1d(wanted, given)
        spans = Counts(*(np.bincount(codes, minlength=size) for codes in (right % size, found.code, mentions.code)))
        return cls(tuple(types), confusion, spans, documents, annotated.lost)

    def __add__(self, other: "Scores") -> "Scores":
        if self.types != other.types:
            raise ValueError(f"scores over {self.types} and {other.types} cannot be added")
        spans = Counts(
            self.spans.right + other.spans.right,
            self.spans.predicted + other.spans.predicted,
            self.spans.annotated + other.spans.annotated,
        )
        documents, lost = self.documents + other.documents, self.lost + other.lost
        return Scores(self.types, self.confusion + other.confusion, spans, documents, lost, self.scheme)

    @property
    def tokens(self) -> Counts:
        """Words of each class, None first."""
        return Counts(np.diagonal(self.confusion), self.confusion.sum(axis=0), self.confusion.sum(axis=1))

    def _macro_f1(self, first: int) -> float:
        tokens = self.tokens
        occurs = (tokens.predicted + tokens.annotated)[first:] > 0
        return float(tokens.f1()[first:][occurs].mean()) if occurs.any() else 0.0

    @property
    def token_macro_f1(self) -> float:
        """Mean F1 of words over the types, None left out."""
        return self._macro_f1(1)

    @property
    def token_macro_f1_with_none(self) -> float:
        """Mean F1 of words over the types and None."""
        return self._macro_f1(0)

    @property
    def span_micro_f1(self) -> float:
        """F1 over all mentions; boundaries and type must be exact."""
        return float(self.spans.total().f1()[0])

    def to_dict(self, *, confusion: bool = False) -> dict[str, Any]:
        """Plain JSON values; with the confusion matrix, which grows with the square of the types, if asked for."""
        total = self.spans.total()
        columns: dict[str, list[Any]] = {}
        for what, counts in (("token", self.tokens), ("span", self.spans)):
            columns |= {
                f"{what}_precision": counts.precision().tolist(),
                f"{what}_recall": counts.recall().tolist(),
                f"{what}_f1": counts.f1().tolist(),
                f"{what}s": counts.annotated.tolist(),
            }
        per_type = {
            name: {column: values[i] for column, values in columns.items()}
            for i, name in enumerate(self.types, start=1)
        }
        matrix = {"classes": [NONE, *self.types], "counts": self.confusion.tolist()} if confusion else None
        return {
            "token_macro_f1": self.token_macro_f1,
            "token_macro_f1_with_none": self.token_macro_f1_with_none,
            "span_micro_f1": self.span_micro_f1,
            "span_micro_precision": float(total.precision()[0]),
            "span_micro_recall": float(total.recall()[0]),
            "scheme": self.scheme,
            "per_type": per_type,
            **({"confusion": matrix} if matrix else {}),
            "sentences": self.documents,
            "tokens": int(self.confusion.sum()),
            "lost_mentions": self.lost,
        }


_DOCUMENTS_AT_ONCE = 4096


def comparable_types(
    head: Head, documents: Sequence[Document], types: str | Collection[str] | None = None, what: str = "the data"
) -> list[str]:
    """The types on which a head can be compared with annotated documents: those asked for, or all that it knows.

    Raises:
        ProbeError: no annotated mention, or types that the probe does not know.
    """
    types = None if types is None else as_names(types)
    found = types_among(count_mentions(documents))
    if not found:
        raise ProbeError(f"{what} holds no annotated mention; there is nothing to compare with")
    if types is None:
        require_known(set(found) - set(head.facts.ignored), head.types, what)
    else:
        require_known(types, head.types, "--types")
    wanted = set(head.types if types is None else types)
    return [name for name in head.types if name in wanted]


def score_tagger(
    tagger: Tagger[Head],
    documents: Texts,
    *,
    types: str | Collection[str] | None = None,
    threshold: float | None = None,
    cache: Path | None = None,
    what: str = "the data",
    progress: Progress = silent,
) -> Scores:
    """Compares what a head finds with what is annotated.

    Args:
        tagger: the head and its encoder.
        documents: annotated.
        types: to look at; words of other types count as words of none, in the annotation and the prediction. None for
            all that the head knows.
        threshold: as in `Tagger.tag`.
        cache: folder of the word embeddings; None for the user's cache folder.
        what: the data's name in messages.
        progress: is told `(what, done, total)` while texts are encoded.

    Raises:
        ProbeError: no annotated mention, or types that the probe does not know.
        OutOfMemory: one window alone does not fit.
        ValueError: a threshold that is no probability.
    """
    documents = as_documents(documents)
    wanted = comparable_types(tagger.head, documents, types, what)
    features = FeatureCache(cache or feature_folder(), tagger.encoder)
    total = None
    for first in range(0, len(documents), _DOCUMENTS_AT_ONCE):
        some = documents[first : first + _DOCUMENTS_AT_ONCE]
        words = features.features(some, progress)
        labels = WordLabels.of(some, words, wanted)
        if isinstance(tagger.head, LinearHead):
            codes = tagger.head.label(words, wanted, threshold)
            runs = runs_of(codes, words.bounds)
        else:
            found = WordLabels.of(tagger.tag(some, threshold), words, wanted)
            codes, runs = found.codes, found.mentions
        scores = Scores.of(wanted, labels, codes, runs, len(some))
        total = scores if total is None else total + scores
    assert total is not None
    return replace(total, scheme=tagger.head.scheme)
