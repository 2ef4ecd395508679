"""An index that is replaced is there all the while."""

import multiprocessing
import sys
import threading

import numpy as np
import pytest
from stores import make_store

from nuner_embed.errors import IndexBundleError, IndexLocked
from nuner_embed.indexes import Index, changes, state
from nuner_embed.indexes.directory import changing_alone


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
        if not errors.empty():
            return  # a queue that nobody empties fills up, and whoever writes then waits for ever


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
        while (rounds < 5 or opened.value < 10) and any(reader.is_alive() for reader in readers):
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


@pytest.mark.parametrize("damage", ["{}", "[]", '{"schema_version": 1, "segments": [], "sha256": "0"}'])
def test_what_its_manifest_does_not_make_an_index_is_not_replaced(stores, tmp_path, damage):
    Index.build(stores[0], tmp_path / "index")
    (tmp_path / "index" / "manifest.json").write_text(damage)
    for force in (False, True):
        with pytest.raises(IndexBundleError, match="is not known to be an index .*, or remove that one yourself"):
            Index.build(stores[1], tmp_path / "index", force=force)
    assert (tmp_path / "index" / "segments" / "00000" / "vectors.npy").exists()


def test_an_index_whose_segments_are_damaged_is_replaced(stores, tmp_path):
    """So say the messages about damaged ones: build the index again."""
    Index.build(stores[0], tmp_path / "index")
    (tmp_path / "index" / "segments" / "00000" / "vectors.npy").unlink()
    (tmp_path / "index" / "segments" / "00001").mkdir()  # of an `add` that was killed
    (tmp_path / "index" / "segments" / "00001" / "ids.npy").write_bytes(b"half")
    (tmp_path / "index" / "segments" / "00001.parts").mkdir()  # of a `compact`
    (tmp_path / "index" / "segments" / "00001.parts" / "0.documents.parquet").write_bytes(b"half")
    with pytest.raises(IndexBundleError, match="holds an index; name another directory, or replace it with --force"):
        Index.build(stores[1], tmp_path / "index")
    built = Index.build(stores[1], tmp_path / "index", force=True)
    assert built.verify() == []
    assert sorted(path.name for path in (tmp_path / "index" / "segments").iterdir()) == ["00001"]


@pytest.mark.parametrize(
    "strange", ["segments/notes", "segments/00000/notes.txt", "notes.txt", "segments/7/index.faiss"]
)
def test_an_index_that_holds_anything_else_is_not_replaced(stores, tmp_path, strange):
    Index.build(stores[0], tmp_path / "index")
    path = tmp_path / "index" / strange
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(IndexBundleError, match="which is not part of an index; move that file away or name another"):
        Index.build(stores[1], tmp_path / "index", force=True)
    assert path.read_text() == "mine"
    assert len(Index.open(tmp_path / "index")) == len(stores[0])


def test_a_folder_with_segments_of_somebody_else_is_not_replaced(stores, tmp_path):
    """It was destroyed."""
    (tmp_path / "video" / "segments" / "00000").mkdir(parents=True)
    (tmp_path / "video" / "segments" / "00000" / "a.ts").write_text("mine")
    for force in (False, True):
        with pytest.raises(IndexBundleError, match=r"video holds segments and no manifest.json: it is not an index"):
            Index.build(stores[1], tmp_path / "video", force=force)
    assert (tmp_path / "video" / "segments" / "00000" / "a.ts").read_text() == "mine"


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


def test_a_build_holds_the_index_that_it_replaces_until_the_new_one_is_there(stores, tmp_path, monkeypatch):
    """Else what `add` wrote in between would go with the old one."""
    index = Index.build(stores[0], tmp_path / "index")
    written = changes.with_stores

    def with_stores(*arguments, **options):
        result = written(*arguments, **options)
        with pytest.raises(IndexLocked, match="another process is changing"):
            index.remove([1])
        return result

    monkeypatch.setattr(changes, "with_stores", with_stores)
    Index.build(stores[1], tmp_path / "index", force=True)
    index.refresh()
    assert index.remove([1]) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_build_that_was_killed_is_swept_or_brought_to_its_end(stores, tmp_path, moment):
    index = Index.build(stores[0], tmp_path / "index")
    work = tmp_path / ".index.0123456789abcdef.new"
    (work / "segments").mkdir(parents=True)
    if moment == "after":  # without an exchange of names, as some file systems have it: killed between two renames
        Index.build(stores[1], tmp_path / "other").path.rename(tmp_path / ".index.00000000000000aa.ready")
        index.path.rename(tmp_path / ".index.00000000000000bb.old")
        with pytest.raises(IndexBundleError, match="holds no index"):
            Index.open(tmp_path / "index")
    with pytest.raises(IndexBundleError, match="holds an index"):
        Index.build(stores[0], tmp_path / "index")
    assert len(Index.build(stores[1], tmp_path / "index", force=True)) == len(stores[1])
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_into_an_empty_directory(stores, tmp_path):
    (tmp_path / "index").mkdir()
    assert len(Index.build(stores[0], tmp_path / "index")) == len(stores[0])


def _change(index, how, store):
    if how == "add":
        index.add(store, again=True)
    elif how == "remove":
        index.remove([1])
    else:
        index.compact()


@pytest.fixture(params=["add", "remove", "compact"])
def how(request):
    return request.param


@pytest.mark.parametrize("link", ["segments", "segments/00000", "segments/00009", "manifest.json", ".lock", "notes"])
def test_what_is_reached_through_a_link_is_left_alone(stores, tmp_path, how, link):
    """Of a folder that `segments` led to, every sub-folder was removed."""
    index = Index.build(stores[0], tmp_path / "index")
    index.remove([3])
    (tmp_path / "mine").mkdir()
    path = tmp_path / "index" / link
    if path.exists() and link != ".lock":
        path.rename(tmp_path / "mine" / path.name)
        path.symlink_to(tmp_path / "mine" / path.name)
    else:
        path.unlink(missing_ok=True)
        (tmp_path / "mine" / "00009").mkdir()
        path.symlink_to(tmp_path / "mine")
    (tmp_path / "mine" / "00008").mkdir()
    (tmp_path / "mine" / "00008" / "index.faiss").write_text("mine")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    with pytest.raises(IndexBundleError, match="is a symbolic link, which nuner-embed never makes"):
        _change(index, how, stores[1])
    with pytest.raises(IndexBundleError, match="which is not part of an index|is not an index"):
        Index.build(stores[1], tmp_path / "index", force=True)
    assert before == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))


def test_only_what_we_could_have_written_is_cleared_away(stores, tmp_path, how):
    index = Index.build(stores[0], tmp_path / "index")
    index.remove([3])
    index.add(stores[1])
    ours = [
        "tombstones-000009.npy", ".manifest.json.0123456789abcdef.tmp", ".tombstones-000009.npy.0123456789abcdef.tmp",
        "segments/00007/index.faiss", "segments/00007/rows-00000.parquet", "segments/00008.parts/1.documents.parquet",
    ]  # fmt: skip
    mine = [
        "my tombstones-1", "tombstones-old.npy", "manifest.json.bak", "segments/00006/notes.txt", "segments/old/a.npy",
        "segments/00006/sub/ids.npy", "segments/0001/ids.npy", "segments/00005.parts/0.csv", ".manifest.json.tmp",
    ]  # fmt: skip
    for name in (*ours, *mine):
        (index.path / name).parent.mkdir(parents=True, exist_ok=True)
        (index.path / name).write_text("x")
    _change(index, how, stores[0])
    assert [name for name in ours if (index.path / name).exists()] == []
    assert [name for name in mine if not (index.path / name).exists()] == []
    assert not (index.path / "segments" / "00007").exists()


def test_a_folder_in_the_way_of_a_new_segment(stores, tmp_path):
    index = Index.build(stores[0], tmp_path / "index")
    (index.path / "segments" / "00001").mkdir()
    (index.path / "segments" / "00001" / "notes").write_text("mine")
    with pytest.raises(
        IndexBundleError, match=r"segments/00001 holds notes, which is not part of an index; move it away"
    ):
        index.add(stores[1])
    assert (index.path / "segments" / "00001" / "notes").read_text() == "mine"
    (index.path / "segments" / "00001" / "notes").unlink()
    index.add(stores[1])
    assert index.verify() == []
