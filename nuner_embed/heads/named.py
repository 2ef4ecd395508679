"""Heads that first find mentions and then type them, with a finder and a typer.

For types given by name alone, the model's detector finds the mentions, and the concept encoder compares each mention
with the names of the types. Nothing is trained, and no example is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import Progress, as_names
from nuner_embed.documents import Document, Span
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.mentions import embed_detected
from nuner_embed.encoders.text import TextEncoder, unit
from nuner_embed.errors import ProbeError
from nuner_embed.heads.base import (
    Arrays,
    HeadFacts,
    SavedFinder,
    SpanTyper,
    WithFacts,
    require_encoder,
    require_probability,
)
from nuner_embed.heads.detector import GivenSpans, ProbeDetector
from nuner_embed.heads.io import save_head
from nuner_embed.heads.linear import Floats, ProbeWeights
from nuner_embed.heads.names import vectors_of


@dataclass(frozen=True, slots=True)
class ConceptTyper:
    """Types mentions by the vectors of the types' names.

    Attributes:
        types: what the types are called.
        names: of each type, for people.
        vectors: of these concepts, (types, dim).
        slope, intercept: of the calibration, which turns a similarity into log-odds.
        metric: of the similarity.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.
    """

    kind: ClassVar[str] = "concepts"

    types: tuple[str, ...]
    names: tuple[str, ...]
    vectors: Floats
    slope: float
    intercept: float
    metric: Literal["cosine", "dot"]

    def __post_init__(self) -> None:
        if not len(self.types) == len(self.names) == len(self.vectors) or self.vectors.ndim != 2:
            raise ValueError(f"vectors of shape {self.vectors.shape} for {len(self.types)} types")
        if not np.isfinite([self.slope, self.intercept]).all() or not np.isfinite(self.vectors).all():
            raise ValueError("vectors that are not finite numbers")

    @classmethod
    def of(cls, named: Mapping[str, str | Sequence[str]], concepts: ConceptEncoder) -> Self:
        """Encodes the names of types.

        Args:
            named: the name of each type, or several, whose vectors are averaged.
            concepts: the concept encoder, calibrated.

        Raises:
            ModelError: the concept encoder is not calibrated.
            ValueError: a name that is none.
        """
        several = [as_names(names) for names in named.values()]
        calibration, vectors = concepts.calibration, vectors_of(several, concepts)
        parts = (calibration.slope, calibration.intercept, concepts.metric)
        return cls(tuple(named), tuple(map(" / ".join, several)), vectors, *parts)

    def score(self, vectors: Floats) -> Floats:
        """See `SpanTyper.score`."""
        if self.metric == "cosine":
            vectors = unit(np.array(vectors, np.float32))
        scores: Floats = self.slope * (vectors @ self.vectors.T) + self.intercept
        return scores

    def to_saved(self) -> tuple[dict[str, Any], Arrays]:
        """See `Part.to_saved`."""
        values = {"types": self.types, "names": self.names, "slope": self.slope, "intercept": self.intercept}
        return {**values, "metric": self.metric}, {"vectors": self.vectors}

    @classmethod
    def from_saved(cls, values: dict[str, Any], arrays: Arrays, semantic_hash: str) -> Self:
        """See `Part.from_saved`."""
        if values["metric"] not in ("cosine", "dot"):
            raise ValueError(f"typer: a similarity is a cosine or an inner product (dot), not {values['metric']!r:.40}")
        parts = (float(values["slope"]), float(values["intercept"]), values["metric"])
        return cls(tuple(values["types"]), tuple(values["names"]), arrays["vectors"], *parts)


@dataclass(frozen=True, slots=True)
class LinearTyper:
    """Types mentions with the weights of a linear head, which was trained on examples or made of names.

    Attributes:
        types: of the head.
        weights: of the head.
    """

    kind: ClassVar[str] = "linear"

    types: tuple[str, ...]
    weights: ProbeWeights

    def score(self, vectors: Floats) -> Floats:
        """See `SpanTyper.score`; a type of which the head has no class has the log-odds of minus infinity."""
        scores = np.full((len(vectors), len(self.types)), -np.inf, np.float32)
        probabilities = self.weights.probabilities(vectors)
        typed = self.weights.classes > 0
        with np.errstate(divide="ignore"):  # where a probability is rounded to 0 or 1
            odds = np.log(probabilities) - np.log1p(-probabilities)
        scores[:, self.weights.classes[typed] - 1] = odds[:, typed]
        return scores

    def to_saved(self) -> tuple[dict[str, Any], Arrays]:
        """See `Part.to_saved`."""
        return {"types": self.types}, self.weights.to_saved()

    @classmethod
    def from_saved(cls, values: dict[str, Any], arrays: Arrays, semantic_hash: str) -> Self:
        """See `Part.from_saved`."""
        types = tuple(values["types"])
        return cls(types, ProbeWeights.from_saved(arrays, types))


FINDERS: Final[dict[str, type[SavedFinder]]] = {ProbeDetector.kind: ProbeDetector, GivenSpans.kind: GivenSpans}
TYPERS: Final[dict[str, type[SpanTyper]]] = {ConceptTyper.kind: ConceptTyper, LinearTyper.kind: LinearTyper}


@dataclass(frozen=True, slots=True)
class MentionFacts(HeadFacts):
    """What a mention head is, apart from its arrays.

    Attributes:
        finder, typer: the parts, as `Part.to_saved` has them, with their kinds.
        threshold: how probable a type must be for a mention to be of it.
    """

    finder: dict[str, Any]
    typer: dict[str, Any]
    threshold: float

    def require_sound(self) -> None:
        """See `HeadFacts.require_sound`."""
        HeadFacts.require_sound(self)
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold: a number between 0 and 1, not {self.threshold!r:.40}")
        for name, part, kinds in (("finder", self.finder, FINDERS), ("typer", self.typer, TYPERS)):
            if part.get("kind") not in kinds:
                raise ValueError(f"{name}: expected the kind {' or '.join(kinds)}, found {part.get('kind')!r:.40}")


@dataclass(frozen=True, slots=True)
class MentionHead(WithFacts):
    """Finds mentions of any kind, and gives each its most probable type, if the type reaches the threshold.

    Attributes:
        finder: finds the mentions.
        typer: types them.
        facts: what the head is.
    """

    kind: ClassVar[str] = "mentions"
    facts_type: ClassVar[type[HeadFacts]] = MentionFacts
    scheme: ClassVar[str] = "mentions are found first; each has one type or none"

    finder: SavedFinder
    typer: SpanTyper
    facts: MentionFacts

    @classmethod
    def of(cls, encoder: TextEncoder, finder: SavedFinder, typer: SpanTyper, threshold: float) -> Self:
        """Makes a head for an encoder.

        Raises:
            ProbeError: the finder reads another encoder.
            ValueError: a threshold that is not a probability.
        """
        require_probability(threshold)
        if finder.semantic_hash != encoder.semantic_hash:
            raise ProbeError(
                f"the mention detector reads the words of another model or recipe ({finder.semantic_hash[:12]}) than "
                f"{encoder.source} ({encoder.semantic_hash[:12]})"
            )
        facts = MentionFacts(
            semantic_hash=encoder.semantic_hash,
            model=encoder.source,
            recipe=encoder.recipe.to_dict(),
            types=typer.types,
            finder={"kind": finder.kind, **finder.to_saved()[0]},
            typer={"kind": typer.kind, **typer.to_saved()[0]},
            threshold=threshold,
        )
        return cls(finder, typer, facts)

    @classmethod
    def from_saved(cls, facts: MentionFacts, arrays: Arrays) -> Self:
        """See `Head.from_saved`."""

        def own(name: str) -> Arrays:
            return {key.removeprefix(name): array for key, array in arrays.items() if key.startswith(name)}

        finder, typer = FINDERS[facts.finder["kind"]], TYPERS[facts.typer["kind"]]
        try:
            found = finder.from_saved(facts.finder, own("finder."), facts.semantic_hash)
            head = cls(found, typer.from_saved(facts.typer, own("typer."), facts.semantic_hash), facts)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None
        if head.typer.types != facts.types:
            raise ValueError("the typer's types are not those of the head")
        return head

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """See `Head.save`."""
        arrays = {
            f"{name}.{key}": array
            for name, part in (("finder", self.finder), ("typer", self.typer))
            for key, array in part.to_saved()[1].items()
        }
        save_head(path, self, arrays, force=force)

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
        """See `Head.tag`; a mention's score is the probability of its type."""
        from scipy.special import expit  # slow to import

        threshold = self.threshold if threshold is None else threshold
        require_probability(threshold)
        require_encoder(self, encoder)
        mentions = embed_detected(encoder, encoder.tokenize(documents, "word"), self.finder)
        probable: NDArray[np.floating[Any]] = expit(self.typer.score(np.asarray(mentions.vectors, np.float32)))
        spans: list[list[Span]] = [[] for _ in documents]
        for document, span, row in zip(mentions.rows.document.tolist(), mentions.found or (), probable, strict=True):
            best = int(row.argmax())
            if row[best] >= threshold:
                of_types = dict(zip(self.types, row.tolist(), strict=True)) if scores else None
                found = replace(span, label=self.types[best], score=float(row[best]), scores=of_types)
                spans[document].append(found)
        return [replace(document, spans=tuple(some)) for document, some in zip(documents, spans, strict=True)]

    def threshold_for(self, encoder: TextEncoder, documents: Sequence[Document], progress: Progress) -> float:
        """See `Head.threshold_for`: always the head's own threshold."""
        return self.threshold
