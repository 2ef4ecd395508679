"""Mentions of types that are only named: the detector finds them, the concept encoder says which type they are of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import Texts, as_documents, as_names
from nuner_embed.documents import Document, Span, is_text
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.loader import load_encoder
from nuner_embed.encoders.mentions import Detector, embed_detected
from nuner_embed.encoders.text import TextEncoder, unit
from nuner_embed.encoders.tokens import tokenize
from nuner_embed.errors import ProbeError
from nuner_embed.heads.defaults import NAMED_THRESHOLD
from nuner_embed.heads.detector import load_detector
from nuner_embed.heads.labelled_words import require_not_reserved
from nuner_embed.models.known import DEFAULT_MODEL

_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class NamedTypeTagger:
    """Finds the mentions of named types: nothing is trained, no example is needed.

    The detector finds mentions. The mean of a mention's tokens is compared with the vector of each type's name; what
    `nuner-embed concepts calibrate` measured turns the similarity into a probability.

    Attributes:
        encoder: embeds the texts.
        detector: finds the mentions, whatever they are.
        concepts: the concept encoder of the same model, calibrated.
        types: what the types are called.
        vectors: of the concept that each type is, (types, dim).
        threshold: how probable a type must be for a mention to be of it.
    """

    encoder: TextEncoder
    detector: Detector
    concepts: ConceptEncoder
    types: tuple[str, ...]
    vectors: NDArray[np.floating[Any]]
    threshold: float

    @classmethod
    def open(
        cls,
        types: str | Sequence[str] | Mapping[str, str],
        *,
        model: str = DEFAULT_MODEL,
        threshold: float = NAMED_THRESHOLD,
        detector: str | None = None,
        threads: int = 0,
    ) -> Self:
        """Loads a model's encoders and its detector.

        Args:
            types: names of types, as one would say them: "city", "film director". A mapping calls the types by its
                keys, and its values are the names that are understood: `{"LOC": "location"}`.
            model: a Hugging Face or exported directory with a concept encoder, or a known name.
            threshold: how probable a type must be for a mention to be of it.
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
        concepts.calibration  # noqa: B018  # says so where nobody measured what a similarity means
        return cls(encoder, finder, concepts, tuple(named), concepts.encode(list(named.values())), threshold)

    def tag(self, documents: Texts) -> list[Document]:
        """Copies of documents whose spans are the mentions found, each scored with the probability of its type.

        Args:
            documents: texts or documents, or one; the ids of texts are their places in the list.

        Raises:
            OutOfMemory: one window alone does not fit.
        """
        documents = as_documents(documents)
        table = tokenize(documents, self.encoder.tokenizer, "word")
        mentions = embed_detected(self.encoder, table, self.detector)
        vectors = np.asarray(mentions.vectors, np.float32)
        if self.concepts.metric == "cosine":
            vectors = unit(vectors)
        probable = self.concepts.probabilities(vectors @ self.vectors.T)
        spans: list[list[Span]] = [[] for _ in documents]
        rows = zip(mentions.rows.document.tolist(), mentions.found or (), probable, strict=True)
        for document, span, probabilities in rows:
            best = int(probabilities.argmax())
            if probabilities[best] >= self.threshold:
                spans[document].append(replace(span, label=self.types[best], score=float(probabilities[best])))
        return [replace(document, spans=tuple(found)) for document, found in zip(documents, spans, strict=True)]


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
        types, threshold, model, detector, threads: see `NamedTypeTagger.open`.

    Returns:
        A document a text, in order, with the spans found; those of plain strings have their number for an id, from 0.

    Raises:
        ValueError, NunerEmbedError: see `NamedTypeTagger.open`.
    """
    documents = as_documents(texts)
    tagger = NamedTypeTagger.open(types, model=model, threshold=threshold, detector=detector, threads=threads)
    return [
        document
        for first in range(0, len(documents), _AT_ONCE)
        for document in tagger.tag(documents[first : first + _AT_ONCE])
    ]


def _named(types: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """What the types are called, and the name of each."""
    types = types if isinstance(types, Mapping) else as_names(types)
    named = dict(types) if isinstance(types, Mapping) else {name: name for name in types}
    if not named or len(named) < len(types) or not all(map(str.strip, [*named, *named.values()])):
        raise ValueError(f"types are one or more different names, not {list(types)}")
    for name in (*named, *named.values()):
        if not is_text(name):
            raise ValueError(f"a type's name is text, and {name[:60]!r} holds a lone surrogate")
    require_not_reserved(named)
    return named
