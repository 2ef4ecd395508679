"""Temporary files and folders of killed commands, in the cache and in folders of the user: found, and removed."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nuner_embed.artifacts import leftovers, lock, sweep_folder
from nuner_embed.cache import cache_folder
from nuner_embed.errors import NunerEmbedError
from nuner_embed.files import expand

_DEPTH: Final = 3  # an artefact in the folder, a folder of the artefact, and one within that
# The temporary name of a composed model in releases before 0.2: `.NAME-HASH.` and eight characters of tempfile.
_HALF_COMPOSED: Final = re.compile(r"\.(?P<model>[\w-]+-[0-9a-f]{16})\.[a-z0-9_]{8}")


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file or folder that a killed command left.

    Attributes:
        path: of the file or folder.
        bytes: its size.
    """

    path: Path
    bytes: int


def find_leftovers(folders: Sequence[str | os.PathLike[str]] = (".",)) -> list[Leftover]:
    """Finds files and folders with the names of temporary ones; a running command may still be using them.

    Args:
        folders: to search besides the cache folder, three levels deep; links are not followed.

    Raises:
        NunerEmbedError: a path is no folder.
    """
    found = [path for folder in _folders(folders) for path in _of(folder)]
    return [Leftover(path, _bytes(path)) for path in dict.fromkeys(found)]


def clean(folders: Sequence[str | os.PathLike[str]] = (".",)) -> list[Leftover]:
    """Removes what `find_leftovers` finds and no process is using.

    Returns:
        What was removed.

    Raises:
        NunerEmbedError: a path is no folder.
    """
    removed = []
    for folder in _folders(folders):
        sizes = {path: _bytes(path) for path in _of(folder)}
        gone: list[Path] = []
        with contextlib.suppress(OSError):  # the folder cannot be written, or is gone
            gone += sweep_folder(folder)
            gone += [path for path in _half_composed(folder) if _remove_half_composed(path)]
        removed += [Leftover(path, sizes.get(path, 0)) for path in gone]
    return removed


def _of(folder: Path) -> list[Path]:
    try:
        return [*leftovers(folder), *_half_composed(folder)]
    except OSError:  # the folder cannot be read, or is gone
        return []


def _folders(named: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The named folders and the cache with their sub-folders, each once."""
    tops = [expand(folder) for folder in named]
    for top in tops:
        if not top.is_dir():
            raise NunerEmbedError(f"{top} is not a folder; name folders to look for leftovers in")
    kept = cache_folder()
    tops += [kept] if kept and kept.is_dir() else []
    return list(dict.fromkeys(folder for top in tops for folder in _within(top.absolute(), _DEPTH)))


def _within(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    if depth:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            inner = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
            for path in sorted(inner):
                if not path.name.startswith("."):
                    yield from _within(path, depth - 1)


def _half_composed(folder: Path) -> list[Path]:
    kept = cache_folder()
    if kept is None or folder != kept / "models":
        return []
    named = [path for path in folder.iterdir() if _HALF_COMPOSED.fullmatch(path.name)]
    return sorted(path for path in named if path.is_dir() and not path.is_symlink())


def _remove_half_composed(path: Path) -> bool:
    match = _HALF_COMPOSED.fullmatch(path.name)
    assert match
    busy = NunerEmbedError("it is being made")
    with contextlib.suppress(NunerEmbedError), lock(path.with_name(f"{match['model']}.lock"), busy, NunerEmbedError):
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()
    return False


def _bytes(path: Path) -> int:
    """The size of a file or of all files in a folder; links are not followed."""
    paths = [path] if not path.is_dir() else [Path(top) / name for top, _, names in os.walk(path) for name in names]
    total = 0
    for one in paths:
        with contextlib.suppress(OSError):
            total += one.lstat().st_size
    return total
