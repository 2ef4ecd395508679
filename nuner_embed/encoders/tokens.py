"""Texts cut into tokens, and the rows that tokens make: tokens themselves, words or mentions."""

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np

from nuner_embed.documents import Document, split_words
from nuner_embed.models.recipe import Pooling
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.tables import Granularity, Ints, RowTable, TokenTable

# whether each character up to U+3000, the last white space of Unicode, is white space; the last entry is for all others
_IS_SPACE = np.array([*(chr(code).isspace() for code in range(0x3001)), False])


def _words(document: Document) -> Sequence[tuple[int, int]]:
    return document.words if document.words is not None else split_words(document.text)


def _mentions(document: Document) -> Sequence[tuple[int, int]]:
    return [(span.start, span.end) for span in document.spans]


_STRETCHES: dict[Granularity, Callable[[Document], Sequence[tuple[int, int]]]] = {
    "token": lambda document: (),
    "word": _words,
    "mention": _mentions,
}


def tokenize(documents: Sequence[Document], tokenizer: TextTokenizer, granularity: Granularity) -> TokenTable:
    """The tokens of whole texts, with the words or mentions that become rows."""
    stretches = _STRETCHES[granularity]
    texts = [document.text for document in documents]
    encoded = tokenizer.encode(texts)
    counts = [len(ids) for ids, _ in encoded]
    ids = np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in encoded)])
    offsets = np.concatenate([np.empty((0, 2), np.int64), *(offsets for _, offsets in encoded)])
    base = np.repeat(np.cumsum([0, *map(len, texts)], dtype=np.int64)[:-1], counts)[:, None]
    offsets = _trim("".join(texts), offsets + base) - base
    bounds = np.cumsum([0, *counts], dtype=np.int64)
    return TokenTable(tuple(documents), ids, offsets[:, 0], offsets[:, 1], bounds, tuple(map(stretches, documents)))


def _trim(text: str, offsets: Ints) -> Ints:
    """Trims white space off both ends of the slices, except slices of white space alone.

    Byte-level BPE and Metaspace tokens include the blank before a word.
    """
    if not len(offsets):
        return offsets
    space = _IS_SPACE[np.minimum(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32), 0x3001)]
    ink = np.concatenate([[0], np.cumsum(~space)])
    inked = ink[offsets[:, 1]] > ink[offsets[:, 0]]
    if inked.all() and not (space[offsets[:, 0]] | space[offsets[:, 1] - 1]).any():
        return offsets
    places = np.flatnonzero(~space)
    trimmed = offsets.copy()
    trimmed[inked, 0] = places[ink[offsets[inked, 0]]]
    trimmed[inked, 1] = places[ink[offsets[inked, 1]] - 1] + 1
    return trimmed


def count_rows(table: TokenTable, granularity: Granularity) -> Ints:
    """The largest number of rows that each document of a table can give, (d,)."""
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
