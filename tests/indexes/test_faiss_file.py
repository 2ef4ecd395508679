"""FAISS's file of a segment: only what its factory string makes is searched, and no other file is opened for it."""

import errno
import os
import signal
from pathlib import Path

import faiss
import numpy as np
import pytest
from stores import make_store

from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes import Index
from nuner_embed.indexes.faiss.factory import make
from nuner_embed.indexes.faiss.file import read_faiss, write_faiss

DIM, ROWS, IP = 16, 300, faiss.METRIC_INNER_PRODUCT
VECTORS = np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)


def filled(factory, metric=IP, vectors=VECTORS):
    index = faiss.index_factory(vectors.shape[1], factory, metric)
    index.train(vectors)
    index.add(vectors)
    return index


def refused(path, index, factory, reason):
    faiss.write_index(index, str(path))
    with pytest.raises(IndexBundleError, match=reason) as caught:
        read_faiss(path, factory, DIM, ROWS, IP)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("factory", "other", "reason"),
    [
        ("Flat", lambda: filled("Flat", faiss.METRIC_L2), "has metric_type 1, 0 is expected"),
        ("HNSW8", lambda: filled("HNSW8", faiss.METRIC_L2), "has metric_type 1, 0 is expected"),
        ("Flat", lambda: filled("Flat", vectors=VECTORS[:, :8]), "has d 8, 16 is expected"),
        ("Flat", lambda: filled("Flat", vectors=VECTORS[:9]), "it holds 9 rows, not 300"),
        ("Flat", lambda: numbered("IDMap,Flat", np.arange(ROWS)), "holds a IndexIDMap where a IndexFlat should be"),
        ("Flat", lambda: filled("SQ8"), "holds a IndexScalarQuantizer where a IndexFlat should be"),
        ("SQ8", lambda: filled("SQ4"), "has code_size 8, 16 is expected"),
        ("SQ8", lambda: filled("SQ8,Refine(Flat)"), "holds a IndexRefine"),
        ("IVF4,Flat", lambda: filled("IVF5,Flat"), "has nlist 5, 4 is expected"),
        ("IVF4,Flat", lambda: filled("IVF4_HNSW4,Flat"), "holds a IndexHNSWFlat where a IndexFlat should be"),
        ("PCA8,Flat", lambda: filled("PCA4,Flat"), "has d_out 4, 8 is expected"),
        ("PCA8,Flat", lambda: filled("PCA8,PCA4,Flat"), "transforms vectors 2 times, not 1 times"),
        ("PQ4x4", lambda: filled("PQ8x4"), "is expected"),
        ("HNSW8", lambda: filled("HNSW9"), "its graph has other links than expected"),
        ("HNSW8", lambda: filled("HNSW8,SQ8"), "holds a IndexHNSWSQ where a IndexHNSWFlat should be"),
        ("IVF4,Flat", lambda: faiss.index_factory(DIM, "IVF4,Flat", IP), "holds 0 rows, not 300"),
    ],
    ids=lambda value: value if isinstance(value, str) and "," not in value else "",
)
def test_another_index_than_the_manifest_says(tmp_path, factory, other, reason):
    refused(tmp_path / "index.faiss", other(), factory, reason)


def numbered(factory, numbers):
    index = faiss.index_factory(DIM, factory, IP)
    index.train(VECTORS)
    index.add_with_ids(VECTORS, np.asarray(numbers, np.int64))
    return index


@pytest.mark.parametrize(
    "numbers", [np.arange(ROWS) + 1, np.arange(ROWS) - 1, np.arange(ROWS) // 2, np.full(ROWS, 2**62)], ids="1234"
)
@pytest.mark.parametrize("factory", ["IVF4,Flat", "IVF4,PQ4x4fsr"])
def test_lists_with_numbers_that_no_row_has(tmp_path, factory, numbers):
    """FAISS took them for rows, and read wherever they led."""
    refused(
        tmp_path / "index.faiss",
        numbered(factory, numbers),
        factory,
        "its lists do not hold|sequential|sequuential|not a FAISS index as",
    )


def on_disk(path, lists):
    index = filled("IVF4,Flat")
    moved = faiss.OnDiskInvertedLists(4, DIM * 4, str(lists))
    every = faiss.InvertedListsPtrVector()
    every.push_back(index.invlists)
    moved.merge_from_multiple(every.data(), 1)
    index.replace_invlists(moved)
    faiss.write_index(index, str(path))


@pytest.mark.parametrize("nested", [False, True])
def test_lists_in_another_file_are_not_opened(tmp_path, nested):
    """A stranger's file may name any file of this machine; a pipe would be waited for."""
    path, lists = tmp_path / "index.faiss", tmp_path / "lists"
    on_disk(path, lists)
    factory = "IVF4,Flat"
    if nested:
        outer = faiss.IndexPreTransform(faiss.NormalizationTransform(DIM), faiss.read_index(str(path)))
        faiss.write_index(outer, str(path))
        factory = "L2norm,IVF4,Flat"
    lists.unlink()
    os.mkfifo(lists)
    signal.alarm(20)
    try:
        with pytest.raises(IndexBundleError, match="it keeps its lists in another file"):
            read_faiss(path, factory, DIM, ROWS, IP)
    finally:
        signal.alarm(0)


def test_a_graph_over_lists_in_another_file(tmp_path):
    path, lists = tmp_path / "index.faiss", tmp_path / "lists"
    on_disk(path, lists)
    graph = filled("HNSW8")
    inner = path.read_bytes()
    plain = bytes(faiss.serialize_index(filled("Flat")))
    data = bytes(faiss.serialize_index(graph))
    assert data.endswith(plain)
    path.write_bytes(data.removesuffix(plain) + inner)
    lists.unlink()
    os.mkfifo(lists)
    signal.alarm(20)
    try:
        with pytest.raises(IndexBundleError, match="not a FAISS index as HNSW8"):
            read_faiss(path, "HNSW8", DIM, ROWS, IP)
    finally:
        signal.alarm(0)


@pytest.mark.parametrize(
    "factory", ["IVF99999999,Flat", "PQ4x24", "HNSW999999999", "nonsense", "IVF4,Flat" * 9, "PCA99999,Flat"]
)
def test_a_factory_that_makes_more_than_the_file_holds(tmp_path, factory):
    """It comes from a manifest, which may be a stranger's."""
    refused(tmp_path / "index.faiss", filled("Flat"), factory, "not a FAISS index as")


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF4,Flat", "IVF4,PQ4x4fsr", "PCA8,IVF4,SQ8"])
def test_what_is_written_is_what_faiss_writes(tmp_path, factory):
    index = make(factory, DIM, IP)
    index.train(VECTORS)
    index.add(VECTORS)
    write_faiss(index, tmp_path / "a")
    faiss.write_index(index, str(tmp_path / "b"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read = read_faiss(tmp_path / "a", factory, DIM, ROWS, IP)
    assert read.search(VECTORS[:3], 1)[1].shape == (3, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_told(tmp_path):
    (tmp_path / "index.faiss").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_faiss(filled("Flat"), tmp_path / "index.faiss")
    assert caught.value.filename == str(tmp_path / "index.faiss")
    assert caught.value.errno == errno.ENOSPC


def test_an_l2_file_under_cosine(tmp_path):
    """Whole, with the right checksums: it was searched, and what is far came first."""
    store = make_store(tmp_path / "store", 1, documents=1)
    cosine = Index.build(store, tmp_path / "cosine")
    l2 = Index.build(store, tmp_path / "l2", metric="l2")
    path = cosine.path / "segments" / "00000" / "index.faiss"
    path.write_bytes((l2.path / "segments" / "00000" / "index.faiss").read_bytes())
    with pytest.raises(IndexBundleError, match=r"index.faiss is not a FAISS index as Flat makes it \(.*metric_type"):
        Index.open(cosine.path)
