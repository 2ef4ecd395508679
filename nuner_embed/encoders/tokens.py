"""Tokens of many documents as flat arrays: everything later is arithmetic on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.documents import Document
from nuner_embed.words import split_words

if TYPE_CHECKING:
    from nuner_embed.models.tokenizer import TextTokenizer

Granularity = Literal["token", "word", "mention"]
Ints = NDArray[np.int64]
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


@dataclass(frozen=True)
class TokenTable:
    """The tokens of some documents, one after the other, special tokens left out.

    Attributes:
        documents: d of them.
        ids: token ids, (n,).
        starts: first character of each token in its own document, (n,).
        ends: one past its last character, (n,). The slice carries no white space at its ends.
        bounds: (d + 1,); document i has the tokens `bounds[i]` to `bounds[i + 1]`.
        stretches: `(start, end)` of the words or mentions of each document that are to become rows; empty where
            the tokens themselves do.
    """

    documents: tuple[Document, ...] = field(repr=False)
    ids: NDArray[np.int32]
    starts: Ints
    ends: Ints
    bounds: Ints
    stretches: tuple[Sequence[tuple[int, int]], ...] = field(repr=False)

    @classmethod
    def tokenize(cls, documents: Sequence[Document], tokenizer: "TextTokenizer", granularity: Granularity) -> Self:
        """Tokenizes whole texts, and finds the words or mentions that `granularity` asks for."""
        stretches = _STRETCHES[granularity]
        texts = [document.text for document in documents]
        encoded = tokenizer.encode(texts)
        counts = [len(ids) for ids, _ in encoded]
        ids = np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in encoded)])
        offsets = np.concatenate([np.empty((0, 2), np.int64), *(offsets for _, offsets in encoded)])
        base = np.repeat(np.cumsum([0, *map(len, texts)], dtype=np.int64)[:-1], counts)[:, None]
        offsets = _trim("".join(texts), offsets + base) - base
        bounds = np.cumsum([0, *counts], dtype=np.int64)
        return cls(tuple(documents), ids, offsets[:, 0], offsets[:, 1], bounds, tuple(map(stretches, documents)))

    @classmethod
    def concatenate(cls, tables: Sequence[Self]) -> Self:
        """One table of the documents of several."""
        shifts = np.cumsum([0, *(len(table.ids) for table in tables)])
        return cls(
            tuple(document for table in tables for document in table.documents),
            np.concatenate([np.empty(0, np.int32), *(table.ids for table in tables)]),
            np.concatenate([np.empty(0, np.int64), *(table.starts for table in tables)]),
            np.concatenate([np.empty(0, np.int64), *(table.ends for table in tables)]),
            np.concatenate([[0], *(t.bounds[1:] + shift for t, shift in zip(tables, shifts[:-1], strict=True))]),
            tuple(stretches for table in tables for stretches in table.stretches),
        )

    def slice(self, first: int, last: int) -> Self:
        """The documents `first` to `last`, the latter left out."""
        a, b = self.bounds[first], self.bounds[last]
        return type(self)(
            self.documents[first:last],
            self.ids[a:b],
            self.starts[a:b],
            self.ends[a:b],
            self.bounds[first : last + 1] - a,
            self.stretches[first:last],
        )

    @cached_property
    def counts(self) -> Ints:
        """Tokens of each document, (d,)."""
        return np.diff(self.bounds)

    @cached_property
    def bases(self) -> Ints:
        """Where each text would begin if all stood in one string with a gap after each, (d,)."""
        lengths = np.array([len(document.text) + 1 for document in self.documents], dtype=np.int64)
        return np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(lengths) else lengths

    def covering(self, document: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints]:
        """The tokens that share a character with each stretch `[start, end)` of a document.

        Args:
            document: which document each stretch stands in, (m,).
            start: first character, (m,).
            end: one past the last, (m,).

        Returns:
            First token and one past the last, as indices into this table, (m,) each; equal where there is none.
        """
        base = np.repeat(self.bases, self.counts)
        # Offsets of neighbours may fall back by a character where a normalizer reorders marks.
        ends = np.maximum.accumulate(self.ends + base)
        starts = np.minimum.accumulate((self.starts + base)[::-1])[::-1]
        shift = self.bases[document]
        first = np.searchsorted(ends, start + shift, side="right")
        last = np.searchsorted(starts, end + shift, side="left")
        return first, np.maximum(first, last)


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
