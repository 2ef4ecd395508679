"""A full disk, few descriptors, little memory: one line, the right place named, nothing lost."""

import errno
import resource
import signal
from pathlib import Path

import faiss
import numpy as np
import pytest
from children import in_child
from stores import make_store

from nuner_embed.errors import IndexBundleError, NunerEmbedError
from nuner_embed.indexes import Index


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return make_store(folder / "a", 1, documents=6), make_store(folder / "b", 2, documents=2)


def everything(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def change(index, store, what):
    if what == "build":
        Index.build(store, index.path, force=True, kind="IVF4,Flat")
    elif what == "add":
        index.add(store, again=True)
    elif what == "remove":
        index.remove(range(5, 1000))
    else:
        index.compact()


@pytest.mark.parametrize("what", ["build", "add", "remove", "compact"])
def test_a_full_disk(stores, tmp_path, what):
    """Of a sparse file that was mapped into memory the process died, by SIGBUS."""
    faiss.omp_set_num_threads(1)  # the children are forked
    index = Index.build(stores[0], tmp_path / "index", kind="IVF4,Flat")
    index.remove([3, 4])
    before, outside = everything(index.path), sorted(tmp_path.iterdir())

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        named = []
        for limit in (0, 100, 5_000, 30_000, 47_000, 90_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                change(Index.open(index.path), stores[0], what)
            except OSError as error:
                named += [] if error.errno == errno.EFBIG else [f"not {error.errno}"]
                named.append(error.filename)
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                assert everything(index.path) == before
                assert sorted(tmp_path.iterdir()) == outside
        return "\n".join(named)

    code, words = in_child(work)
    assert code == 0
    assert words
    for name in words.splitlines():
        assert Path(name).is_relative_to(index.path), words
    names = {Path(name).name for name in words.splitlines()}
    assert not any(name.endswith((".tmp", ".new")) for name in names)
    if what in ("build", "add"):
        assert "vectors.npy" in names
    assert Index.open(index.path).verify() == []


def test_more_segments_than_descriptors(stores, tmp_path):
    """An index held three descriptors open for each segment."""
    faiss.omp_set_num_threads(1)
    index = Index.build(stores[1], tmp_path / "index")
    for _ in range(11):
        index.add(stores[1], again=True)
    open_already = len(list(Path("/proc/self/fd").iterdir()))

    def work():
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_already + 9, open_already + 9))
        index = Index.open(tmp_path / "index")
        assert len(index.bundle.segments) == 12
        found = index.search([1.0] * 16, 5, filter="start >= 0").ids.shape
        return f"{found} {index.verify()} {index.compact()} {len(index)}"

    assert in_child(work) == (0, f"(1, 5) [] True {12 * len(stores[1])}")


def test_no_memory_for_an_index(stores, tmp_path, monkeypatch):
    index = Index.build(stores[1], tmp_path / "index")

    def read(*arguments):
        raise MemoryError("std::bad_alloc")

    monkeypatch.setattr("nuner_embed.indexes.faiss.file._read", read)
    with pytest.raises(IndexBundleError, match=r"there is not enough memory to open .*index.faiss \([0-9,]+ bytes\)"):
        Index.open(index.path)


def test_a_store_that_a_link_leads_to_is_copied(stores, tmp_path):
    """A hard link to a symbolic one would be a link in the index."""
    for path in stores[1].path.iterdir():
        (tmp_path / "store").mkdir(exist_ok=True)
        (tmp_path / "store" / path.name).symlink_to(path)
    try:
        index = Index.build(tmp_path / "store", tmp_path / "index")
    except NunerEmbedError:
        return  # the store is refused already
    assert not any(path.is_symlink() for path in index.path.rglob("*"))
    assert index.search(np.ones(16), 1).ids.shape == (1, 1)
