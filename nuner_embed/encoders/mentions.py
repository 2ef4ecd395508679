"""Mentions of texts that nobody annotated: found from the embeddings of words, in the same pass that embeds them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nuner_embed.documents import Span
from nuner_embed.encoders.rows import make_rows
from nuner_embed.encoders.text import TextEncoder, unit
from nuner_embed.runtimes.padding import pool
from nuner_embed.tables import Ints, Overflow, RowEmbeddings, RowTable, TokenTable


@dataclass(frozen=True, slots=True)
class Found:
    """Mentions as runs of words.

    Attributes:
        first: number of the first word of each, (m,).
        last: one past its last, (m,).
        labels: of each; None where the detector tells no types apart.
        scores: of each, (m,).
    """

    first: Ints
    last: Ints
    labels: Sequence[str | None]
    scores: NDArray[np.floating[Any]]


class Detector(Protocol):
    """Says which words are mentions; can be pickled."""

    @property
    def semantic_hash(self) -> str:
        """Of the encoder whose word embeddings it reads."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What it is, as JSON values; a store that was begun with another is not gone on with."""
        ...

    def find(self, words: Sequence[str], vectors: NDArray[np.floating[Any]], bounds: Ints) -> Found:
        """The mentions among words.

        Args:
            words: as they stand in the texts, (n,).
            vectors: of the words, (n, dim).
            bounds: document i has the words `bounds[i]` to `bounds[i + 1]`, (d + 1,).
        """
        ...


def embed_detected(
    encoder: TextEncoder,
    table: TokenTable,
    detector: Detector,
    overflow: Overflow = "window",
    on_batch: Callable[[int], None] = lambda tokens: None,
) -> RowEmbeddings:
    """Embeds the mentions that a detector finds: each the mean of its tokens, as a given one would be.

    The texts go through the encoder once. Each token is taken from the window in which it has most context, also
    those of a mention that would fit into one window.

    Args:
        encoder: its recipe says what a word's embedding is.
        table: made with the granularity "word".
        detector: for this encoder.
        overflow: see `TextEncoder.encode_rows`.
        on_batch: see there.

    Returns:
        The mentions as rows; `found` holds a span for each.
    """
    raw = replace(encoder, recipe=encoder.recipe.replace(normalize=False))
    tokens = raw.encode_rows(table, "token", overflow, on_batch)
    place = np.zeros(len(table.ids), dtype=np.int64)  # of each token among those that have an embedding
    place[tokens.rows.first] = np.arange(len(tokens.vectors))
    limit = table.bounds[1:] - tokens.dropped_tokens  # one past the last such token of each document

    def means(first: Ints, last: Ints) -> NDArray[np.float32]:
        vectors = pool(tokens.vectors[None], np.zeros_like(first), place[first], place[last - 1] + 1)
        return unit(vectors) if encoder.recipe.normalize else vectors

    words = make_rows(table, "word", encoder.recipe.pooling)
    words = words.keep(words.last <= limit[words.document])
    bounds = np.searchsorted(words.document, np.arange(len(table.documents) + 1))
    texts = [
        table.documents[document].text[start:end]
        for document, start, end in zip(words.document.tolist(), words.start.tolist(), words.end.tolist(), strict=True)
    ]
    found = detector.find(texts, means(words.first, words.last), bounds)
    document, start, end = words.document[found.first], words.start[found.first], words.end[found.last - 1]
    first, whole = table.covering(document, start, end)
    last = np.minimum(whole, limit[document])
    index = np.arange(len(document)) - np.searchsorted(document, document)
    rows = RowTable(document, start, end, index, first, last, np.zeros(len(table.documents), dtype=np.int64))
    at = place[first]  # where a mention's first token was taken from, for what is said of windows
    placement = replace(
        tokens.placement,
        window=tokens.placement.window[at],
        first=tokens.placement.first[at],
        last=tokens.placement.last[at],
        cut=last < whole,
    )
    spans = [
        Span(int(a), int(b), label, float(score))
        for a, b, label, score in zip(start, end, found.labels, found.scores, strict=True)
    ]
    return replace(
        tokens,
        rows=rows,
        vectors=means(first, last),
        placement=placement,
        dropped_rows=np.zeros(len(table.documents), dtype=np.int64),
        found=tuple(spans),
    )
