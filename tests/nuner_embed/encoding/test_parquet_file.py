"""A store as one Parquet file."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jobs import job, made_up_corpus

from nuner_embed import Store, encode, write_parquet
from nuner_embed.errors import StoreError


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_and_vectors_of_several_shards_stand_side_by_side(tmp_path, dtype):
    job(made_up_corpus(tmp_path / "c.jsonl"), tmp_path / "s", dtype=dtype)
    store = Store.open(tmp_path / "s")
    assert len(store.shards) > 2
    written = pq.read_table(write_parquet(store, tmp_path / "out.parquet"))
    number = pa.float16() if dtype == "float16" else pa.float32()
    assert written.schema.field("vector").type == pa.list_(number, 8)
    assert written.drop_columns("vector").replace_schema_metadata(None).equals(store.table())
    vectors = np.stack(written["vector"].to_numpy())
    assert vectors.dtype == dtype
    np.testing.assert_array_equal(vectors, store.vectors(np.arange(len(store))))
    assert json.loads(written.schema.metadata[b"nuner_embed"])["semantic_hash"] == store.semantic_hash


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path, monkeypatch):
    job(made_up_corpus(tmp_path / "c.jsonl"), tmp_path / "s")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        write_parquet(Store.open(tmp_path / "s"), tmp_path / "out.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.jsonl", "s"]


def test_a_store_is_not_named_as_a_file(tmp_path):
    with pytest.raises(StoreError, match="names a file, and a store is a directory"):
        encode(tmp_path / "c.txt", tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []
