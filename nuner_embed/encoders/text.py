"""The text encoder: embeds documents as rows with character offsets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import Texts, as_documents
from nuner_embed.documents import Document
from nuner_embed.encoders.tokens import make_rows, tokenize
from nuner_embed.encoders.windows import place
from nuner_embed.errors import ModelError
from nuner_embed.files import hash_of
from nuner_embed.models.recipe import Recipe, semantic_hash
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.runtimes.base import Pass, RowFormat, Runtime, WindowBatch
from nuner_embed.tables import (
    Dtype,
    Granularity,
    Overflow,
    Placement,
    RowEmbeddings,
    RunStatistics,
    TokenEmbeddings,
    TokenTable,
)


@dataclass
class TextEncoder:
    """A tokenizer, a runtime and a recipe: the `Encoder` of this package.

    Attributes:
        tokenizer: cuts texts into tokens.
        runtime: runs the network.
        recipe: how hidden states become embeddings.
        weights_sha256: of the source's weights.
        batch_tokens: tokens in one pass through the network, padding included; a single window may have more.
        config_sha256: of the part of the source's configuration that describes the network.
        source: where the model was loaded from, by which it can be loaded again.
    """

    tokenizer: TextTokenizer
    runtime: Runtime
    recipe: Recipe
    weights_sha256: str
    batch_tokens: int
    config_sha256: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.capacity < 1 or self.recipe.stride > self.capacity // 2:
            raise ModelError(
                f"windows of {self.recipe.max_length} tokens, {self.tokenizer.specials} of them special, are too short "
                f"for a stride of {self.recipe.stride}; the stride may be at most half of the other tokens"
            )
        self.dim = self.runtime.dim
        self.semantic_hash = semantic_hash(
            self.weights_sha256, self.config_sha256, self.tokenizer.sha256, self.recipe.to_dict()
        )

    @property
    def capacity(self) -> int:
        """Tokens of text that one window holds."""
        return self.recipe.max_length - self.tokenizer.specials

    @property
    def numerics(self) -> dict[str, Any]:
        """Everything that decides the bits, as JSON values."""
        return {**self.runtime.numerics, "batch_tokens": self.batch_tokens}

    @property
    def numeric_hash(self) -> str:
        """The hash of `numerics`."""
        return hash_of(self.numerics)

    def __repr__(self) -> str:
        return f"TextEncoder({self.source!r}, dim {self.dim}, {self.runtime.description})"

    def tokenize(self, documents: Sequence[Document], granularity: Granularity) -> TokenTable:
        """See `Encoder.tokenize`."""
        return tokenize(documents, self.tokenizer, granularity)

    def encode(self, documents: Texts) -> list[TokenEmbeddings]:
        """Token embeddings of whole texts in input order; long ones are windowed.

        Args:
            documents: one or several texts or documents; the id of a text is its place in the list.

        Raises:
            OutOfMemory: one window alone does not fit.
        """
        documents = as_documents(documents)
        table = self.tokenize(documents, "token")
        vectors = self.encode_rows(table, "token").vectors
        offsets = np.stack([table.starts, table.ends], axis=1)
        return [
            TokenEmbeddings(document.id, offsets[a:b], vectors[a:b])
            for document, a, b in zip(documents, table.bounds[:-1], table.bounds[1:], strict=True)
        ]

    def encode_rows(
        self,
        table: TokenTable,
        granularity: Granularity,
        overflow: Overflow = "window",
        on_batch: Callable[[int], None] = lambda tokens: None,
        dtype: Dtype = "float32",
    ) -> RowEmbeddings:
        """See `Encoder.encode_rows`."""
        rows = make_rows(table, granularity, self.recipe.pooling)
        sizes = table.counts
        if overflow == "truncate":
            sizes = np.minimum(sizes, self.capacity)
        limit = (table.bounds[:-1] + sizes)[rows.document]
        inside = rows.first < limit
        dropped_rows = np.bincount(rows.document[~inside], minlength=len(sizes)).astype(np.int64)
        if not inside.all():
            rows, limit = rows.keep(inside), limit[inside]
        placement = place(
            table.bounds[:-1],
            sizes,
            rows.document,
            rows.first,
            np.minimum(rows.last, limit),
            self.capacity,
            self.recipe.stride,
        )
        placement = replace(placement, cut=placement.cut | (rows.last > limit))  # cut where the text was truncated
        vectors, statistics = self._embed(table, placement, on_batch, RowFormat(dtype, self.recipe.normalize))
        return RowEmbeddings(rows, vectors, placement, table.counts - sizes, dropped_rows, statistics)

    def _embed(
        self, table: TokenTable, placement: Placement, on_batch: Callable[[int], None], form: RowFormat
    ) -> tuple[NDArray[np.floating[Any]], RunStatistics]:
        """Runs the windows that rows are taken from; returns the rows (m, dim) and statistics."""
        statistics = RunStatistics(batch_tokens=self.batch_tokens)

        def note(done: Pass) -> None:
            statistics.tokens += done.tokens
            statistics.padding += done.padding
            statistics.batch_tokens = done.batch_tokens
            on_batch(done.tokens)

        vectors = self.runtime.rows(self._batch(table, placement), self.batch_tokens, note, form)
        statistics.reduced = statistics.batch_tokens < self.batch_tokens
        return vectors, statistics

    def _batch(self, table: TokenTable, placement: Placement) -> WindowBatch:
        """The windows that rows are taken from, with their special tokens, and the rows."""
        needed, window = np.unique(placement.window, return_inverse=True)
        prefix, suffix = (np.array(ids, np.int32) for ids in (self.tokenizer.prefix, self.tokenizer.suffix))
        begins, sizes = placement.windows.start[needed], placement.windows.length[needed]
        bounds = np.concatenate([[0], np.cumsum(sizes + self.tokenizer.specials)])
        parts = [
            part
            for begin, size in zip(begins.tolist(), sizes.tolist(), strict=True)
            for part in (prefix, table.ids[begin : begin + size], suffix)
        ]
        ids = np.concatenate([np.empty(0, np.int32), *parts])
        shift = len(self.tokenizer.prefix)
        return WindowBatch(ids, bounds, window, placement.first + shift, placement.last + shift)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1, in place."""
    RowFormat(normalize=True).apply(vectors)
    return vectors
