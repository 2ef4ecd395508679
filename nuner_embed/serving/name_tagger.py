"""Mentions of types that a request names, found by the heads that belong to the model."""

from collections.abc import Sequence
from dataclasses import dataclass

from nuner_embed.documents import Document
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import ProbeError
from nuner_embed.heads import NAMED_THRESHOLD
from nuner_embed.heads.base import Head
from nuner_embed.heads.detector import ProbeDetector
from nuner_embed.heads.named import ConceptTyper, MentionHead
from nuner_embed.heads.spans import SpanHead
from nuner_embed.heads.zero_shot import Types, labelled_types


@dataclass(frozen=True, slots=True)
class NameTagger:
    """Tags as `nuner-embed tag` does, without loading anything for a request.

    Attributes:
        encoder: of the texts, with the recipe of the finder.
        concepts: of the names of types.
        finder: the span head of the model, without types; or the detector of a model that has no span head.
    """

    encoder: TextEncoder
    concepts: ConceptEncoder
    finder: SpanHead | ProbeDetector

    def tag(
        self, documents: Sequence[Document], types: Types, threshold: float | None = None, *, nested: bool = False
    ) -> list[Document]:
        """Copies of documents whose spans are the mentions of the types.

        Args:
            documents: their own spans are left out.
            types: see `nuner_embed.heads.zero_shot.named_tagger`.
            threshold: least probability of a mention's type; None for the default.
            nested: let mentions lie within others, which takes a span head.

        Raises:
            ProbeError: nested mentions without a span head, or a type called "O".
            ValueError: a name that is none.
        """
        return self._head(types, threshold or NAMED_THRESHOLD, nested).tag(self.encoder, documents)

    def _head(self, types: Types, threshold: float, nested: bool) -> Head:
        named = labelled_types(types)
        if isinstance(self.finder, SpanHead):
            return self.finder.named(named, self.concepts, threshold=threshold, nested=nested)
        if nested:
            raise ProbeError(f"nested mentions take a span head, and {self.concepts.model} has none")
        return MentionHead.of(self.encoder, self.finder, ConceptTyper.of(named, self.concepts), threshold)
