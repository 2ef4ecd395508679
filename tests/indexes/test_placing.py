"""An index that is replaced is there all the while."""

import multiprocessing
import sys
import threading

import numpy as np
import pytest
from stores import make_store

from nuner_embed.errors import IndexBundleError, IndexLocked
from nuner_embed.indexes import Index, state
from nuner_embed.indexes.placing import changing_alone


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return make_store(folder / "a", 1, documents=1), make_store(folder / "b", 2, documents=1)


def _open_for_ever(path, vectors, stop, opened, errors):
    """Opens an index again and again; each time it is one of the two, whole."""
    while not stop.is_set():
        try:
            with Index.open(path) as index:
                here = [len(index) == len(one) and index.search(one[:1], 1).scores[0, 0] > 0.999 for one in vectors]
                texts = index.rows(index.ids(), texts=True)
            if sum(here) != 1 or texts.num_rows == 0:
                errors.put(f"neither the old nor the new: {here}")
        except BaseException as error:
            errors.put(repr(error))
        opened.value += 1


class _EachStep:
    """Calls a function before each file or folder that this process renames or removes, while it is switched on."""

    def __init__(self):
        self.call = None
        sys.addaudithook(self._heard)

    def _heard(self, event, arguments):
        if self.call is None or event not in ("os.rename", "os.remove", "os.rmdir"):
            return
        call, self.call = self.call, None  # not for what the call does itself
        try:
            call()
        finally:
            self.call = call


_each_step = _EachStep()


def test_it_opens_before_each_step_of_its_replacement(stores, tmp_path):
    vectors = [store.vectors(np.arange(len(store))).astype(np.float32) for store in stores]
    Index.build(stores[0], tmp_path / "index")
    seen = []

    def look():
        with Index.open(tmp_path / "index") as index:
            assert index.rows(index.ids(), texts=True).num_rows == len(index)
            best = [index.search(one[:1], 1).scores[0, 0] for one in vectors]
            seen.append([len(index), *(score > 0.999 for score in best)])

    _each_step.call = look
    try:
        Index.build(stores[1], tmp_path / "index", force=True)
    finally:
        _each_step.call = None
    look()
    assert len(seen) > 5
    before = [len(stores[0]), True, False]
    after = [len(stores[1]), False, True]
    assert seen == sorted(seen, key=[before, after].index)
    assert {tuple(state) for state in seen} == {tuple(before), tuple(after)}


def test_it_is_replaced_while_it_is_being_opened(stores, tmp_path, monkeypatch):
    """What the manifest named is gone when its segments are opened: the manifest is read again."""
    Index.build(stores[0], tmp_path / "index")
    opening = state.Segment
    builds = [1, 0, 1]

    def open_late(*arguments):
        if builds:
            build_over(stores[builds.pop()], tmp_path / "index")
        return opening(*arguments)

    def build_over(store, path):
        rest, builds[:] = builds[:], []
        Index.build(store, path, force=True)
        builds[:] = rest

    monkeypatch.setattr(state, "Segment", open_late)
    index = Index.open(tmp_path / "index")
    assert builds == []
    assert len(index) == len(stores[1])


@pytest.mark.parametrize("apart", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["threads", "processes"])
def test_who_opens_it_meanwhile_sees_the_old_or_the_new(stores, tmp_path, apart):
    """Of 14,100 openings during builds with --force, 118 failed."""
    vectors = [store.vectors(np.arange(len(store))).astype(np.float32) for store in stores]
    assert len(vectors[0]) != len(vectors[1])
    index = Index.build(stores[0], tmp_path / "index")
    context = multiprocessing.get_context("spawn")
    stop, opened, errors = context.Event(), context.Value("i", 0), context.SimpleQueue()
    arguments = (index.path, vectors, stop, opened, errors)
    kind = context.Process if apart else threading.Thread
    readers = [kind(target=_open_for_ever, args=arguments) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        rounds = 0
        while rounds < 5 or opened.value < 10:
            rounds += 1
            Index.build(stores[rounds % 2], tmp_path / "index", force=True)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert errors.empty(), errors.get()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index"]
    assert len(list((tmp_path / "index" / "segments").iterdir())) == 1


def test_who_has_it_open_goes_on_with_the_old(stores, tmp_path):
    old = Index.build(stores[0], tmp_path / "index", kind="hnsw")
    new = Index.build(stores[1], tmp_path / "index", force=True)
    assert old.search(stores[0].vectors([3]), 1).scores[0, 0] == pytest.approx(1, abs=1e-3)
    assert old.rows([3])["text"].to_pylist() == stores[0].table()["text"][3:4].to_pylist()
    assert new.ids().tolist() == list(range(len(stores[1])))
    old.refresh()
    assert len(old) == len(stores[1])
    assert old.verify() == []


def test_verify_of_an_index_that_was_replaced_looks_at_the_new(stores, tmp_path):
    old = Index.build(stores[0], tmp_path / "index")
    Index.build(stores[1], tmp_path / "index", force=True)
    assert old.verify() == []
    next((tmp_path / "index").rglob("vectors.npy")).unlink()
    (problem,) = old.verify()
    assert problem == "00001/vectors.npy cannot be read (No such file or directory)"


def test_a_build_that_fails_leaves_the_old(stores, tmp_path):
    Index.build(stores[0], tmp_path / "index")
    with pytest.raises(ValueError, match="cannot train"):
        Index.build(stores[1], tmp_path / "index", kind="IVF5000,Flat", force=True)
    assert len(Index.open(tmp_path / "index")) == len(stores[0])
    assert [path.name for path in (tmp_path / "index" / "segments").iterdir()] == ["00000"]


def test_a_damaged_index_is_replaced(stores, tmp_path):
    """So say the messages about damaged ones: build the index again."""
    Index.build(stores[0], tmp_path / "index")
    (tmp_path / "index" / "manifest.json").write_text("{}")
    (tmp_path / "index" / "segments" / "00007").mkdir()
    with pytest.raises(IndexBundleError, match="holds an index; add to it"):
        Index.build(stores[1], tmp_path / "index")
    built = Index.build(stores[1], tmp_path / "index", force=True)
    assert [path.name for path in (tmp_path / "index" / "segments").iterdir()] == ["00008"]
    assert built.verify() == []


def test_who_changes_it_keeps_it_from_being_replaced(stores, tmp_path):
    Index.build(stores[0], tmp_path / "index")
    with changing_alone(tmp_path / "index"), pytest.raises(IndexLocked, match="another process is changing"):
        Index.build(stores[1], tmp_path / "index", force=True)
    assert len(Index.open(tmp_path / "index")) == len(stores[0])


def test_through_a_link(stores, tmp_path):
    Index.build(stores[0], tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    Index.build(stores[1], tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink()
    assert len(Index.open(tmp_path / "real")) == len(stores[1])


def test_into_an_empty_directory(stores, tmp_path):
    (tmp_path / "index").mkdir()
    assert len(Index.build(stores[0], tmp_path / "index")) == len(stores[0])
