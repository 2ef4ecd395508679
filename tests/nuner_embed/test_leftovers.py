"""What killed commands left, and what is never taken for it."""

import fcntl
import os

import pytest
from command import run

from nuner_embed.artifacts import lock, lock_beside
from nuner_embed.errors import NunerEmbedError
from nuner_embed.leftovers import clean, find_leftovers

HEX = "0123456789abcdef"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of a user, with a cache of its own beside."""
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "models").mkdir(parents=True)
    (tmp_path / "user").mkdir()
    return tmp_path


def left(path, size=1000):
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"0" * size)
    return path


def test_what_was_left_is_found_and_removed_everywhere(place):
    made = [
        left(place / "cache" / "models" / f".nuner-mini-{HEX}.{HEX}.new"),
        left(place / "cache" / "models" / f".nuner-mini-{HEX}.a1b2c3d4"),  # as earlier releases called it
        left(place / "user" / f".out.{HEX}.new"),
    ]
    (place / "user" / "store" / "shards").mkdir(parents=True)
    inner = place / "user" / "store" / "shards" / f".a.parquet.{HEX}.tmp"
    inner.write_bytes(b"0" * 50)
    found = find_leftovers([place / "user"])
    assert {one.path for one in found} == {*made, inner}
    assert sum(one.bytes for one in found) == 3050
    removed = clean([place / "user"])
    assert {(one.path, one.bytes) for one in removed} == {*((path, 1000) for path in made), (inner, 50)}
    assert find_leftovers([place / "user"]) == []
    assert clean([place / "user"]) == []


def test_what_is_no_leftover_of_ours_stays(place):
    names = [
        f"out.{HEX}.new",
        f".out.{HEX}.bak",
        ".out.1234.tmp",
        f".out.{HEX}0.new",
        ".git",
        f".nuner-mini-{HEX}.a1b2",
    ]
    for name in names:
        left(place / "user" / name)
    (place / "user" / f".linked.{HEX}.new").symlink_to(place / "user" / ".git")
    (place / "user" / f".linked.{HEX}.tmp").symlink_to(place / "user" / ".git" / "model.safetensors")
    (place / "user" / "elsewhere").symlink_to(left(place / "other" / f".out.{HEX}.new").parent)
    os.mkfifo(place / "user" / f".pipe.{HEX}.tmp")
    assert clean([place / "user"]) == []
    assert all((place / "user" / name / "model.safetensors").is_file() for name in names)
    assert (place / "other" / f".out.{HEX}.new").is_dir()


def test_what_a_process_is_at_stays(place):
    directory = left(place / "user" / f".out.{HEX}.new")
    half = left(place / "cache" / "models" / f".nuner-mini-{HEX}.a1b2c3d4")
    file = place / "user" / f".a.json.{HEX}.tmp"
    busy = NunerEmbedError("busy")
    with (
        lock(lock_beside(place / "user" / "out"), busy, NunerEmbedError),
        lock(half.with_name(f"nuner-mini-{HEX}.lock"), busy, NunerEmbedError),
        file.open("wb") as stream,
    ):
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert clean([place / "user"]) == []
    assert {one.path for one in clean([place / "user"])} == {directory, half, file}


def test_a_former_directory_gets_its_name_back(place):
    (left(place / "user" / f".out.{HEX}.old") / "export.json").write_text("{}")
    assert clean([place / "user"]) == []
    assert (place / "user" / "out" / "export.json").is_file()


def test_the_command(place):
    left(place / "user" / f".out.{HEX}.new")
    result = run("doctor", "--clean", place / "user", check=0)
    assert result.stdout == f"removed {place}/user/.out.{HEX}.new, 1.0 kB\n"
    assert result.stderr == "1 leftover, 1.0 kB removed\n"
    assert run("doctor", "--clean", place / "user", check=0).stderr == "nothing to remove\n"
    assert "is not a folder" in run("doctor", "--clean", place / "none", check=1).stderr
