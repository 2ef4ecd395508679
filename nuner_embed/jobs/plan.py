"""How a corpus is cut into shards, and the estimated size of the store."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from nuner_embed.corpora.corpus import Survey
from nuner_embed.documents import Document
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.encoders.tokens import count_rows
from nuner_embed.encoders.windows import count_windows
from nuner_embed.errors import StoreError
from nuner_embed.jobs.options import JobOptions
from nuner_embed.tables import TokenTable

_CHUNK_DOCUMENTS = 256
_CHUNK_CHARACTERS = 1 << 20
# A document without rows still takes memory: about a quarter of a row for each token.
_TOKENS_A_ROW = 4
# Bytes of the rows' table for each row on disk, zstd-compressed; measured on mentions and words of books.
_TABLE_BYTES_A_ROW = 16
# Mentions that a detector finds for each word; an LLM that was asked for all concepts found 0.3 in our data.
_MENTIONS_A_WORD = 0.3


def cut_shards(documents: Iterable[Document], encoder: TextEncoder, options: JobOptions) -> Iterator[TokenTable]:
    """Tokenizes documents and groups them, in order, into shards of about `options.shard_rows` rows.

    A shard ends with the document that fills it, so its end depends only on the documents since the last shard.
    Documents with few or no rows count by their tokens, which bounds the memory.

    Raises:
        StoreError: a text is longer than a window and the overflow is "error".
    """
    granularity, shard_rows = options.tokenized, options.shard_rows
    parts: list[TokenTable] = []
    weight = 0
    for chunk in _chunks(documents):
        table = encoder.tokenize(chunk, granularity)
        if options.overflow == "error":
            _require_short(table, encoder.capacity)
        rows = count_rows(table, granularity)
        sums = np.cumsum(np.maximum(np.maximum(rows, -(-table.counts // _TOKENS_A_ROW)), 1))
        first = 0
        while len(sums) > first and weight + sums[-1] - (sums[first - 1] if first else 0) >= shard_rows:
            before = sums[first - 1] if first else 0
            last = int(np.searchsorted(sums, shard_rows - weight + before)) + 1
            yield TokenTable.concatenate([*parts, table.slice(first, last)])
            parts, weight, first = [], 0, last
        if first < len(chunk):
            parts.append(table.slice(first, len(chunk)))
            weight += int(sums[-1] - (sums[first - 1] if first else 0))
    if parts:
        yield TokenTable.concatenate(parts)


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Groups of documents for one call of the tokenizer: enough for all cores, bounded by characters."""
    chunk: list[Document] = []
    characters = 0
    for document in documents:
        chunk.append(document)
        characters += len(document.text)
        if len(chunk) >= _CHUNK_DOCUMENTS or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _require_short(table: TokenTable, capacity: int) -> None:
    long = np.flatnonzero(table.counts > capacity)
    if len(long):
        raise StoreError(
            f"document {table.documents[long[0]].id} has {table.counts[long[0]]} tokens, a window holds {capacity}; "
            "--overflow window encodes it in overlapping windows"
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """The size of a job, estimated from a sample of the documents.

    Attributes:
        rows: number of rows; an upper bound for mentions.
        tokens: tokens that go through the encoder, special tokens and overlaps included.
        store_bytes: size of the shards.
    """

    rows: int
    tokens: int
    store_bytes: int


def estimate(survey: Survey, encoder: TextEncoder, options: JobOptions) -> Estimate:
    """Scales the rows and tokens of the survey's sample to the whole corpus."""
    characters = rows = tokens = 0
    sample = iter(survey.sample)
    while chunk := list(islice(sample, _CHUNK_DOCUMENTS)):
        table = encoder.tokenize(chunk, options.tokenized)
        sizes = np.minimum(table.counts, encoder.capacity) if options.overflow == "truncate" else table.counts
        windows = count_windows(sizes, encoder.capacity, encoder.recipe.stride)
        overlaps = np.maximum(windows - 1, 0) * encoder.recipe.stride
        characters += sum(len(document.text) for document in chunk)
        rows += (count_rows(table, options.tokenized) * sizes / np.maximum(table.counts, 1)).sum()
        tokens += (sizes + overlaps + windows * encoder.tokenizer.specials).sum()
    share = _MENTIONS_A_WORD if options.detector else 1
    of_mentions = options.tokenized == "mention"
    characters = max(1, characters)
    total = survey.spans if of_mentions else round(share * rows * survey.characters / characters)
    # texts without mentions are not run
    run = tokens * (survey.annotated_characters if of_mentions else survey.characters) / characters
    width = np.dtype(options.dtype).itemsize * encoder.dim + _TABLE_BYTES_A_ROW
    return Estimate(total, round(run), total * width)
