"""The contract of an encoder: documents to tokens, tokens to rows."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from nuner_embed.arguments import Texts
from nuner_embed.documents import Document
from nuner_embed.models.recipe import Recipe
from nuner_embed.tables import Granularity, Overflow, RowEmbeddings, TokenEmbeddings, TokenTable


@runtime_checkable
class Encoder(Protocol):
    """What jobs, indexes and heads know of an encoder, whichever runtime is behind it.

    Jobs call `tokenize` and `encode_rows` one after the other, because what the tokens come to decides where a shard
    ends; `encode` is both in one call for those who have texts.

    Attributes:
        recipe: what an embedding is.
        dim: width of an embedding.
        semantic_hash: of weights, configuration, tokenizer and recipe; vectors of two such must not be mixed.
        numerics: all that decides the bits, as JSON values.
        numeric_hash: of `numerics`.
        capacity: tokens of text that one window holds.
        source: the model's name, by which it can be loaded again.
    """

    recipe: Recipe
    dim: int
    semantic_hash: str
    source: str

    @property
    def numerics(self) -> dict[str, Any]:
        """See above."""
        ...

    @property
    def numeric_hash(self) -> str:
        """See above."""
        ...

    @property
    def capacity(self) -> int:
        """See above."""
        ...

    def encode(self, documents: Texts) -> list[TokenEmbeddings]:
        """Token embeddings of texts or documents in input order.

        A document alone gives the numbers it has in any batch, but for rounding. An int8 export rounds coarsely:
        activations share one scale a batch.

        Raises:
            OutOfMemory: one window alone does not fit.
        """
        ...

    def tokenize(self, documents: Sequence[Document], granularity: Granularity) -> TokenTable:
        """The tokens of whole texts, and the words or mentions that `granularity` asks for."""
        ...

    def encode_rows(
        self,
        table: TokenTable,
        granularity: Granularity,
        overflow: Overflow = "window",
        on_batch: Callable[[int], None] = lambda tokens: None,
    ) -> RowEmbeddings:
        """Embeds the rows of a token table.

        Args:
            table: the tokens of some documents, made with the same granularity.
            granularity: what becomes a row.
            overflow: what happens to texts longer than a window; "error" is treated as "window" here.
            on_batch: called after every batch with the number of tokens that it held.

        Raises:
            OutOfMemory: one window alone does not fit.
        """
        ...
