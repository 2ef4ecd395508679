"""Files that are either whole or not there, on file systems of every kind."""

import errno
import os
import re
from pathlib import Path

import pytest
from jobs import StopAfter, fingerprint, job, made_up_corpus

from nuner_embed.errors import NunerEmbedError
from nuner_embed.files import (
    atomic_write,
    expand,
    same_file,
    write_json,
)


@pytest.fixture
def no_sync_of_folders(monkeypatch):
    """A file system that cannot sync a folder, as some over a network."""
    sync = os.fsync

    def fsync(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the test tells folders by /proc")
def test_a_job_goes_on_where_folders_cannot_be_synced(no_sync_of_folders, tmp_path):
    corpus = made_up_corpus(tmp_path / "corpus.jsonl")
    with pytest.raises(KeyboardInterrupt):
        job(corpus, tmp_path / "store", StopAfter(12))
    kept = (tmp_path / "store/journal.jsonl").read_text().count("\n")
    assert kept >= 2
    assert job(corpus, tmp_path / "store").documents == 200
    job(corpus, tmp_path / "again")
    assert fingerprint(tmp_path / "store") == fingerprint(tmp_path / "again")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_sync_that_fails_is_an_error(monkeypatch, tmp_path, number):
    def fsync(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=os.strerror(number)), atomic_write(tmp_path / "f") as stream:
        stream.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_home_folder_that_is_not_known_is_one_line():
    assert expand("a/~b") == expand("a") / "~b"
    with pytest.raises(NunerEmbedError, match="~nobody-of-this-name/x begins with a home folder that is not known"):
        expand("~nobody-of-this-name/x")


@pytest.mark.parametrize("name", ["folder", "gone/f", "file/f", "folder/..", "."])
def test_a_file_that_cannot_be_written_is_called_what_it_is_called(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match=re.escape(name)) as raised, atomic_write(Path(name)):
        pytest.fail("the block began")
    assert raised.value.filename == name
    assert type(raised.value) in (IsADirectoryError, FileNotFoundError, NotADirectoryError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_of_the_file(tmp_path, monkeypatch):
    opened = Path.open

    def open_full(self, mode):
        stream = opened(self, mode)
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, stream.fileno())  # under its own name: whoever removes it is not to remove the device
        os.close(full)
        return stream

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(OSError, match="No space left") as raised, atomic_write(tmp_path / "f") as stream:
        stream.write(b"x" * (1 << 20))
    assert raised.value.filename == str(tmp_path / "f")


def test_a_pipe_or_a_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="neither a file nor") as raised, atomic_write(tmp_path / name):
            pytest.fail("the block began")
        assert raised.value.filename == str(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_is_written_through_or_refused(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "f")
    with atomic_write(tmp_path / "link") as stream:
        stream.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "f").read_bytes() == b"new"
    with pytest.raises(OSError, match="symbolic link"):
        write_json(tmp_path / "link", 1)
    assert (tmp_path / "disk" / "f").read_bytes() == b"new"


def test_what_a_killed_writer_left_is_swept(tmp_path):
    (tmp_path / ".f.0123456789abcdef.tmp").write_text("half")
    (tmp_path / ".f.0123456789abcdef.tmp.mine").write_text("mine")
    (tmp_path / ".g.0123456789abcdef.tmp").write_text("another's")
    with atomic_write(tmp_path / "f") as one, atomic_write(tmp_path / "f") as two:
        assert Path(one.name).exists()
        assert Path(two.name).exists()
        one.write(b"1")
        two.write(b"2")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".f.0123456789abcdef.tmp.mine", ".g.0123456789abcdef.tmp", "f",
    ]  # fmt: skip


def test_an_output_that_is_an_input_is_known_by_any_spelling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").hardlink_to("a")
    (tmp_path / "d").write_text("")
    assert all(same_file(name, tmp_path / "a") for name in ("a", "./a", "b", "c"))
    assert not same_file("d", "a")
    assert same_file("new", "./new")
