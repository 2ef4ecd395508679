"""Which rows a store gets from a document: its tokens, its words or its mentions."""

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from nuner_embed.encoders.tokens import Granularity, Ints, TokenTable
from nuner_embed.models.recipe import Pooling


@dataclass(frozen=True, slots=True)
class RowTable:
    """Rows over a token table, in document order.

    Attributes:
        document: index of each row's document, (m,).
        start: first character in the text, (m,).
        end: one past the last, (m,).
        index: the how-many-th token, word or span of its document, (m,).
        first: first token that the row's embedding is the mean of, as an index into the token table, (m,).
        last: one past the last such token, (m,).
        untokenized: words or mentions of each document that no token stands for (a lone zero-width
            character, say) and that get no row, (d,).
    """

    document: Ints
    start: Ints
    end: Ints
    index: Ints
    first: Ints
    last: Ints
    untokenized: Ints

    def keep(self, mask: NDArray[np.bool_]) -> "RowTable":
        """The rows where the mask is true."""
        return RowTable(
            self.document[mask], self.start[mask], self.end[mask], self.index[mask],
            self.first[mask], self.last[mask], self.untokenized,
        )  # fmt: skip


def count_rows(table: TokenTable, granularity: Granularity) -> Ints:
    """How many rows each document of a table gives at most, (d,)."""
    if granularity == "token":
        return table.counts
    return np.array([len(stretches) for stretches in table.stretches], dtype=np.int64)


def make_rows(table: TokenTable, granularity: Granularity, pooling: Pooling) -> RowTable:
    """The rows of every document of a table.

    Words are pooled as `pooling` says, mentions over all their tokens, tokens not at all.
    """
    size = len(table.documents)
    if granularity == "token":
        n = len(table.ids)
        document = np.repeat(np.arange(size), table.counts)
        tokens = np.arange(n)
        index = tokens - table.bounds[document]
        return RowTable(document, table.starts, table.ends, index, tokens, tokens + 1, np.zeros(size, dtype=np.int64))
    counts = count_rows(table, granularity)
    flat = np.fromiter(chain.from_iterable(chain.from_iterable(table.stretches)), np.int64, 2 * int(counts.sum()))
    start, end = flat[0::2], flat[1::2]
    document = np.repeat(np.arange(size), counts)
    index = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    first, last = table.covering(document, start, end)
    kept = last > first
    untokenized = np.bincount(document[~kept], minlength=size).astype(np.int64)
    if granularity == "word" and pooling == "first":
        last = first + 1
    elif granularity == "word" and pooling == "last":
        first = last - 1
    return RowTable(document, start, end, index, first, last, untokenized).keep(kept)
