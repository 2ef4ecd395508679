"""The contract of an encoder: documents to tokens, tokens to rows."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from nuner_embed.arguments import Texts
from nuner_embed.documents import Document
from nuner_embed.models.recipe import Recipe
from nuner_embed.tables import Dtype, Granularity, Overflow, RowEmbeddings, TokenEmbeddings, TokenTable


@runtime_checkable
class Encoder(Protocol):
    """What jobs, indexes and heads know of an encoder, whatever its runtime.

    Jobs call `tokenize` and `encode_rows` separately, because the number of tokens decides where a shard ends; `encode`
    does both in one call.

    Attributes:
        recipe: how hidden states become embeddings.
        dim: width of an embedding.
        semantic_hash: of weights, configuration, tokenizer and recipe; vectors of different hashes must not be mixed.
        numerics: everything that decides the bits, as JSON values.
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

        The embeddings of a document do not depend on the other documents, except for rounding. The int8 graphs of
        other programs round coarsely, where the activations of a batch share one scale.

        Raises:
            OutOfMemory: one window alone does not fit.
        """
        ...

    def tokenize(self, documents: Sequence[Document], granularity: Granularity) -> TokenTable:
        """The tokens of whole texts, with the words or mentions that become rows."""
        ...

    def encode_rows(
        self,
        table: TokenTable,
        granularity: Granularity,
        overflow: Overflow = "window",
        on_batch: Callable[[int], None] = lambda tokens: None,
        dtype: Dtype = "float32",
    ) -> RowEmbeddings:
        """Embeds the rows of a token table.

        Args:
            table: the tokens of some documents, made with the same granularity.
            granularity: what becomes a row.
            overflow: what to do with texts longer than a window; "error" is treated as "window" here.
            on_batch: called after every batch with the number of tokens that it held.
            dtype: of the vectors, which are averaged and scaled in float32; see `RowFormat` for numbers too large.

        Raises:
            OutOfMemory: one window alone does not fit.
        """
        ...
