"""Documents in, embeddings with character offsets out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import Texts, as_documents
from nuner_embed.encoders.rows import make_rows
from nuner_embed.encoders.tokens import tokenize
from nuner_embed.encoders.windows import place
from nuner_embed.errors import ModelError, OutOfMemory
from nuner_embed.files import hash_of
from nuner_embed.models.recipe import Recipe, semantic_hash
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.runtimes.base import Batch, Runtime, cut_batches, pad, run_in_order
from nuner_embed.tables import (
    Granularity,
    Ints,
    Overflow,
    Placement,
    RowEmbeddings,
    RunStatistics,
    TokenEmbeddings,
    TokenTable,
    Windows,
)

_POOLED_AT_ONCE = 65536  # tokens


@runtime_checkable
class Encoder(Protocol):
    """What jobs, indexes and probes know of an encoder, whichever runtime is behind it.

    Attributes:
        recipe: what an embedding is.
        dim: width of an embedding.
        semantic_hash: of weights, configuration, tokenizer and recipe; vectors of two such must not be mixed.
        numeric_hash: of all that decides the bits.
    """

    recipe: Recipe
    dim: int
    semantic_hash: str
    numeric_hash: str

    def encode(self, documents: Texts) -> list[TokenEmbeddings]:
        """Token embeddings of texts or documents in input order.

        A document alone gives the numbers it has in any batch, but for rounding. An int8 export rounds coarsely:
        activations share one scale a batch.
        """
        ...


@dataclass
class TextEncoder:
    """A tokenizer, a runtime and a recipe: the `Encoder` of this package.

    Attributes:
        tokenizer: makes the token ids.
        runtime: runs them.
        recipe: what becomes of the hidden states.
        weights_sha256: of the source's weights.
        batch_tokens: tokens a batch may hold, padding included; one window goes through in any case.
        config_sha256: of what the source's configuration says of the network.
        pad_id: token id used for padding.
        source: where the model was loaded from, by which it can be loaded again.
    """

    tokenizer: TextTokenizer
    runtime: Runtime
    recipe: Recipe
    weights_sha256: str
    batch_tokens: int
    config_sha256: str = ""
    pad_id: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        if self.capacity < 1 or self.recipe.stride > self.capacity // 2:
            raise ModelError(
                f"windows of {self.recipe.max_length} tokens with {self.tokenizer.specials} special ones and a stride "
                f"of {self.recipe.stride} leave too little; the stride may be half of what is left"
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
        """What the numeric hash is made of."""
        return {**self.runtime.numerics, "batch_tokens": self.batch_tokens}

    @property
    def numeric_hash(self) -> str:
        """The hash of all that decides the bits of an embedding."""
        return hash_of(self.numerics)

    def __repr__(self) -> str:
        return f"TextEncoder({self.source!r}, dim {self.dim}, {self.runtime.description})"

    def encode(self, documents: Texts) -> list[TokenEmbeddings]:
        """Token embeddings of whole texts in input order; long ones are windowed.

        Args:
            documents: texts or documents, or one; the ids of texts are their places in the list.

        Raises:
            OutOfMemory: one window alone does not fit.
        """
        documents = as_documents(documents)
        table = tokenize(documents, self.tokenizer, "token")
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
        placement = replace(placement, cut=placement.cut | (rows.last > limit))  # by the end of a truncated text
        vectors, statistics = self._embed(table, placement, on_batch)
        if self.recipe.normalize:
            vectors = unit(vectors)
        return RowEmbeddings(rows, vectors, placement, table.counts - sizes, dropped_rows, statistics)

    def _embed(
        self, table: TokenTable, placement: Placement, on_batch: Callable[[int], None]
    ) -> tuple[NDArray[np.float32], RunStatistics]:
        """Runs the windows that rows are taken from, longest first, and pools each row: (m, dim)."""
        vectors = np.empty((len(placement.window), self.dim), dtype=np.float32)
        statistics = RunStatistics(batch_tokens=self.batch_tokens)
        needed = np.unique(placement.window)
        lengths = placement.windows.length[needed] + self.tokenizer.specials
        order = np.argsort(-lengths, kind="stable")
        lengths = lengths[order]
        rank = np.empty(len(placement.windows.start), dtype=np.int64)
        rank[needed[order]] = np.arange(len(needed))
        by_rank = np.argsort(rank[placement.window], kind="stable")
        row_rank = rank[placement.window][by_rank]
        begin = 0
        while begin < len(needed):
            cuts = cut_batches(lengths, begin, statistics.batch_tokens)
            batches = (self._batch(table, placement.windows, needed[order[a:b]]) for a, b in cuts)
            try:
                for (first, end), states in zip(cuts, run_in_order(self.runtime, batches), strict=True):
                    span = slice(*np.searchsorted(row_rank, [first, end]))
                    row = by_rank[span]
                    vectors[row] = pool(states, row_rank[span] - first, *self._within(placement, row))
                    real = int(lengths[first:end].sum())
                    statistics.tokens += real
                    statistics.padding += int(lengths[first]) * (end - first) - real
                    on_batch(real)
                    begin = end
            except OutOfMemory as error:
                batch = next(end for first, end in cuts if first == begin) - begin
                if batch == 1:
                    raise OutOfMemory(
                        f"one window of {lengths[begin]} tokens does not fit into memory ({error}); "
                        "use a smaller --max-length, fewer layers or another device"
                    ) from error
                statistics.batch_tokens = max(1, min(statistics.batch_tokens, batch * int(lengths[begin])) // 2)
                statistics.reduced = True
        return vectors, statistics

    def _within(self, placement: Placement, row: Ints) -> tuple[Ints, Ints]:
        shift = len(self.tokenizer.prefix)
        return placement.first[row] + shift, placement.last[row] + shift

    def _batch(self, table: TokenTable, windows: Windows, chosen: Ints) -> Batch:
        """Token ids and mask (batch, longest) of some windows, with their special tokens."""
        prefix, suffix = (np.array(ids, np.int32) for ids in (self.tokenizer.prefix, self.tokenizer.suffix))
        spans = zip(windows.start[chosen], windows.length[chosen], strict=True)
        return pad([np.concatenate([prefix, table.ids[a : a + n], suffix]) for a, n in spans], self.pad_id)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1, in place."""
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors


def pool(states: NDArray[np.float32], window: Ints, first: Ints, last: Ints) -> NDArray[np.float32]:
    """The mean of each row's tokens, (m, dim), gathered in parts: nested mentions may come to far more than `states`.

    Args:
        states: token embeddings of a batch, (batch, length, dim).
        window: which window of the batch each row is in, (m,).
        first: its first token there, (m,).
        last: one past its last token, (m,); at least one token each.
    """
    sizes = last - first
    if not len(sizes) or sizes.max() == 1:
        alone: NDArray[np.float32] = states[window, first]
        return alone
    pooled = np.empty((len(sizes), states.shape[-1]), dtype=np.float32)
    for rows in np.array_split(np.arange(len(sizes)), 1 + int(sizes.sum()) // _POOLED_AT_ONCE):
        size = sizes[rows]
        begins = np.cumsum(size) - size
        place = np.arange(int(size.sum())) - np.repeat(begins - first[rows], size)
        sums = np.add.reduceat(states[np.repeat(window[rows], size), place], begins, axis=0)
        pooled[rows] = sums / size[:, None].astype(np.float32)
    return pooled
