"""Shards: each a matrix of vectors, a table of rows and a table of documents."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nuner_embed.arrays import all_finite, write_array
from nuner_embed.documents import ContentHash, Document, Span
from nuner_embed.errors import StoreError
from nuner_embed.files import naming, open_own, sha256_of, sync
from nuner_embed.metadata import Count, Positive, Sha256
from nuner_embed.store.layout import SUFFIXES, Suffix, temporary_path
from nuner_embed.store.slices import slices_as_arrow
from nuner_embed.tables import Granularity, RowTable, TokenTable

if TYPE_CHECKING:
    from nuner_embed.tables import RowEmbeddings

# Rows in a row group; a reader that looks up rows reads whole groups.
GROUP_ROWS = 8192
Hashes = dict[Suffix, Sha256]
Sizes = dict[Suffix, Count]


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """A finished shard, as in the journal.

    Attributes:
        name: file name without its suffix.
        rows: number of rows.
        documents: number of consecutive documents of the corpus in the shard.
        content_sha256: of these documents.
        sha256: of each file, by suffix.
        bytes: of each file, by suffix.
        tokens: that went through the encoder.
        padding: padding tokens besides.
        windows: number of windows of the texts.
        covered: lines of the shard in `coverage.jsonl`.
        batch_tokens: the reduced batch budget if memory ran out, else None.
    """

    name: str
    rows: Count
    documents: Count
    content_sha256: Sha256
    sha256: Hashes
    bytes: Sizes
    tokens: Count
    padding: Count
    windows: Count
    covered: Count
    batch_tokens: Positive | None

    def __post_init__(self) -> None:
        require_files_of(self)


class _WithFiles(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> Hashes: ...
    @property
    def bytes(self) -> Sizes: ...


def require_files_of(shard: _WithFiles) -> None:
    """Refuses a shard whose hashes or sizes are not those of its three files.

    Raises:
        ValueError: naming it.
    """
    for values in (shard.sha256, shard.bytes):
        if set(values) != set(SUFFIXES):
            raise ValueError(f"{shard.name!r} must name the files {', '.join(SUFFIXES)}, not {', '.join(values)}")


@dataclass(frozen=True, slots=True)
class Covered:
    """A line of `coverage.jsonl`: a document that has several windows, or parts without an embedding.

    Attributes:
        document_id: of the document.
        tokens: of the document.
        windows: of the document.
        dropped_tokens: tokens without an embedding.
        dropped_rows: rows left out because their tokens were dropped.
        untokenized_rows: words or mentions without a token.
        cut_mentions: mentions of which a part was dropped.
    """

    document_id: str
    tokens: Count
    windows: Count
    dropped_tokens: Count
    dropped_rows: Count
    untokenized_rows: Count
    cut_mentions: Count


def write_shard(
    directory: Path, name: str, table: TokenTable, embedded: "RowEmbeddings", granularity: Granularity
) -> tuple[ShardEntry, list[str], dict[Suffix, Path]]:
    """Writes and syncs the files of a shard under temporary names.

    Returns:
        The shard's entry, its lines for `coverage.jsonl`, and the temporary path by suffix.
    """
    paths = {suffix: temporary_path(directory, name, suffix) for suffix in SUFFIXES}
    with naming(directory / f"{name}.npy"), open_own(paths["npy"], "xb") as stream:
        write_array(stream, embedded.vectors)
        sync(stream)
    tables: dict[Suffix, pa.Table] = {
        "parquet": rows_as_arrow(table, embedded, granularity),
        "documents.parquet": documents_as_arrow(table.documents),
    }
    for suffix, written in tables.items():
        with naming(directory / f"{name}.{suffix}"), open_own(paths[suffix], "xb") as stream:
            pq.write_table(written, stream, compression="zstd", row_group_size=GROUP_ROWS)
            sync(stream)
    content = ContentHash()
    for document in table.documents:
        content.add(document)
    coverage = list(_coverage(table, embedded))
    reduced = embedded.statistics.batch_tokens
    entry = ShardEntry(
        name=name,
        rows=len(tables["parquet"]),
        documents=len(table.documents),
        content_sha256=content.hexdigest(),
        sha256={suffix: sha256_of(path) for suffix, path in paths.items()},
        bytes={suffix: path.stat().st_size for suffix, path in paths.items()},
        tokens=embedded.statistics.tokens,
        padding=embedded.statistics.padding,
        windows=int(embedded.placement.counts.sum()),
        covered=len(coverage),
        batch_tokens=reduced if embedded.statistics.reduced else None,
    )
    return entry, coverage, paths


def require_finite(embedded: "RowEmbeddings", name: str) -> None:
    """Raises StoreError, naming the shard, if a number of its vectors is not finite in their dtype.

    A number that was too large for float16 is infinite there, and one that was infinite before is NaN.
    """
    vectors = embedded.vectors
    if all_finite(vectors):
        return
    if vectors.dtype == np.float16 and not np.isnan(vectors).any():
        raise StoreError(f"{name}: a number is too large for float16; use --dtype float32")
    raise StoreError(
        f"{name}: the encoder gave a number that is not finite; the cause is its weights, or a precision other than f32"
    )


def rows_as_arrow(table: TokenTable, embedded: "RowEmbeddings", granularity: Granularity) -> pa.Table:
    """The rows' table: document_id, start, end, text, label, score, and the number of the token, word or mention."""
    documents, rows = table.documents, embedded.rows
    spans, span_of_row = _spans_of_rows(documents, rows, granularity, embedded.found)
    ids = pa.array([document.id for document in documents], pa.string())
    labels = pa.array([span.label for span in spans], pa.string())
    scores = pa.array([span.score for span in spans], pa.float32())
    return pa.table(
        [
            ids.take(pa.array(rows.document)),
            pa.array(rows.start),
            pa.array(rows.end),
            slices_as_arrow([document.text for document in documents], rows.document, rows.start, rows.end),
            labels.take(span_of_row),
            scores.take(span_of_row),
            pa.array(rows.index),
        ],
        schema=row_schema(granularity),
    )


def row_schema(granularity: str) -> pa.Schema:
    """The columns of the rows' table."""
    return pa.schema(
        {
            "document_id": pa.string(),
            "start": pa.int64(),
            "end": pa.int64(),
            "text": pa.string(),
            "label": pa.string(),
            "score": pa.float32(),
            granularity: pa.int32(),
        }
    )


def documents_as_arrow(documents: Sequence[Document]) -> pa.Table:
    """The documents' table: document_id, text."""
    columns = [[document.id for document in documents], [document.text for document in documents]]
    return pa.table(columns, schema=document_schema())


def document_schema() -> pa.Schema:
    """The columns of the documents' table."""
    return pa.schema({"document_id": pa.string(), "text": pa.string()})


def _spans_of_rows(
    documents: Sequence[Document], rows: RowTable, granularity: Granularity, found: Sequence[Span] | None
) -> tuple[Sequence[Span], pa.Array]:
    """Some spans, and the number of each row's span among them, (m,), null where a row has none.

    A row of a token or word has the first span with which it shares a character.
    """
    if found is not None:
        return found, pa.array(np.arange(len(found)))
    spans = [span for document in documents for span in document.spans]
    counts = np.array([len(document.spans) for document in documents], np.int64)
    firsts = np.cumsum(counts) - counts
    if granularity == "mention":
        return spans, pa.array(firsts[rows.document] + rows.index)
    lengths = np.array([len(document.text) for document in documents], np.int64)
    bases = np.cumsum(lengths) - lengths
    start, end = rows.start + bases[rows.document], rows.end + bases[rows.document]
    # offsets of neighbouring tokens may decrease by a character; monotone bounds allow a binary search
    reach, ahead = np.maximum.accumulate(end), np.minimum.accumulate(start[::-1])[::-1]
    base = np.repeat(bases, counts)
    begins = np.array([span.start for span in spans], np.int64) + base
    ends = np.array([span.end for span in spans], np.int64) + base
    first = np.searchsorted(reach, begins, "right")
    sizes = np.maximum(np.searchsorted(ahead, ends, "left") - first, 0)
    span = np.repeat(np.arange(len(spans)), sizes)
    row = np.arange(len(span)) - np.repeat(np.cumsum(sizes) - sizes - first, sizes)
    shared = (start[row] < ends[span]) & (end[row] > begins[span])
    span_of_row = np.full(len(rows.document), -1)
    span_of_row[row[shared][::-1]] = span[shared][::-1]  # of several spans the first is assigned last, and stays
    return spans, pa.array(span_of_row, mask=span_of_row < 0)


def _coverage(table: TokenTable, embedded: "RowEmbeddings") -> Sequence[str]:
    """A JSON line for each document that has several windows, or parts without an embedding."""
    placement = embedded.placement
    cut = np.bincount(embedded.rows.document[placement.cut], minlength=len(table.documents))
    facts = {
        "tokens": table.counts,
        "windows": placement.counts,
        "dropped_tokens": embedded.dropped_tokens,
        "dropped_rows": embedded.dropped_rows,
        "untokenized_rows": embedded.rows.untokenized,
        "cut_mentions": cut,
    }
    worth = (placement.counts > 1) | (
        embedded.dropped_tokens + embedded.dropped_rows + embedded.rows.untokenized + cut > 0
    )
    return [
        json.dumps(
            asdict(Covered(table.documents[i].id, **{key: int(values[i]) for key, values in facts.items()})),
            ensure_ascii=False,
        )
        for i in np.flatnonzero(worth)
    ]
