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

from nuner_embed.arguments import Progress, Texts, as_documents, as_names
from nuner_embed.documents import Document, Span, is_text
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.loader import load_encoder
from nuner_embed.encoders.mentions import embed_detected
from nuner_embed.encoders.text import TextEncoder, unit
from nuner_embed.errors import ProbeError
from nuner_embed.heads import NAMED_THRESHOLD
from nuner_embed.heads.base import Arrays, HeadFacts, SavedFinder, SpanTyper, WithFacts, require_encoder
from nuner_embed.heads.detector import GivenSpans, ProbeDetector, load_detector
from nuner_embed.heads.io import save_head
from nuner_embed.heads.labelled_words import require_not_reserved
from nuner_embed.heads.linear import Floats, ProbeWeights
from nuner_embed.heads.tagger import Tagger
from nuner_embed.models.known import DEFAULT_MODEL

_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class ConceptTyper:
    """Types mentions by the vectors of the types' names.

    Attributes:
        types: what the types are called.
        names: of the concept of each type.
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
    def of(cls, named: Mapping[str, str], concepts: ConceptEncoder) -> Self:
        """Encodes the names of types.

        Args:
            named: the concept that each type is.
            concepts: the concept encoder, calibrated.

        Raises:
            ModelError: the concept encoder is not calibrated.
            ValueError: a name that is none.
        """
        calibration, vectors = concepts.calibration, concepts.encode(list(named.values()))
        parts = (calibration.slope, calibration.intercept, concepts.metric)
        return cls(tuple(named), tuple(named.values()), vectors, *parts)

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
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, not {threshold!r}")
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
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, not {threshold!r}")
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


def named_tagger(
    types: str | Sequence[str] | Mapping[str, str],
    *,
    model: str = DEFAULT_MODEL,
    threshold: float = NAMED_THRESHOLD,
    detector: str | None = None,
    threads: int = 0,
) -> Tagger[MentionHead]:
    """A tagger for types given by name alone, with the encoders and the detector of a model.

    The detector finds mentions. The mean of a mention's tokens is compared with the vector of each type's name; the
    calibration by `nuner-embed concepts calibrate` turns the similarity into a probability.

    Args:
        types: names of types in plain words: "city", "film director". The keys of a mapping are the labels of the
            types, and its values the names: `{"LOC": "location"}`.
        model: a Hugging Face or exported directory with a concept encoder, or a known name.
        threshold: least probability of a mention's type.
        detector: the directory of a probe that finds the mentions, in place of the model's own.
        threads: 0 for one a core.

    Raises:
        ProbeError: the model has no detector, or it reads another encoder; a type called "O".
        ModelError: there is no such model, or it has no concept encoder that is calibrated.
        RuntimeUnavailable: what runs the model is not installed.
        ValueError: no type, a name that is none, or a threshold that is no probability.
    """
    named = _named(types)
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must be between 0 and 1, not {threshold!r}")
    finder = load_detector(detector or model)
    encoder = load_encoder(model, threads=threads)
    if encoder.recipe.layers != (-1,):
        raise ProbeError(f"concepts agree with the last layer alone; {model} has {list(encoder.recipe.layers)}")
    if finder.semantic_hash != encoder.semantic_hash:
        raise ProbeError(
            f"the mention detector of {detector or model} reads the words of another model or recipe "
            f"({finder.semantic_hash[:12]}) than {model} ({encoder.semantic_hash[:12]})"
        )
    concepts = ConceptEncoder.open(model, threads=threads)
    if concepts.semantic_hash_of_texts(encoder.recipe.to_dict()) != encoder.semantic_hash:
        raise ProbeError(f"the concept encoder of {model} does not belong to its text encoder")
    return Tagger(encoder, MentionHead.of(encoder, finder, ConceptTyper.of(named, concepts), threshold))


def extract(
    texts: Texts,
    types: str | Sequence[str] | Mapping[str, str],
    *,
    threshold: float = NAMED_THRESHOLD,
    model: str = DEFAULT_MODEL,
    detector: str | None = None,
    threads: int = 0,
) -> list[Document]:
    """Finds the mentions of named types in texts, without an example: texts and names in, spans out.

        for document in nuner_embed.extract(["Ines Varga flew to Oslo."], ["city", "person"]):
            print([(document.text[span.start : span.end], span.label, span.score) for span in document.spans])

    Args:
        texts: one, or several; documents are taken too, and their own spans are left out.
        types, threshold, model, detector, threads: see `named_tagger`.

    Returns:
        One document for each text, in order, with the spans found; the id of a plain string is its number, from 0.

    Raises:
        ValueError, NunerEmbedError: see `named_tagger`.
    """
    documents = as_documents(texts)
    tagger = named_tagger(types, model=model, threshold=threshold, detector=detector, threads=threads)
    return [
        document
        for first in range(0, len(documents), _AT_ONCE)
        for document in tagger.tag(documents[first : first + _AT_ONCE])
    ]


def _named(types: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """The labels of the types, with the name of each."""
    types = types if isinstance(types, Mapping) else as_names(types)
    named = dict(types) if isinstance(types, Mapping) else {name: name for name in types}
    if not named or len(named) < len(types) or not all(map(str.strip, [*named, *named.values()])):
        raise ValueError(f"types are one or more different names, not {list(types)}")
    for name in (*named, *named.values()):
        if not is_text(name):
            raise ValueError(f"a type's name is text, and {name[:60]!r} holds a lone surrogate")
    require_not_reserved(named)
    return named
