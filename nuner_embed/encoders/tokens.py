"""From texts to token tables."""

from collections.abc import Callable, Sequence

import numpy as np

from nuner_embed.documents import Document
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.tables import Granularity, Ints, TokenTable
from nuner_embed.words import split_words

# which characters up to U+3000, the last white space of Unicode, are white space; the extra entry serves all beyond
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
    """The tokens of whole texts, with the words or mentions that `granularity` makes rows of."""
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
    """Takes white space off both ends of the slices, except of those that hold nothing else.

    Byte-level BPE and Metaspace tokens count the blank before a word as theirs.
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
