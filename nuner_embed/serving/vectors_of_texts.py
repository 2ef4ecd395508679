"""Vectors of whole texts and of mentions, one for each input of a request."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuner_embed.documents import Document, Span
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.encoders.tokens import make_rows
from nuner_embed.runtimes.base import RowFormat
from nuner_embed.serving.contracts import Bounds
from nuner_embed.serving.failures import Refused
from nuner_embed.serving.inputs import require_few_numbers, require_few_tokens
from nuner_embed.tables import TokenTable

Vectors = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of some inputs.

    Attributes:
        vectors: (inputs, dim) float32.
        tokens: of all texts, special tokens left out.
    """

    vectors: Vectors
    tokens: int


def embed_texts(encoder: TextEncoder, documents: Sequence[Document], bounds: Bounds) -> Embedded:
    """The mean of the token vectors of each text, of length 1 if the recipe of the encoder says so.

    A text that fits into one window is pooled as a mention that covers the whole text. The tokens of a longer text are
    taken from the windows in which they have most context.

    Raises:
        Refused: a text without a token, or too many tokens or numbers.
    """
    for number, document in enumerate(documents):
        if not document.text:
            raise Refused(422, f"input, text {number}: the text is empty")
    whole = [replace(document, spans=(Span(0, len(document.text)),)) for document in documents]
    table = _tokenized(encoder, whole, bounds)
    long = np.flatnonzero(table.counts > encoder.capacity)
    if not len(long):
        return Embedded(encoder.encode_rows(table, "mention").vectors, len(table.ids))
    vectors = np.empty((len(whole), encoder.dim), np.float32)
    short = np.flatnonzero(table.counts <= encoder.capacity)
    if len(short):
        few = encoder.tokenize([whole[i] for i in short], "mention")
        vectors[short] = encoder.encode_rows(few, "mention").vectors
    vectors[long] = _means(encoder, [whole[i] for i in long])
    return Embedded(vectors, len(table.ids))


def embed_mentions_alone(encoder: TextEncoder, documents: Sequence[Document], bounds: Bounds) -> Embedded:
    """The vector of the one mention of each document: the mean of its tokens, as `encode --rows mention` has it.

    Raises:
        Refused: a mention without a token, or too many tokens or numbers.
    """
    table = _tokenized(encoder, documents, bounds)
    return Embedded(encoder.encode_rows(table, "mention").vectors, len(table.ids))


def _tokenized(encoder: TextEncoder, documents: Sequence[Document], bounds: Bounds) -> TokenTable:
    """The tokens of documents with one span each, which stands for at least one token."""
    require_few_numbers(len(documents), encoder.dim)
    table = encoder.tokenize(documents, "mention")
    require_few_tokens(table, bounds)
    untokenized = np.flatnonzero(make_rows(table, "mention", encoder.recipe.pooling).untokenized)
    if len(untokenized):
        document = documents[untokenized[0]]
        (span,) = document.spans
        found = document.text[span.start : span.end][:60]
        raise Refused(422, f"input, text {untokenized[0]}: there is no token in {found!r}, so it has no vector")
    return table


def _means(encoder: TextEncoder, documents: Sequence[Document]) -> Vectors:
    """The mean of the token vectors of long texts, (d, dim)."""
    raw = replace(encoder, recipe=encoder.recipe.replace(normalize=False))
    rows = make_rows(encoder.tokenize(documents, "mention"), "mention", encoder.recipe.pooling)
    tokens = raw.encode_rows(raw.tokenize(documents, "token"), "token").vectors
    means = [tokens[a:b].mean(axis=0) for a, b in zip(rows.first, rows.last, strict=True)]
    return RowFormat(normalize=encoder.recipe.normalize).apply(np.array(means, np.float32))
