"""Detected mentions: found from the embeddings of words, and embedded in the same pass."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.documents import Document, Span
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.encoders.tokens import make_rows
from nuner_embed.models.recipe import Pooling
from nuner_embed.runtimes.base import RowFormat
from nuner_embed.runtimes.padding import pool
from nuner_embed.tables import Dtype, Ints, Overflow, RowEmbeddings, RowTable, TokenTable

_WORDS_AT_ONCE = 8192  # whose vectors take 12 MiB of 384 numbers each: the C library uses such memory again


@dataclass(frozen=True, slots=True)
class WordFeatures:
    """The words of some documents, with their embeddings.

    Attributes:
        bounds: (d + 1,); document i has the words `bounds[i]` to `bounds[i + 1]`.
        start: first character of each word in its document, (n,).
        end: one past its last character, (n,).
        vectors: (n, dim) float32.
    """

    bounds: Ints
    start: Ints
    end: Ints
    vectors: NDArray[np.floating[Any]]

    def words(self, document: int) -> list[tuple[int, int]]:
        """`(start, end)` of each word of a document."""
        here = slice(self.bounds[document], self.bounds[document + 1])
        return list(zip(self.start[here].tolist(), self.end[here].tolist(), strict=True))

    def take(self, documents: NDArray[np.intp]) -> NDArray[np.intp]:
        """The indices of the words of some documents, in the order given."""
        return np.concatenate(
            [np.empty(0, np.intp), *(np.arange(self.bounds[i], self.bounds[i + 1]) for i in documents)]
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Mentions as character offsets, grouped by document, in the order of the documents.

    Attributes:
        document: number of the document of each mention, (m,).
        start: first character, (m,).
        end: one past the last character, (m,).
        labels: of each mention; None where the finder knows no types.
        scores: of each mention, (m,).
    """

    document: Ints
    start: Ints
    end: Ints
    labels: Sequence[str | None]
    scores: NDArray[np.floating[Any]]

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The mentions of several groups of documents, at least one, whose documents are numbered throughout."""
        return cls(
            np.concatenate([part.document for part in parts]),
            np.concatenate([part.start for part in parts]),
            np.concatenate([part.end for part in parts]),
            [label for part in parts for label in part.labels],
            np.concatenate([part.scores for part in parts]),
        )


def _groups(bounds: Ints) -> Iterator[tuple[int, int]]:
    """Cuts documents into groups of about `_WORDS_AT_ONCE` words; at least one group, even of no document.

    Args:
        bounds: document i has the words `bounds[i]` to `bounds[i + 1]`, (d + 1,).

    Yields:
        The number of the first document of a group, and one past its last.
    """
    begin, documents = 0, len(bounds) - 1
    while True:
        end = int(np.searchsorted(bounds, bounds[begin] + _WORDS_AT_ONCE, side="right")) - 1
        end = min(documents, max(begin + 1, end))
        yield begin, end
        if end >= documents:
            return
        begin = end


class SpanFinder(Protocol):
    """Finds the words that are mentions; can be pickled."""

    @property
    def semantic_hash(self) -> str:
        """The semantic hash of the encoder whose word embeddings the finder reads."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """A description of the finder as JSON values; a store begun with another finder is not continued."""
        ...

    def find(self, documents: Sequence[Document], words: WordFeatures) -> Found:
        """The mentions in documents whose words were embedded; those of a document depend on this document alone."""
        ...


def embed_detected(
    encoder: TextEncoder,
    table: TokenTable,
    detector: SpanFinder,
    overflow: Overflow = "window",
    on_batch: Callable[[int], None] = lambda tokens: None,
    dtype: Dtype = "float32",
) -> RowEmbeddings:
    """Embeds the mentions that a detector finds; each row is the mean of the mention's tokens.

    The texts go through the encoder once. Each token is taken from the window in which the token has most context, even
    where the whole mention fits into one window.

    Args:
        encoder: its recipe says what a word's embedding is.
        table: made with the granularity "word".
        detector: for this encoder.
        overflow: see `TextEncoder.encode_rows`.
        on_batch: see `TextEncoder.encode_rows`.
        dtype: of the mentions' vectors, which are averaged from float32.

    Returns:
        The mentions as rows; `found` holds a span for each.
    """
    tokens = EmbeddedTokens.of(encoder, table, overflow, on_batch)
    return tokens.mentions(tokens.find(detector, encoder.recipe.pooling), dtype)


@dataclass(frozen=True, slots=True)
class EmbeddedTokens:
    """The embedded tokens of a table, from which the vectors of words and mentions are pooled.

    Attributes:
        table: all tokens, (t,).
        embedded: the tokens that were not truncated, as rows, (e,); the vectors are not normalized.
        place: the row of each embedded token, (t,).
        limit: one past the last embedded token of each document, (d,).
        normalize: whether pooled vectors are scaled to unit length.
    """

    table: TokenTable
    embedded: RowEmbeddings
    place: Ints
    limit: Ints
    normalize: bool

    @classmethod
    def of(cls, encoder: TextEncoder, table: TokenTable, overflow: Overflow, on_batch: Callable[[int], None]) -> Self:
        """Embeds the tokens of a table."""
        raw = replace(encoder, recipe=encoder.recipe.replace(normalize=False))
        embedded = raw.encode_rows(table, "token", overflow, on_batch)
        place = np.zeros(len(table.ids), dtype=np.int64)
        place[embedded.rows.first] = np.arange(len(embedded.vectors))
        return cls(table, embedded, place, table.bounds[1:] - embedded.dropped_tokens, encoder.recipe.normalize)

    def means(self, first: Ints, last: Ints, dtype: Dtype = "float32") -> NDArray[np.floating[Any]]:
        """The mean vectors of the tokens `first` to `last` - 1, (n, dim)."""
        vectors = pool(self.embedded.vectors[None], np.zeros_like(first), self.place[first], self.place[last - 1] + 1)
        return RowFormat(dtype, self.normalize).apply(vectors)

    def words(self, pooling: Pooling) -> RowTable:
        """The words that are wholly embedded; `means(words.first, words.last)` are their vectors."""
        words = make_rows(self.table, "word", pooling)
        return words.keep(words.last <= self.limit[words.document])

    def find(self, detector: SpanFinder, pooling: Pooling) -> Found:
        """What a detector finds in all documents, some documents after the others: few words' vectors stay in memory.

        Args:
            detector: see `embed_detected`.
            pooling: of the tokens of a word.
        """
        words = self.words(pooling)
        bounds = np.searchsorted(words.document, np.arange(len(self.table.documents) + 1))
        found = []
        for begin, end in _groups(bounds):
            some = slice(bounds[begin], bounds[end])
            vectors = self.means(words.first[some], words.last[some])
            features = WordFeatures(
                bounds[begin : end + 1] - bounds[begin], words.start[some], words.end[some], vectors
            )
            part = detector.find(self.table.documents[begin:end], features)
            found.append(replace(part, document=part.document + begin))
        return Found.concatenate(found)

    def mentions(self, found: Found, dtype: Dtype) -> RowEmbeddings:
        """The mentions as rows, without those that have no embedded token."""
        first, whole = self.table.covering(found.document, found.start, found.end)
        kept = (first < whole) & (first < self.limit[found.document])
        document, start, end = found.document[kept], found.start[kept], found.end[kept]
        first, whole = first[kept], whole[kept]
        last = np.minimum(whole, self.limit[document])
        index = np.arange(len(document)) - np.searchsorted(document, document)
        none = np.zeros(len(self.table.documents), dtype=np.int64)
        at = self.place[first]  # windows are reported for the first token of a mention
        windows = self.embedded.placement
        spans = zip(start, end, compress(found.labels, kept), found.scores[kept], strict=True)
        return replace(
            self.embedded,
            rows=RowTable(document, start, end, index, first, last, none),
            vectors=self.means(first, last, dtype),
            placement=replace(
                windows, window=windows.window[at], first=windows.first[at], last=windows.last[at], cut=last < whole
            ),
            dropped_rows=none,
            found=tuple(Span(int(a), int(b), label, float(score)) for a, b, label, score in spans),
        )
