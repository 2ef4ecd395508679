"""Texts cut into tokens, and the rows that tokens make: tokens themselves, words or mentions."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nuner_embed.documents import Document
from nuner_embed.models.recipe import Pooling
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.tables import Granularity, Ints, RowTable, Stretches, TokenTable
from nuner_embed.words import Codes, code_points, word_bounds

# whether each character up to U+3000, the last white space of Unicode, is white space; the last entry is for all others
_IS_SPACE = np.array([*(chr(code).isspace() for code in range(0x3001)), False])


def _words(documents: Sequence[Document], codes: Codes, bases: Ints) -> Stretches:
    """The words that a corpus came in; of other texts, those that `split_words` finds."""
    given = [document.words for document in documents]
    if all(words is not None for words in given):
        return Stretches.of([words or () for words in given])
    start, end = word_bounds(codes)
    document = np.searchsorted(bases, start, side="right") - 1
    found = Stretches(
        np.searchsorted(document, np.arange(len(documents) + 1)), start - bases[document], end - bases[document]
    )
    if all(words is None for words in given):
        return found
    parts = [found.slice(i, i + 1) if words is None else Stretches.of([words]) for i, words in enumerate(given)]
    return Stretches.concatenate(parts)


def _mentions(documents: Sequence[Document], codes: Codes, bases: Ints) -> Stretches:
    return Stretches.of([[(span.start, span.end) for span in document.spans] for document in documents])


_STRETCHES: dict[Granularity, Callable[[Sequence[Document], Codes, Ints], Stretches]] = {
    "token": lambda documents, codes, bases: Stretches.none(len(documents)),
    "word": _words,
    "mention": _mentions,
}


def tokenize(documents: Sequence[Document], tokenizer: TextTokenizer, granularity: Granularity) -> TokenTable:
    """The tokens of whole texts, with the words or mentions that become rows."""
    texts = [document.text for document in documents]
    ids, offsets, counts = tokenizer.encode_joined(texts)
    codes = code_points(texts)
    bases = np.cumsum([0, *(len(text) + 1 for text in texts)], dtype=np.int64)[:-1]
    base = np.repeat(bases, counts)[:, None]
    offsets = _trim(codes, offsets + base) - base
    bounds = np.cumsum([0, *counts], dtype=np.int64)
    stretches = _STRETCHES[granularity](documents, codes, bases)
    return TokenTable(tuple(documents), ids, offsets[:, 0], offsets[:, 1], bounds, stretches)


def _trim(codes: Codes, offsets: Ints) -> Ints:
    """Trims white space off both ends of the slices, except slices of white space alone.

    Byte-level BPE and Metaspace tokens include the blank before a word.
    """
    if not len(offsets):
        return offsets
    space: NDArray[np.bool_] = _IS_SPACE[np.minimum(codes, 0x3001)]
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
    return table.stretches.counts


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
    start, end = table.stretches.start, table.stretches.end
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
