"""Whose a directory is, and how a new one takes its name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nuner_embed import artifacts
from nuner_embed.artifacts import Kind, replacing, require_no_links, require_replaceable, sweep_folder
from nuner_embed.errors import StoreError, StoreLocked
from nuner_embed.metadata import read_object


def _read(directory: Path) -> object:
    return read_object(directory / "box.json", version=1, error=StoreError, what="a box", cure="make another")


BOX = Kind("a box", "box.json", _read, ("content", "parts/*.npy"), StoreError, StoreLocked)


def make(directory: Path, content: str, *, force: bool = False) -> None:
    with replacing(directory, BOX, force=force) as work:
        (work / "box.json").write_text('{"schema_version": 1}')
        (work / "content").write_text(content)
        (work / "parts").mkdir()
        (work / "parts" / "0.npy").write_text(content)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


WHOLE = ["box", "box/box.json", "box/content", "box/parts", "box/parts/0.npy"]


@pytest.fixture(params=["exchange", "renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "renames":
        monkeypatch.setattr(artifacts, "_exchange", lambda one, other: False)
    return str(request.param)


def test_a_directory_is_made_and_replaced_whole(tmp_path: Path, way: str) -> None:
    make(tmp_path / "box", "one")
    with pytest.raises(StoreError, match="holds a box; name another directory, or replace it with --force"):
        make(tmp_path / "box", "two")
    make(tmp_path / "box", "two", force=True)
    assert (tmp_path / "box" / "content").read_text() == "two"
    assert names(tmp_path) == WHOLE


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    make(tmp_path / "box", "one")
    assert names(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda box: (box / "thesis.txt").write_text("mine"), "holds thesis.txt and no box.json"),
        (lambda box: (box / "parts").mkdir(), "holds parts and no box.json"),
        (lambda box: (box / "box.json").write_text('{"my": "own"}'), "is not a box"),
        (lambda box: (box / "box.json").write_text('{"schema_version": 2}'), "has schema version 2"),
        (lambda box: (box / "box.json").write_text("{"), "cannot be read as a box"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_what_has_no_marker_of_ours_is_left_alone(tmp_path: Path, prepare: object, message: str, force: bool) -> None:
    box = tmp_path / "box"
    box.mkdir()
    prepare(box)  # type: ignore[operator]
    before = names(tmp_path)
    with pytest.raises(StoreError, match=message):
        make(box, "new", force=force)
    assert names(tmp_path) == before


DEEP = Kind("a deep box", "parts/box.json", _read, (), StoreError, StoreLocked)


@pytest.mark.parametrize(
    ("names", "begun"),
    [
        ([], True),
        (["parts/"], True),
        (["parts/.lock"], True),
        (["parts/.lock", "parts/.box.json.0123456789abcdef.tmp"], True),
        (["parts/box.json"], False),
        (["parts/mine"], False),
        (["parts/mine/"], False),
        (["mine/"], False),
        ([".lock"], False),
        ([".box.json.0123456789abcdef.tmp"], False),
        (["parts/.other.json.0123456789abcdef.tmp"], False),
    ],
)
def test_a_directory_whose_marker_was_never_written(tmp_path: Path, names: list[str], begun: bool) -> None:
    for name in names:
        path = tmp_path / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    assert artifacts.is_only_begun(tmp_path, DEEP) is begun
    if begun and names:
        (tmp_path / "parts" / ".lock").write_text("mine")
        assert not artifacts.is_only_begun(tmp_path, DEEP)
        (tmp_path / "parts" / ".lock").unlink()
        (tmp_path / "parts" / ".lock").symlink_to(tmp_path)
        assert not artifacts.is_only_begun(tmp_path, DEEP)


@pytest.mark.parametrize("stranger", ["notes.txt", "parts/notes.txt", "other/0.npy", "parts/deep/0.npy"])
def test_what_we_did_not_write_is_never_removed(tmp_path: Path, stranger: str) -> None:
    make(tmp_path / "box", "one")
    path = tmp_path / "box" / stranger
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("mine")
    with pytest.raises(StoreError, match=f"holds {Path(stranger).parts[0]}.*not part of a box"):
        make(tmp_path / "box", "two", force=True)
    assert path.read_text() == "mine"
    assert (tmp_path / "box" / "content").read_text() == "one"


def test_what_came_in_the_meantime_is_kept(tmp_path: Path) -> None:
    make(tmp_path / "box", "one")

    def disturbed() -> None:
        with replacing(tmp_path / "box", BOX, force=True) as work:
            (work / "box.json").write_text('{"schema_version": 1}')
            (tmp_path / "box" / "mine.txt").write_text("mine")

    with pytest.raises(StoreError, match=r"holds mine\.txt"):
        disturbed()
    assert (tmp_path / "box" / "content").read_text() == "one"
    assert names(tmp_path) == [*WHOLE[:3], "box/mine.txt", *WHOLE[3:]]


def test_links_within_are_strangers(tmp_path: Path) -> None:
    make(tmp_path / "box", "one")
    shutil.rmtree(tmp_path / "box" / "parts")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "0.npy").write_text("mine")
    (tmp_path / "box" / "parts").symlink_to(tmp_path / "precious")
    with pytest.raises(StoreError, match="holds parts, which is not part of a box"):
        make(tmp_path / "box", "two", force=True)
    with pytest.raises(StoreError, match="parts is a symbolic link"):
        require_no_links(tmp_path / "box", StoreError)
    assert (tmp_path / "precious" / "0.npy").read_text() == "mine"


def test_a_link_is_followed_to_what_it_names(tmp_path: Path) -> None:
    make(tmp_path / "disk" / "box", "one")
    (tmp_path / "box").symlink_to(tmp_path / "disk" / "box")
    make(tmp_path / "box", "two", force=True)
    assert (tmp_path / "box").is_symlink()
    assert (tmp_path / "disk" / "box" / "content").read_text() == "two"


def test_the_folder_that_one_stands_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "box", "one")
    monkeypatch.chdir(tmp_path / "box" / "parts")
    with pytest.raises(StoreError, match="is the current folder"):
        require_replaceable(tmp_path / "box", BOX, force=True)


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "box", BOX):
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_an_error_names_the_file_that_was_to_be(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, replacing(tmp_path / "box", BOX) as work:
        (work / "parts" / "0.npy").write_text("")
    assert raised.value.filename == str(tmp_path / "box" / "parts" / "0.npy")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with replacing(tmp_path / "box", BOX) as work:
        code = (
            "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); from test_artifacts import make\n"
            "from nuner_embed.errors import StoreLocked\n"
            "try: make(Path(sys.argv[1]), 'other')\n"
            "except StoreLocked as error: print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "box", Path(__file__).parent], capture_output=True, text=True
        )
        assert "another process is writing" in done.stdout
        (work / "box.json").write_text('{"schema_version": 1}')
    assert names(tmp_path) == WHOLE[:2]


POINTS = ["work", "made", "stepped aside", "renamed"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("first", [False, True])
def test_what_was_killed_is_brought_to_its_end(tmp_path: Path, way: str, point: str, first: bool) -> None:
    """A process that dies at a rename, whichever: the next one finds the old directory or the new one, and sweeps."""
    if not first:
        make(tmp_path / "box", "one")
    code = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from nuner_embed import artifacts
import test_artifacts
way, point, first = {way!r}, {point!r}, {first!r}
if way == "renames":
    artifacts._exchange = lambda one, other: False
steps = {{"work": 0, "made": 1, "stepped aside": 2, "renamed": 3}}[point]
rename, exchange, done = Path.rename, artifacts._exchange, 0
def dying(act):
    def acting(*arguments):
        global done
        if done >= steps:
            os.kill(os.getpid(), 9)
        done += 1
        found = act(*arguments)
        return found
    return acting
Path.rename = dying(rename)
if way == "exchange":
    artifacts._exchange = dying(exchange)
artifacts.shutil.rmtree = dying(artifacts.shutil.rmtree)
test_artifacts.make(Path({str(tmp_path / "box")!r}), "two", force=True)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    make(tmp_path / "box", "three", force=True)
    assert (tmp_path / "box" / "content").read_text() == "three"
    assert names(tmp_path) == WHOLE


def test_a_former_directory_that_stepped_aside_comes_back(tmp_path: Path) -> None:
    make(tmp_path / "box", "one")
    (tmp_path / "box").rename(tmp_path / ".box.0123456789abcdef.old")
    with pytest.raises(StoreError, match="holds a box"):
        make(tmp_path / "box", "two")
    assert (tmp_path / "box" / "content").read_text() == "one"


def test_only_names_that_we_could_have_made_are_swept(tmp_path: Path) -> None:
    kept = [".box.new", ".box.0123.new", ".box.0123456789abcdeX.new", ".other.0123456789abcdef.new", "box.new"]
    for name in [*kept, ".box.0123456789abcdef.new"]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    (tmp_path / "precious").mkdir()
    (tmp_path / ".box.1123456789abcdef.new").symlink_to(tmp_path / "precious")
    make(tmp_path / "box", "one")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([*kept, "precious", ".box.1123456789abcdef.new", "box"])


def test_a_folder_is_swept_of_what_nobody_is_at(tmp_path: Path) -> None:
    from nuner_embed.files import atomic_write

    (tmp_path / ".a.json.0123456789abcdef.tmp").write_text("half")
    (tmp_path / ".box.0123456789abcdef.new").mkdir()
    (tmp_path / ".mine.tmp").write_text("mine")
    with atomic_write(tmp_path / "b.json") as stream, replacing(tmp_path / "other", BOX) as work:
        stream.write(json.dumps(1).encode())
        removed = sweep_folder(tmp_path)
        assert work.is_dir()
        (work / "box.json").write_text('{"schema_version": 1}')
    assert sorted(path.name for path in removed) == [".a.json.0123456789abcdef.tmp", ".box.0123456789abcdef.new"]
    assert names(tmp_path) == [".mine.tmp", "b.json", "other", "other/box.json"]


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        make(tmp_path / "box", "one")
    finally:
        os.umask(before)
    assert (tmp_path / "box").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "box" / "content").stat().st_mode & 0o777 == 0o640
