"""The span head: a span scorer, with the types that are named.

Which type a span has is decided by how much more probable the type is for the span than for mentions of all kinds: a
type that fits half of what can be named, such as "concept", must score more than one that fits hardly anything. The
mentions for that are kept with the head. Whether the span is a mention of that type is decided by the probability
itself, which must reach the threshold. Both rules were chosen in benchmarks/spans.py, results/spans.md.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np

from nuner_embed.documents import Document, Span, is_text
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import ProbeError
from nuner_embed.heads import NAMED_THRESHOLD
from nuner_embed.heads.base import Arrays, HeadFacts, WithFacts, require_encoder, require_probability
from nuner_embed.heads.features import embed_words
from nuner_embed.heads.io import open_head, save_head
from nuner_embed.heads.labelled_words import require_not_reserved
from nuner_embed.heads.names import vectors_of
from nuner_embed.heads.span_scorer import Floats, Metric, SpanScorer
from nuner_embed.heads.span_selection import disjoint, nested
from nuner_embed.models.directories import SPAN_FOLDER
from nuner_embed.models.resolver import locate
from nuner_embed.tables import Ints

_ARRAYS: Final = ("words", "widths", "output", "bias", "usual", "vectors")


@dataclass(frozen=True, slots=True)
class SpanFacts(HeadFacts):
    """What a span head is, apart from its arrays.

    Attributes:
        agreement, intercept, metric: see `SpanScorer`.
        names: of each type, in the order of the types.
        threshold: least probability of a mention of a type.
        nested: whether mentions may lie within others.
    """

    agreement: float
    intercept: float
    metric: Metric
    names: tuple[tuple[str, ...], ...] = ()
    threshold: float = NAMED_THRESHOLD
    nested: bool = False

    def require_sound(self) -> None:
        """See `HeadFacts.require_sound`."""
        HeadFacts.require_sound(self)
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold: a number between 0 and 1, not {self.threshold!r:.40}")
        if not all(is_text(name) for several in self.names for name in several):
            raise ValueError("names: one is no text")
        if len(self.names) != len(self.types):
            raise ValueError(f"names: those of {len(self.names)} types, and there are {len(self.types)}")


@dataclass(frozen=True, slots=True)
class SpanHead(WithFacts):
    """Finds mentions of named types; without types, mentions of any kind.

    Attributes:
        scorer: scores spans.
        usual: vectors of mentions of all kinds, with which the types are compared, (u, dim).
        vectors: of the types' names, (types, dim).
        facts: what the head is.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.
    """

    kind: ClassVar[str] = "spans"
    facts_type: ClassVar[type[HeadFacts]] = SpanFacts
    scheme: ClassVar[str] = "all spans are scored; the best that do not overlap are mentions"

    scorer: SpanScorer
    usual: Floats
    vectors: Floats
    facts: SpanFacts

    def __post_init__(self) -> None:
        dim = self.scorer.words.shape[0]
        if self.vectors.shape != (len(self.types), dim) or self.usual.shape[1:] != (dim,) or not len(self.usual):
            raise ValueError(f"vectors of shapes {self.vectors.shape} and {self.usual.shape} for {dim} dimensions")
        if not (np.isfinite(self.vectors).all() and np.isfinite(self.usual).all()):
            raise ValueError("vectors that are not finite numbers")

    def named(
        self,
        types: Mapping[str, str | Sequence[str]],
        concepts: ConceptEncoder,
        *,
        threshold: float = NAMED_THRESHOLD,
        nested: bool = False,
    ) -> Self:
        """The same head for types given by name.

        Args:
            types: the labels of the types, and what each is called: a name, or several, whose vectors are averaged.
            concepts: the concept encoder of the head's model.
            threshold: least probability of a mention of a type.
            nested: whether mentions may lie within others.

        Raises:
            ProbeError: the concept encoder is of another model, or a type is called "O".
            ValueError: a name that is none, or a threshold that is no probability.
        """
        require_probability(threshold)
        require_not_reserved(types)
        if concepts.semantic_hash_of_texts(self.facts.recipe) != self.semantic_hash:
            raise ProbeError(
                f"the span head was made for another model, or for another recipe, than {concepts.model} has: for "
                f"{self.facts.model} ({self.semantic_hash[:12]}); nuner-embed pretrain --objective spans makes one"
            )
        names = tuple((one,) if isinstance(one, str) else tuple(one) for one in types.values())
        facts = replace(self.facts, model=concepts.model, types=tuple(types), names=names)
        facts = replace(facts, threshold=threshold, nested=nested)
        vectors = vectors_of(names, concepts).astype(np.float16).astype(np.float32)  # as they are saved
        return replace(self, vectors=vectors, facts=facts)

    @classmethod
    def from_saved(cls, facts: SpanFacts, arrays: Arrays) -> Self:
        """See `Head.from_saved`."""
        if sorted(arrays) != sorted(_ARRAYS):
            raise ValueError(f"it holds {', '.join(sorted(arrays))[:60]}")
        words, widths, output, bias, usual, vectors = (np.asarray(arrays[name], np.float32) for name in _ARRAYS)
        if not all(array.ndim == 2 for array in (words, widths, output, usual, vectors)):
            raise ValueError("arrays that are no matrices")
        scorer = SpanScorer(words, widths, output, bias, facts.agreement, facts.intercept, facts.metric)
        return cls(scorer, usual, vectors, facts)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """See `Head.save`; numbers are written in 16 bits."""
        scorer = self.scorer
        parts = (scorer.words, scorer.widths, scorer.output, scorer.bias, self.usual, self.vectors)
        save_head(
            path, self, {name: one.astype(np.float16) for name, one in zip(_ARRAYS, parts, strict=True)}, force=force
        )

    @property
    def threshold(self) -> float:
        """See `Head`."""
        return self.facts.threshold

    def tag(
        self,
        encoder: TextEncoder,
        documents: Sequence[Document],
        threshold: float | None = None,
        *,
        scores: bool = False,
    ) -> list[Document]:
        """See `Head.tag`; a mention's score is the probability that it is a mention and of the type."""
        threshold = self.threshold if threshold is None else threshold
        require_probability(threshold)
        require_encoder(self, encoder)
        words = embed_words(encoder, documents)
        first, last, best, probable = self._probable(words, threshold)
        score = probable[np.arange(len(best)), best]
        chosen = (nested if self.facts.nested else disjoint)(first, last, score)
        spans: list[list[Span]] = [[] for _ in documents]
        owners = np.searchsorted(words.bounds, first[chosen], side="right") - 1
        for owner, number in zip(owners.tolist(), chosen.tolist(), strict=True):
            start, end = int(words.start[first[number]]), int(words.end[last[number] - 1])
            label = self.types[best[number]] if self.types else None
            of_types = dict(zip(self.types, probable[number].tolist(), strict=True)) if scores and self.types else None
            spans[owner].append(Span(start, end, label, float(score[number]), of_types))
        return [replace(document, spans=tuple(some)) for document, some in zip(documents, spans, strict=True)]

    def _probable(self, words: WordFeatures, threshold: float) -> tuple[Ints, Ints, Ints, Floats]:
        """The spans that reach a threshold: first word, one past the last, type, (s,) each, and all types' (s, types).

        Without types, the probability of a mention stands in the place of the one type.
        """
        from scipy.special import expit, logit  # slow to import

        usual = self.log_usual()
        found: list[tuple[Ints, Ints, Ints, Floats]] = []
        for part in self.scorer.score(words, float(logit(threshold))):
            probable: Floats = expit(part.mention)[:, None]
            best = np.zeros(len(probable), np.int64)
            if self.types:
                odds = part.vectors @ self.vectors.T + self.scorer.intercept
                best = (odds - usual).argmax(axis=1)
                probable = probable * expit(odds)
            kept = probable[np.arange(len(best)), best] >= threshold
            found.append((part.first[kept], part.last[kept], best[kept], probable[kept]))
        if not found:
            none = np.empty(0, np.int64)
            return none, none, none, np.empty((0, max(1, len(self.types))), np.float32)
        first, last, codes, probabilities = (np.concatenate(one) for one in zip(*found, strict=True))
        return first, last, codes, probabilities

    def threshold_for(self, encoder: TextEncoder, documents: Sequence[Document], progress: Any) -> float:
        """See `Head.threshold_for`: always the head's own threshold."""
        return self.threshold

    def log_usual(self) -> Floats:
        """The logarithm of the mean probability of each type among mentions of all kinds, (types,)."""
        from scipy.special import expit

        usual = expit(self.usual @ self.vectors.T + self.scorer.intercept).mean(axis=0)
        found: Floats = np.log(np.maximum(usual, np.finfo(np.float32).tiny))
        return found


def load_span_head(model: str) -> SpanHead | None:
    """The span head of a model, without types; None if the model has none.

    Raises:
        ModelError: there is no such model.
        ProbeError: the head is damaged, or its folder holds none.
    """
    directory = locate(model).directory / SPAN_FOLDER
    if not os.path.lexists(directory):
        return None
    head = open_head(directory)
    if not isinstance(head, SpanHead):
        raise ProbeError(f"{directory} holds a head of the kind {head.kind!r}; a span head is of the kind 'spans'")
    return head
