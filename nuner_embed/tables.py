"""Tokens, rows and embeddings of many documents as flat arrays: the shapes that encoders, jobs and stores share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.documents import Document, Span

Dtype = Literal["float16", "float32"]  # of rows
Granularity = Literal["token", "word", "mention"]
Overflow = Literal["window", "truncate", "error"]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stretches:
    """Runs of characters of some documents, such as words, grouped by document.

    Attributes:
        bounds: (d + 1,); document i has the stretches `bounds[i]` to `bounds[i + 1]`.
        start: first character of each stretch in its own document, (n,).
        end: one past its last character, (n,).
    """

    bounds: Ints
    start: Ints
    end: Ints

    @classmethod
    def none(cls, documents: int) -> Self:
        """No stretch in any document."""
        return cls(np.zeros(documents + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))

    @classmethod
    def of(cls, pairs: Sequence[Sequence[tuple[int, int]]]) -> Self:
        """The `(start, end)` pairs of each document."""
        bounds = np.cumsum([0, *map(len, pairs)], dtype=np.int64)
        flat = np.fromiter(chain.from_iterable(chain.from_iterable(pairs)), np.int64, 2 * int(bounds[-1]))
        return cls(bounds, flat[0::2], flat[1::2])

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The stretches of the documents of several."""
        return cls(
            _joined_bounds([part.bounds for part in parts]),
            np.concatenate([np.empty(0, np.int64), *(part.start for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.end for part in parts)]),
        )

    def slice(self, first: int, last: int) -> Self:
        """Those of the documents `first` to `last`, `last` excluded."""
        a, b = self.bounds[first], self.bounds[last]
        return type(self)(self.bounds[first : last + 1] - a, self.start[a:b], self.end[a:b])

    @property
    def counts(self) -> Ints:
        """Stretches of each document, (d,)."""
        return np.diff(self.bounds)


def _joined_bounds(parts: Sequence[Ints]) -> Ints:
    shifts = np.cumsum([0, *(bounds[-1] for bounds in parts)])
    return np.concatenate([[0], *(bounds[1:] + shift for bounds, shift in zip(parts, shifts[:-1], strict=True))])


@dataclass(frozen=True)
class TokenTable:
    """The tokens of some documents, one after the other, special tokens left out.

    Attributes:
        documents: d of them.
        ids: token ids, (n,).
        starts: first character of each token in its own document, (n,).
        ends: one past its last character, (n,). The slice has no white space at its ends.
        bounds: (d + 1,); document i has the tokens `bounds[i]` to `bounds[i + 1]`.
        stretches: the words or mentions that become rows; none where rows are tokens.
    """

    documents: tuple[Document, ...] = field(repr=False)
    ids: NDArray[np.int32]
    starts: Ints
    ends: Ints
    bounds: Ints
    stretches: Stretches = field(repr=False)

    @classmethod
    def concatenate(cls, tables: Sequence[Self]) -> Self:
        """One table of the documents of several."""
        return cls(
            tuple(document for table in tables for document in table.documents),
            np.concatenate([np.empty(0, np.int32), *(table.ids for table in tables)]),
            np.concatenate([np.empty(0, np.int64), *(table.starts for table in tables)]),
            np.concatenate([np.empty(0, np.int64), *(table.ends for table in tables)]),
            _joined_bounds([table.bounds for table in tables]),
            Stretches.concatenate([table.stretches for table in tables]),
        )

    def slice(self, first: int, last: int) -> Self:
        """The documents `first` to `last`, `last` excluded."""
        a, b = self.bounds[first], self.bounds[last]
        return type(self)(
            self.documents[first:last],
            self.ids[a:b],
            self.starts[a:b],
            self.ends[a:b],
            self.bounds[first : last + 1] - a,
            self.stretches.slice(first, last),
        )

    @cached_property
    def counts(self) -> Ints:
        """Tokens of each document, (d,)."""
        return np.diff(self.bounds)

    @cached_property
    def bases(self) -> Ints:
        """Where each text begins if all are joined with one character between them, (d,)."""
        lengths = np.array([len(document.text) + 1 for document in self.documents], dtype=np.int64)
        return np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(lengths) else lengths

    def covering(self, document: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints]:
        """The tokens that share a character with each stretch `[start, end)` of a document.

        Args:
            document: the document of each stretch, (m,).
            start: first character, (m,).
            end: one past the last, (m,).

        Returns:
            First token and one past the last, as indices into this table, (m,) each; equal where there is no token.
        """
        base = np.repeat(self.bases, self.counts)
        # Offsets of neighbours may fall back by a character where a normalizer reorders marks.
        ends = np.maximum.accumulate(self.ends + base)
        starts = np.minimum.accumulate((self.starts + base)[::-1])[::-1]
        shift = self.bases[document]
        first = np.searchsorted(ends, start + shift, side="right")
        last = np.searchsorted(starts, end + shift, side="left")
        return first, np.maximum(first, last)


@dataclass(frozen=True, slots=True)
class RowTable:
    """Rows over a token table, in document order.

    Attributes:
        document: index of each row's document, (m,).
        start: first character in the text, (m,).
        end: one past the last, (m,).
        index: number of the token, word or span within its document, from 0, (m,).
        first: first token that the row's embedding is the mean of, as an index into the token table, (m,).
        last: one past the last such token, (m,).
        untokenized: words or mentions of each document that have no token, such as a lone zero-width character, and
            so no row, (d,).
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


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows: runs of tokens that are encoded together.

    Attributes:
        start: first token, as an index into the token table, (w,).
        length: tokens, special tokens not counted, (w,).
    """

    start: Ints
    length: Ints


@dataclass(frozen=True, slots=True)
class Placement:
    """The window that each stretch of tokens is taken from.

    Attributes:
        windows: all windows; those of each document in order, then those made for single stretches.
        counts: windows of each document's text, (d,).
        window: index into `windows` for each stretch, (m,).
        first: first token of the stretch within its window, (m,).
        last: one past its last token within its window, (m,).
        cut: whether only the first tokens of a stretch are used, (m,) bool.
    """

    windows: Windows
    counts: Ints
    window: Ints
    first: Ints
    last: Ints
    cut: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class TokenEmbeddings:
    """The token embeddings of one document.

    Attributes:
        document_id: of the document.
        offsets: `text[start:end]` of each token, (n, 2).
        vectors: (n, dim) float32.
    """

    document_id: str
    offsets: Ints
    vectors: NDArray[np.float32]

    def __repr__(self) -> str:
        return f"TokenEmbeddings({self.document_id!r}, {len(self.offsets)} tokens, dim {self.vectors.shape[1]})"


@dataclass(slots=True)
class RunStatistics:
    """Statistics of encoding some rows.

    Attributes:
        tokens: tokens that went through the encoder, special tokens and overlaps included.
        padding: padding tokens that went with them.
        batch_tokens: the batch budget at the end, in tokens.
        reduced: whether memory ran out and the budget is smaller than at the start.
    """

    tokens: int = 0
    padding: int = 0
    batch_tokens: int = 0
    reduced: bool = False


@dataclass(frozen=True, slots=True)
class RowEmbeddings:
    """The embedded rows of some documents.

    Attributes:
        rows: what the rows are, m of them.
        vectors: (m, dim), float32 or, on request, float16.
        placement: the windows that the rows were taken from.
        dropped_tokens: tokens of each document beyond the window, where texts are truncated, (d,).
        dropped_rows: rows of each document beyond the window, (d,).
        statistics: of the run.
        found: the span of each row, where a detector found the mentions; None otherwise.
    """

    rows: RowTable
    vectors: NDArray[np.floating[Any]]
    placement: Placement
    dropped_tokens: Ints
    dropped_rows: Ints
    statistics: RunStatistics
    found: tuple[Span, ...] | None = None
