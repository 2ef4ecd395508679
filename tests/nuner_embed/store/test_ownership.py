"""Into which directories a job writes, and what of them it removes."""

import json
import os
import socket

import pytest
from jobs import StopAfter, fingerprint, job, made_up_corpus

from nuner_embed import Store
from nuner_embed.errors import StoreError, StoreMismatch
from nuner_embed.jobs import encoding as job_module
from nuner_embed.store import ownership
from nuner_embed.store.layout import shard_files

MANIFESTS = [
    '{"name": "my web extension"}',
    '{"schema_version": 4, "semantic_hash": "mine", "shards": []}',
    '{"schema_version": 3, "semantic_hash": "mine", "shards": []}',
    "[1, 2]",
    "",
]


@pytest.fixture
def corpus_file(tmp_path):
    return made_up_corpus(tmp_path / "corpus.jsonl")


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("manifest", MANIFESTS)
def test_somebody_elses_manifest_is_no_store(corpus_file, tmp_path, manifest, force):
    directory = tmp_path / "extension"
    directory.mkdir()
    for name, content in (("manifest.json", manifest), ("journal.jsonl", "mine"), ("shard-00000.npy", "mine")):
        (directory / name).write_text(content)
    before = contents(directory)
    with pytest.raises(StoreError, match=r"manifest.json"):
        job(corpus_file, directory, force=force)
    assert contents(directory) == before


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "names",
    [
        ["chapter.txt"],
        [".lock", "shard-00000.npy"],
        [".lock", "journal.jsonl"],
        [".lock", "rejects.jsonl"],
        [".writer.json"],
        [".git"],
    ],
)
def test_a_lock_and_names_like_ours_make_no_store(corpus_file, tmp_path, names, force):
    directory = tmp_path / "thesis"
    directory.mkdir()
    for name in names:
        (directory / name).write_text("" if name == ".lock" else "mine")
    before = contents(directory)
    with pytest.raises(StoreError, match=f"holds {names[-1]} and no manifest.json"):
        job(corpus_file, directory, force=force)
    assert contents(directory) == before


def test_a_lock_with_something_in_it_is_not_ours(corpus_file, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / ".lock").write_text("pid 7")
    with pytest.raises(StoreError, match=r"holds \.lock and no manifest"):
        job(corpus_file, tmp_path / "s")
    assert (tmp_path / "s" / ".lock").read_text() == "pid 7"


def test_a_job_that_was_killed_before_its_manifest_begins_anew(corpus_file, tmp_path):
    job(corpus_file, tmp_path / "whole")
    store = tmp_path / "s"
    store.mkdir()
    (store / ".lock").touch()
    (store / ".writer.json").write_text(json.dumps({"schema_version": 1, "process": 7, "host": "here"}))
    (store / ".manifest.json.0123456789abcdef.tmp").write_text("{")
    (store / "..writer.json.0123456789abcdef.tmp").write_text("{")
    job(corpus_file, store)
    assert fingerprint(store) == fingerprint(tmp_path / "whole")


def test_what_is_no_part_of_a_store_keeps_it_from_being_cleared(corpus_file, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        job(corpus_file, tmp_path / "s", StopAfter(9))
    (tmp_path / "s" / "notes.md").write_text("mine")
    before = contents(tmp_path / "s")
    with pytest.raises(StoreError, match=r"holds notes.md, which is not part of a store; move that file away"):
        job(corpus_file, tmp_path / "s", force=True)
    assert contents(tmp_path / "s") == before
    job(corpus_file, tmp_path / "s")  # which removes nothing
    assert (tmp_path / "s" / "notes.md").read_text() == "mine"


@pytest.mark.parametrize("removed", [0, 7])
def test_killed_while_it_is_cleared(corpus_file, tmp_path, monkeypatch, removed):
    """What is left is known by its manifest, and the plain command begins anew."""
    job(corpus_file, tmp_path / "whole", dtype="float32")
    job(corpus_file, tmp_path / "s")

    def killed(directory):
        for path in list(shard_files(directory))[:removed]:
            path.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job_module, "remove_contents", killed)
        with pytest.raises(KeyboardInterrupt):
            job(corpus_file, tmp_path / "s", force=True, dtype="float32")
    with pytest.raises(
        StoreError, match="was being emptied when the command stopped; the same nuner-embed encode command finishes"
    ):
        Store.open(tmp_path / "s")
    job(corpus_file, tmp_path / "s", dtype="float32")
    assert fingerprint(tmp_path / "s") == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("journal.jsonl", "link"),
        ("coverage.jsonl", "dangling"),
        ("coverage.jsonl", "folder"),
        ("rejects.jsonl", "dangling"),
        ("manifest.json", "link"),
        ("manifest.json", "pipe"),
        (".lock", "dangling"),
        (".writer.json", "dangling"),
        (".writer.json", "socket"),
        ("shard-00099.npy", "link"),
    ],
)
def test_what_bears_a_name_of_ours_and_is_no_file_is_never_written_to(corpus_file, tmp_path, name, what, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        job(corpus_file, tmp_path / "s", StopAfter(9))
    path, target = tmp_path / "s" / name, tmp_path / "mine"
    content = path.read_text() if path.exists() else "mine"
    path.unlink(missing_ok=True)
    if what == "link":
        target.write_text(content)
        path.symlink_to(target)
    elif what == "dangling":
        path.symlink_to(target)
    elif what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        monkeypatch.chdir(path.parent)  # a socket's address is short
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(name)
    for force in (False, True):
        with pytest.raises(StoreError, match=name.replace(".", r"\.")):
            job(corpus_file, tmp_path / "s", force=force)
    assert os.path.lexists(path)
    assert target.exists() is (what == "link")
    if what == "link":
        assert target.read_text() == content


def test_links_that_appear_while_it_runs_are_not_written_through(corpus_file, tmp_path):
    class Linking(StopAfter):
        def shard(self, name, documents, rows):
            for name in ("journal.jsonl", "coverage.jsonl"):
                path = tmp_path / "s" / name
                path.unlink()
                path.symlink_to(tmp_path / name)

    with pytest.raises(StoreError, match="is a symbolic link, which is never written to"):
        job(corpus_file, tmp_path / "s", Linking(99))
    assert not (tmp_path / "journal.jsonl").exists()
    assert not (tmp_path / "coverage.jsonl").exists()


def test_a_store_by_a_link_is_made_where_the_link_leads(corpus_file, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "store")
    job(corpus_file, tmp_path / "link")
    assert len(Store.open(tmp_path / "disk" / "store")) > 0
    job(corpus_file, tmp_path / "link", force=True, dtype="float32")
    assert (tmp_path / "link").is_symlink()
    assert Store.open(tmp_path / "link").dtype == "float32"


def test_a_store_of_another_schema_is_refused_and_kept(corpus_file, tmp_path):
    job(corpus_file, tmp_path / "s")
    path = tmp_path / "s" / "manifest.json"
    path.write_text(path.read_text().replace('"schema_version": 4', '"schema_version": 3'))
    before = contents(tmp_path / "s")
    with pytest.raises(StoreMismatch, match="schema version 3, this program reads 4"):
        job(corpus_file, tmp_path / "s")
    with pytest.raises(StoreError, match="schema version 3, this program reads 4.*remove that one yourself"):
        job(corpus_file, tmp_path / "s", force=True)
    assert contents(tmp_path / "s") == before


def test_a_store_that_is_removed_leaves_what_is_not_its_own(corpus_file, tmp_path):
    job(corpus_file, tmp_path / "s")
    job(corpus_file, tmp_path / "t")
    (tmp_path / "t" / "notes.md").write_text("mine")
    assert ownership.remove(tmp_path / "s")
    assert not ownership.remove(tmp_path / "t")
    assert not (tmp_path / "s").exists()
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["notes.md"]


def test_names_of_unfinished_files_cannot_be_foreseen_and_those_of_the_dead_are_swept(corpus_file, tmp_path):
    job(corpus_file, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        job(corpus_file, tmp_path / "s", StopAfter(9))
    left = [
        ".shard-00003.npy.123.tmp",
        ".shard-00003.npy.0123456789abcdef.part",
        ".shard-00003.documents.parquet.0123456789abcdef.part",
        ".manifest.json.123.tmp",
        ".manifest.json.0123456789abcdef.tmp",
        "..writer.json.0123456789abcdef.tmp",
    ]
    for name in left:
        (tmp_path / "s" / name).write_bytes(b"half")
    job(corpus_file, tmp_path / "s")
    assert fingerprint(tmp_path / "s") == fingerprint(tmp_path / "whole")
