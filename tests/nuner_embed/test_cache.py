"""Where what can be made again is kept, whoever runs this and whatever can be written."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from nuner_embed import cache
from nuner_embed.cache import cached
from nuner_embed.errors import NunerEmbedError

as_root = pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can become another user")


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """A user without a home folder, whose temporary files lie in a folder of the test."""
    for name in ("NUNER_EMBED_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does where the system knows no user
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    cache._temporary.cache_clear()
    yield
    cache._temporary.cache_clear()


def temporary(tmp_path: Path) -> Path:
    return tmp_path / "tmp" / f"nuner-embed-{os.getuid()}"


def test_the_folder_that_is_named_then_xdg_then_home(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("NUNER_EMBED_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cached("a") == tmp_path / "home/.cache/nuner-embed/a"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # not valid, and not made in whatever folder this runs in
    assert cached("a") == tmp_path / "home/.cache/nuner-embed/a"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cached("a", "b") == tmp_path / "xdg/nuner-embed/a/b"
    assert (tmp_path / "xdg/nuner-embed/a").is_dir()
    monkeypatch.setenv("NUNER_EMBED_CACHE", "~/named")
    assert cached("a", folder=True) == tmp_path / "home/named/a"
    assert (tmp_path / "home/named/a").is_dir()


def test_no_home_folder_is_a_temporary_cache_and_one_line(tmp_path, caplog):
    caplog.set_level(logging.INFO, "nuner_embed")
    assert cached("models", "m") == temporary(tmp_path) / "models" / "m"
    assert cached("features", folder=True).is_dir()
    assert temporary(tmp_path).stat().st_mode & 0o777 == 0o700
    (line,) = caplog.messages
    assert line == (
        f"there is no home folder; the cache folder is {temporary(tmp_path)}; "
        "the environment variable NUNER_EMBED_CACHE names another"
    )


@pytest.mark.parametrize("home", ["", "relative"])
def test_a_home_that_is_no_whole_path_is_none(monkeypatch, tmp_path, home):
    monkeypatch.setattr(Path, "home", lambda: Path(home))
    assert cached("m") == temporary(tmp_path) / "m"


def test_a_home_in_which_nothing_can_be_made(monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.INFO, "nuner_embed")
    (tmp_path / "home").write_text("a file, so that not even root makes a folder in it")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert cached("m") == temporary(tmp_path) / "m"
    assert caplog.messages[0].startswith(f"{tmp_path}/home/.cache/nuner-embed cannot be written; the cache folder is")


def test_what_a_read_only_cache_holds_is_used(monkeypatch, tmp_path):
    kept = tmp_path / "home/.cache/nuner-embed/models/m"
    kept.mkdir(parents=True)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert cached("models", "m") == kept
    assert cached("models", "other") == temporary(tmp_path) / "models/other"
    assert cached("models", folder=True) == temporary(tmp_path) / "models"


def test_a_named_folder_that_cannot_be_written_is_refused(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path / "file"))
    with pytest.raises(NunerEmbedError, match=r"NUNER_EMBED_CACHE is .*/file, which cannot be written \(.+\); name a"):
        cached("models", "m")


def test_a_temporary_folder_of_somebody_else_is_not_used(tmp_path):
    temporary(tmp_path).mkdir()
    temporary(tmp_path).chmod(0o777)
    found = cached("models", "m")
    assert found.parent.parent != temporary(tmp_path)
    assert found.parent.parent.parent == tmp_path / "tmp"
    assert found.parent.is_dir()


def test_nowhere_to_write_names_the_variable(monkeypatch, tmp_path):
    (tmp_path / "tmp").rmdir()
    with pytest.raises(
        NunerEmbedError, match="no writable cache folder .*; name one with the environment variable NUNER_EMBED_CACHE"
    ):
        cached("m")


@as_root
@pytest.mark.parametrize("home", [{}, {"HOME": "/"}, {"HOME": ""}])
def test_a_user_without_a_passwd_entry(tmp_path, home):
    code = """
    import os
    from nuner_embed.cache import cached
    os.setgroups([]); os.setgid(12345); os.setuid(12345)
    print(cached('models', 'm'), cached('features', folder=True))
    """
    where = tempfile.mkdtemp(dir="/tmp")  # pytest's own folder is closed to others
    Path(where).chmod(0o777)
    environment = {**home, "TMPDIR": where, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True)
    kept = f"{where}/nuner-embed-12345"
    assert done.stdout.split() == [f"{kept}/models/m", f"{kept}/features"], done.stderr
    assert Path(kept).stat().st_uid == 12345
    shutil.rmtree(where)
