"""An index that a server searches."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from nuner_embed.errors import ModelError, StoreMismatch
from nuner_embed.indexes import Index, at_least, embed_mentions, examples_of, find, find_concepts
from nuner_embed.indexes.queries import require_encoder
from nuner_embed.serving.failures import Refused
from nuner_embed.serving.requests import SearchRequest

if TYPE_CHECKING:
    from nuner_embed.documents import Document
    from nuner_embed.encoders.concepts import ConceptEncoder
    from nuner_embed.encoders.text import TextEncoder
    from nuner_embed.serving.shared_encoders import SharedEncoders

HIT: Final = ("rank", "score", "id", "document_id", "start", "end", "text", "label", "context", "context_start")
_AT_ONCE: Final = 4  # searches, each of which may use all cores


class ServedIndex:
    """The `SearchIndex` of the server: an index with the encoder for its queries.

    Args:
        index: open.
        encoder: the encoder that made the index.
        concepts: of the same model; None if the model has none.
    """

    def __init__(self, index: Index, encoder: "TextEncoder", concepts: "ConceptEncoder | None") -> None:
        self._index = index
        self._encoder = encoder
        self._concepts = concepts
        self._turns = threading.BoundedSemaphore(_AT_ONCE)

    @classmethod
    def fit(cls, index: Index, encoders: "SharedEncoders") -> "ServedIndex":
        """Fits an index to the model of the server.

        Raises:
            StoreMismatch: the index was made with another model; the message names both.
            ModelError: the model cannot follow the recipe of the index.
        """
        bundle = index.bundle
        encoder = encoders.of(bundle.recipe, bundle.semantic_hash)
        try:
            require_encoder(index, encoder)
        except StoreMismatch as error:
            raise StoreMismatch(f"{error}; name the model of the index with --model") from None
        return cls(index, encoder, encoders.concepts)

    def search(self, asked: SearchRequest, documents: "Sequence[Document]") -> list[dict[str, Any]]:
        """See `SearchIndex.search`."""
        options: dict[str, Any] = {"filter": asked.filter, "unique": asked.unique, "context": asked.context}
        if asked.filter is not None:
            self._index.check_filter(asked.filter)  # before anything is computed
        if asked.concept is not None:
            hits = self._of_types(asked.concept, asked.unwanted, k=asked.k, **options)
        else:
            vectors = self._vectors(documents, examples=asked.like is not None)
            own = [{document.text for document in documents}] if asked.exclude_document else None
            with self._turns:
                hits = find(self._index, vectors, asked.k, exclude=own, **options)
        if asked.min_score is not None:
            hits = at_least(hits, asked.min_score)
        return [{name: hit[name] for name in HIT} for hit in hits.to_pylist()]

    def _vectors(self, documents: "Sequence[Document]", *, examples: bool) -> Any:
        if not examples:
            return embed_mentions(self._index, self._encoder, documents)
        vector, _ = examples_of(self._index, self._encoder, documents).query(self._index)
        return vector

    def _of_types(self, wanted: Any, unwanted: Any, **options: Any) -> Any:
        if self._concepts is None:
            raise ModelError("the model of the server has no concept encoder; search by query or like instead")
        try:
            with self._turns:
                return find_concepts(self._index, self._concepts, wanted, unwanted, **options)
        except ValueError as error:  # a name that is none
            raise Refused(422, f"concept: {error}") from None
