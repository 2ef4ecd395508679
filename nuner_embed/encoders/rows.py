"""Which rows a store gets from a document: its tokens, its words or its mentions."""

from itertools import chain

import numpy as np

from nuner_embed.models.recipe import Pooling
from nuner_embed.tables import Granularity, Ints, RowTable, TokenTable


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
