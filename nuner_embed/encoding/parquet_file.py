"""A store as one Parquet file, the vectors beside what they stand for."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nuner_embed.encoding.shards import GROUP_ROWS
from nuner_embed.encoding.store import Store
from nuner_embed.files import atomic_write, expand

VECTOR_COLUMN = "vector"


def write_parquet(store: Store, path: str | Path) -> Path:
    """Writes a store's rows and vectors as one Parquet file, which appears once it is whole.

    The columns are those of the store's table, and `vector`, a list of `dim` numbers of the store's dtype. The file's
    metadata holds under `nuner_embed` what the vectors mean, as JSON.

    Raises:
        OSError: the file cannot be written.
    """
    target = expand(path)
    facts = {"semantic_hash": store.semantic_hash, "numeric_hash": store.numeric_hash, "recipe": store.recipe.to_dict()}
    metadata = {"nuner_embed": json.dumps(facts)}
    tables = _tables(store)
    first = next(tables)
    with (
        atomic_write(target) as stream,
        pq.ParquetWriter(stream, first.schema.with_metadata(metadata), compression="zstd") as file,
    ):
        file.write_table(first)
        for table in tables:
            file.write_table(table)
    return target


def _tables(store: Store) -> Iterator[pa.Table]:
    """The rows with their vectors, a group at a time; one without rows for a store that has none."""
    for table, vectors in store.batches(GROUP_ROWS):
        flat = pa.array(np.ascontiguousarray(vectors).ravel())
        yield table.append_column(VECTOR_COLUMN, pa.FixedSizeListArray.from_arrays(flat, store.dim))
    if len(store) == 0:
        kind = pa.list_(pa.from_numpy_dtype(np.dtype(store.dtype)), store.dim)
        yield store.table().append_column(VECTOR_COLUMN, pa.array([], kind))
