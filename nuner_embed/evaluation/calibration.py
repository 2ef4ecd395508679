"""Calibration: the probability of a type by the cosine of mention and type name, fitted on annotated data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from nuner_embed.arguments import Progress, silent
from nuner_embed.documents import Document, Span
from nuner_embed.encoders.base import Encoder
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.text import unit
from nuner_embed.errors import ModelError
from nuner_embed.models.concept_facts import Calibration

FEWEST = 10
_MENTIONS = 20_000
_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs of a mention and a type whose probability lies in one tenth.

    Attributes:
        low: lower end of the tenth.
        pairs: number of pairs.
        said: mean probability by the calibration.
        seen: share of pairs that hold.
    """

    low: float
    pairs: int
    said: float
    seen: float


@dataclass(frozen=True, slots=True)
class Pairs:
    """Mentions against type names.

    Attributes:
        types: names of at least ten mentions each.
        cosines: (mentions, types).
        holds: whether the mention is annotated with the type, (mentions, types).
    """

    types: tuple[str, ...]
    cosines: NDArray[np.floating[Any]]
    holds: NDArray[np.bool_]

    def fit(self, data: str) -> Calibration:
        """Logistic regression of the cosine: the probability that a pair of a mention and a type holds.

        Raises:
            ModelError: all pairs hold or none does, a cosine is no number, or the best slope is not a finite number
                above 0: the cosines of pairs that hold are all above the others, or not above them on the whole.
        """
        if self.holds.all():
            raise ModelError(
                f"all mentions are of type {self.types[0]!r}; a calibration needs mentions of several types"
            )
        if not self.holds.any():
            raise ModelError("no mention with a token is of any of the types; a calibration needs some")
        if not np.isfinite(self.cosines).all():
            raise ModelError(
                "some cosines of mentions and types are not finite numbers; the model's weights are broken"
            )
        right, wrong = self.cosines[self.holds], self.cosines[~self.holds]
        if right.min() >= wrong.max() and right.max() > wrong.min():
            raise ModelError(
                f"every mention is nearer to its own types (cosine {right.min():.3f} or more) than any is to another "
                f"type ({wrong.max():.3f} or less), so that the best slope is infinite and every probability 0 or "
                "1; calibrate on more and harder data, and not on what the model learnt from"
            )
        slope = 0.0  # where the cosines are separate the wrong way round, it would be infinite
        if wrong.min() < right.max():
            model = LogisticRegression(C=np.inf).fit(self.cosines.reshape(-1, 1), self.holds.ravel())
            slope = float(model.coef_[0, 0])
        if slope <= 0:
            raise ModelError(
                f"mentions are no nearer to their own types (mean cosine {right.mean():.3f}) than to others "
                f"({wrong.mean():.3f}), so that the slope would not be above 0; check whether the labels belong to the "
                "mentions, and whether the model has learnt such types"
            )
        return Calibration(slope, float(model.intercept_[0]), data)

    def bins(self, probabilities: NDArray[np.floating[Any]]) -> list[Bin]:
        """The share of pairs that hold, for each tenth of the probability by the calibration."""
        place = np.minimum((probabilities * 10).astype(int), 9)
        found = []
        for number in range(10):
            here = place == number
            if here.any():
                said, seen = float(probabilities[here].mean()), float(self.holds[here].mean())
                found.append(Bin(number / 10, int(here.sum()), said, seen))
        return found


def compare(
    encoder: Encoder,
    concepts: ConceptEncoder,
    documents: Sequence[Document],
    *,
    progress: Progress = silent,
    seed: int = 0,
) -> Pairs:
    """Compares the mentions of annotated documents with the names of their types.

    Args:
        encoder: the text encoder.
        concepts: the concept encoder that belongs to it.
        documents: with labelled spans; spans with the same ends are one mention of several types. Of more than 20,000
            mentions so many are drawn.
        progress: is told `(what, done, total)`.
        seed: of the draw.

    Raises:
        ModelError: no type has ten mentions, or only one has.
    """
    kept, types, holds = _mentions(documents, seed, concepts.takes)
    table = encoder.tokenize(kept, "mention")
    vectors = np.empty((len(holds), encoder.dim), np.float32)
    seen = np.zeros(len(holds), bool)
    begin = np.cumsum([0, *(len(document.spans) for document in kept)])
    for first in range(0, len(kept), _AT_ONCE):
        last = min(first + _AT_ONCE, len(kept))
        embedded = encoder.encode_rows(table.slice(first, last), "mention")
        rows = begin[first + embedded.rows.document] + embedded.rows.index
        vectors[rows], seen[rows] = embedded.vectors, True
        progress("encoding", last, len(kept))
    # of a rare type, perhaps no mention was drawn, or no mention has a token
    some = np.flatnonzero(holds[seen].any(axis=0))
    types = [types[i] for i in some]
    mentions = unit(vectors[seen]) if concepts.metric == "cosine" else vectors[seen]
    cosines = mentions @ concepts.encode(types).T
    return Pairs(tuple(types), cosines, holds[seen][:, some])


def _mentions(
    documents: Sequence[Document], seed: int, is_name: Callable[[str], bool]
) -> tuple[list[Document], list[str], NDArray[np.bool_]]:
    """Documents with one span for each mention, the types, and which types each mention has, (mentions, types)."""
    found: list[dict[tuple[int, int], set[str]]] = []
    counts: dict[str, int] = {}
    for document in documents:
        labels: dict[tuple[int, int], set[str]] = {}
        for span in document.spans:
            if span.label:
                labels.setdefault((span.start, span.end), set()).add(span.label)
        found.append(labels)
        for names in labels.values():
            for name in names:
                counts[name] = counts.get(name, 0) + 1
    types = sorted(name for name, count in counts.items() if count >= FEWEST and is_name(name))
    if len(types) < 2:
        raise ModelError(
            f"{'one type has' if types else 'no type has'} {FEWEST} mentions in the data; a calibration compares the "
            "mentions of several types"
        )
    places = [(number, ends) for number, labels in enumerate(found) for ends in sorted(labels)]
    if len(places) > _MENTIONS:
        chosen = np.random.default_rng(seed).choice(len(places), _MENTIONS, replace=False)
        places = [places[i] for i in np.sort(chosen)]
    spans: dict[int, list[Span]] = {}
    for number, (start, end) in places:
        spans.setdefault(number, []).append(Span(start, end))
    kept = [Document(documents[number].id, documents[number].text, spans=tuple(some)) for number, some in spans.items()]
    column = {name: i for i, name in enumerate(types)}
    holds = np.zeros((len(places), len(types)), bool)
    for row, (number, ends) in enumerate(places):
        for name in found[number][ends] & column.keys():
            holds[row, column[name]] = True
    return kept, types, holds
