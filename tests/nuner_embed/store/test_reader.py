"""What is read from a store, and what `verify` sees."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from jobs import job, made_up_corpus

from nuner_embed import Store
from nuner_embed.errors import StoreError
from nuner_embed.store.journal import Journal


@pytest.fixture
def corpus_file(tmp_path):
    return made_up_corpus(tmp_path / "corpus.jsonl")


def test_vectors_belong_to_their_rows(corpus_file, tmp_path):
    """With vectors that depend on the token alone, equal words have equal rows."""
    job(corpus_file, tmp_path / "s", dtype="float32")
    store = Store.open(tmp_path / "s")
    seen = {}
    for table, vectors in store.batches(64):
        for text, vector in zip(table.column("text").to_pylist(), vectors, strict=True):
            np.testing.assert_array_equal(seen.setdefault(text, np.array(vector)), vector)
    assert len(seen) == 8
    assert len({vector.tobytes() for vector in seen.values()}) == 8


@pytest.mark.parametrize("rows", ["token", "word", "mention"])
def test_a_store_is_read_with_numpy_and_pyarrow_alone(corpus_file, tmp_path, rows):
    job(corpus_file, tmp_path / "s", granularity=rows)
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    total = 0
    for shard in manifest["shards"]:
        vectors = np.load(tmp_path / "s" / f"{shard['name']}.npy", mmap_mode="r")
        table = pq.read_table(tmp_path / "s" / f"{shard['name']}.parquet")
        assert (len(vectors), vectors.dtype) == (len(table), np.float16)
        assert table.column_names == ["document_id", "start", "end", "text", "label", "score", rows]
        total += len(table)
    assert manifest["rows"] == total
    assert manifest["documents"] == 200


@pytest.mark.parametrize("suffix", ["npy", "parquet", "documents.parquet"])
def test_verify_finds_a_flipped_byte(corpus_file, tmp_path, suffix):
    job(corpus_file, tmp_path / "s")
    assert Store.open(tmp_path / "s").verify() == []
    path = tmp_path / "s" / f"shard-00001.{suffix}"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert Store.open(tmp_path / "s").verify() == [f"shard-00001.{suffix} is not what was written (sha256 differs)"]
    path.write_bytes(data[:-1])
    with pytest.raises(StoreError, match=re.escape(path.name) + r" has [\d,]+ bytes, not "):
        Store.open(tmp_path / "s")
    path.unlink()
    with pytest.raises(StoreError, match="is missing"):
        Store.open(tmp_path / "s")


def test_a_damaged_journal_is_said_so(corpus_file, tmp_path):
    job(corpus_file, tmp_path / "s")
    (tmp_path / "s" / "journal.jsonl").write_text("{}\n")
    with pytest.raises(StoreError, match=r"journal.jsonl:1: not a journal entry"):
        Journal.read(tmp_path / "s")
