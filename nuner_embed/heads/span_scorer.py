"""The span scorer: how probable it is that some adjacent words are one mention, and of which type.

It reads the embeddings of words alone, so that a text goes through the encoder once, whatever is asked of it. A span is
seen by its first and last word, the words before and after it, the mean of its words and their number. A hidden layer
turns them into one score, for being a mention, and a vector in the space of the concept encoder; the product of that
vector with the vector of a type's name scores the type. `nuner-embed pretrain --objective spans` learns the weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.encoders.text import unit
from nuner_embed.tables import Ints

Floats = NDArray[np.floating[Any]]
Metric = Literal["cosine", "dot"]
WIDTH: Final = 8  # words of the longest span
PARTS: Final = 5  # first word, last word, the one before, the one after, the mean
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Rows:
    """Words of some documents as rows, with a row of zeros before, between and after the documents.

    The words around a span are then the rows around it, and all spans of one length are slices.

    Attributes:
        vectors: (r, dim), with WIDTH further rows of zeros at the end.
        row: of each word, (w,).
        room: for each row, how many words there are from it to the end of its document, WIDTH at most, (r - WIDTH,).
    """

    vectors: Floats
    row: Ints
    room: Ints

    @classmethod
    def of(cls, vectors: Floats, bounds: Ints) -> Self:
        """Lays out words (w, dim) of documents with the words `bounds[i]` to `bounds[i + 1]`, (d + 1,)."""
        documents, words = len(bounds) - 1, len(vectors)
        number = np.arange(words)
        owner = np.repeat(np.arange(documents), np.diff(bounds))
        row = number + owner + 1
        rows = np.zeros((words + documents + 1 + WIDTH, vectors.shape[1]), np.float32)
        rows[row] = vectors
        room = np.zeros(len(rows) - WIDTH, np.int64)
        room[row] = np.minimum(bounds[1:][owner] - number, WIDTH)
        return cls(rows, row, room)

    def spans(self) -> tuple[Ints, Ints]:
        """The first row and the number of words of every span, (s,) each: the shortest spans first."""
        length, first = np.nonzero(self.room >= np.arange(1, WIDTH + 1)[:, None])
        return first, length + 1


@dataclass(frozen=True, slots=True)
class SpanScores:
    """Spans with what a scorer says of them.

    Attributes:
        first: first word, (s,).
        last: one past the last word, (s,).
        mention: log-odds that the span is a mention, (s,).
        vectors: to be multiplied with the vector of a type's name, (s, dim).
    """

    first: Ints
    last: Ints
    mention: Floats
    vectors: Floats


@dataclass(frozen=True, slots=True)
class SpanScorer:
    """The weights of a span scorer.

    Attributes:
        words: projections of the words, (dim, PARTS * hidden): as first, last, one before, one after, in the mean.
        widths: added to the hidden layer by the number of words, (WIDTH, hidden).
        output: (hidden, dim + 1); the last column gives the log-odds of a mention.
        bias: of the output, (dim + 1,).
        agreement: weight of the mean of the span's words in the span's vector.
        intercept: of the log-odds of a type.
        metric: "cosine" where the encoders were trained with vectors of unit length.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.
    """

    words: Floats
    widths: Floats
    output: Floats
    bias: Floats
    agreement: float
    intercept: float
    metric: Metric

    def __post_init__(self) -> None:
        dim, hidden = self.words.shape[0], self.widths.shape[1]
        shapes = (self.words.shape, self.widths.shape, self.output.shape, self.bias.shape)
        if shapes != ((dim, PARTS * hidden), (WIDTH, hidden), (hidden, dim + 1), (dim + 1,)):
            raise ValueError(f"weights of a span scorer of shapes {shapes}")
        arrays = (self.words, self.widths, self.output, self.bias, [self.agreement, self.intercept])
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError("weights that are not finite numbers")

    def score(self, words: WordFeatures, least: float = -np.inf) -> Iterator[SpanScores]:
        """Scores the spans of some documents, those that begin in a few hundred words at a time.

        Args:
            words: of the documents, embedded by the encoder whose words the scorer was trained on.
            least: log-odds of a mention below which a span is left out.
        """
        rows = Rows.of(words.vectors, words.bounds)
        word = np.zeros(len(rows.room), np.int64)
        word[rows.row] = np.arange(len(rows.row))
        for begin in range(1, len(rows.room), _ROWS_AT_ONCE):
            yield self._score(rows, word, begin, min(begin + _ROWS_AT_ONCE, len(rows.room)), least)

    def _score(self, rows: Rows, word: Ints, begin: int, end: int, least: float) -> SpanScores:
        """Scores the spans that begin in some rows; `word` has the number of the word of each row."""
        found = []
        for length, hidden in enumerate(self._hidden(rows.vectors[begin - 1 : end + WIDTH]), start=1):
            mention = hidden @ self.output[:, -1] + self.bias[-1]
            kept = np.flatnonzero((rows.room[begin:end] >= length) & (mention >= least))
            mean = _means(rows.vectors, begin + kept, length)
            if self.metric == "cosine":
                mean = unit(mean)
            of_types = hidden[kept] @ self.output[:, :-1] + self.bias[:-1] + np.float32(self.agreement) * mean
            first = word[begin + kept]
            found.append(SpanScores(first, first + length, mention[kept], of_types))
        return SpanScores(
            np.concatenate([one.first for one in found]),
            np.concatenate([one.last for one in found]),
            np.concatenate([one.mention for one in found]),
            np.concatenate([one.vectors for one in found]),
        )

    def _hidden(self, rows: Floats) -> Iterator[Floats]:
        """The hidden layer of the spans of one word, then of two words, and so on: (r - 1 - WIDTH, hidden).

        Args:
            rows: in which the spans begin, with the row before these and WIDTH rows after them, (r, dim).
        """
        size, count = self.widths.shape[1], len(rows) - 1 - WIDTH
        projected = rows @ self.words
        as_first, as_last, before, after, in_mean = (projected[:, i * size : (i + 1) * size] for i in range(PARTS))
        edge = as_first[1 : 1 + count] + before[:count]
        total = np.zeros_like(edge)
        for length in range(1, WIDTH + 1):
            total += in_mean[length : length + count]
            here = total / np.float32(length)
            here += edge
            here += as_last[length : length + count]
            here += after[length + 1 : length + 1 + count]
            here += self.widths[length - 1]
            yield gelu(here)


def gelu(values: Floats) -> Floats:
    """The activation of the hidden layer, in its approximation by tanh."""
    inner = values * values
    inner *= 0.044715
    inner += 1
    inner *= values
    inner *= np.float32(np.sqrt(2 / np.pi))
    np.tanh(inner, out=inner)
    inner += 1
    inner *= values
    inner *= 0.5
    return inner


def _means(rows: Floats, first: Ints, length: int) -> Floats:
    """The means of `length` rows from `first` on, (s, dim)."""
    total: Floats = rows[first]
    for further in range(1, length):
        total = total + rows[first + further]
    return total / np.float32(length)
