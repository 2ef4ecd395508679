"""The directory of an index: which files belong to it, its lock, and what killed writers left in it."""

import contextlib
import re
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from nuner_embed.artifacts import Kind, lock, require_no_links
from nuner_embed.errors import IndexBundleError, IndexLocked
from nuner_embed.files import remove_abandoned, sync_folder
from nuner_embed.indexes.base import BACKENDS
from nuner_embed.indexes.bundle import (
    IDS_FILE,
    LATE_FILE,
    LOCK_FILE,
    MANIFEST_FILE,
    SEGMENT_NAME,
    SEGMENTS_FOLDER,
    TOMBSTONES,
    VECTORS_FILE,
    Bundle,
)

_FILES = (*(backend.file for backend in BACKENDS.values() if backend.file), VECTORS_FILE, IDS_FILE, LATE_FILE)
_PARTS_SUFFIX = ".parts"  # of the folder in which compaction gathers rows
_SEGMENT_FILE = re.compile("|".join(map(re.escape, _FILES)) + r"|(?:rows|documents)-[0-9]{5,9}\.parquet")
_PART_FILE = re.compile(r"[0-9]{1,9}(?:\.documents)?\.parquet")
_TEMPORARY = re.compile(rf"\.(?:{re.escape(MANIFEST_FILE)}|{TOMBSTONES.pattern})\.[0-9a-f]{{16}}\.tmp")
_DIGITS = ["[0-9]" * width for width in range(5, 10)]
KIND = Kind(
    name="an index",
    marker=MANIFEST_FILE,
    read=Bundle.read,
    files=(
        LOCK_FILE,
        "tombstones-[0-9]*.npy",
        f".{MANIFEST_FILE}.*.tmp",
        ".tombstones-[0-9]*.npy.*.tmp",
        *(
            f"{SEGMENTS_FOLDER}/{digits}/{name}"
            for digits in _DIGITS
            for name in (*_FILES, "rows-[0-9]*.parquet", "documents-[0-9]*.parquet")
        ),
        *(f"{SEGMENTS_FOLDER}/{digits}{_PARTS_SUFFIX}/[0-9]*.parquet" for digits in _DIGITS),
    ),
    error=IndexBundleError,
    locked=IndexLocked,
)  # fmt: skip


def changing_alone(directory: Path) -> AbstractContextManager[None]:
    """Holds the writer's lock of an existing index.

    Raises:
        IndexLocked: another process holds the lock.
        IndexBundleError: the index cannot be written, or something in it is a symbolic link.
    """
    require_no_links(directory, IndexBundleError)
    busy = IndexLocked(f"another process is changing {directory}; try again when it is done")
    return lock(directory / LOCK_FILE, busy, IndexBundleError)


def successor(directory: Path, bundle: Bundle) -> Bundle:
    """The first state of a new index that replaces another one under the same name.

    The new index uses no file name of the old manifest: a reader that has read the old manifest finds files missing,
    not new files in their place, and reads the manifest again.
    """
    before = Bundle.read(directory)
    return replace(bundle, generation=before.generation + 1, next_segment=before.next_segment)


def new_segment(directory: Path, bundle: Bundle) -> Path:
    """The folder of the segment that will be written next, which does not exist yet.

    Raises:
        IndexBundleError: the folder exists, and holds files that are not of an index; what a killed writer left was
            removed before.
    """
    folder = directory / SEGMENTS_FOLDER / f"{bundle.next_segment:05d}"
    for path in (folder, parts_folder(folder)):
        if path.is_dir() and any(path.iterdir()):
            raise IndexBundleError(
                f"{path} holds {next(iter(_within(path))).name}, which is not part of an index; move it away"
            )
    return folder


def parts_folder(segment: Path) -> Path:
    """Where compaction gathers the rows of a segment that it is about to write."""
    return segment.with_name(f"{segment.name}{_PARTS_SUFFIX}")


def clear_strays(directory: Path, bundle: Bundle) -> None:
    """Removes files of an index that the state does not name; only the holder of the lock may call this."""
    named = {entry.name for entry in bundle.segments}
    for folder in _within(directory / SEGMENTS_FOLDER):
        name, parts = folder.name.removesuffix(_PARTS_SUFFIX), folder.name.endswith(_PARTS_SUFFIX)
        if SEGMENT_NAME.fullmatch(name) and (parts or name not in named):
            _remove_folder(folder, _PART_FILE if parts else _SEGMENT_FILE)
    for path in _within(directory):
        if _TEMPORARY.fullmatch(path.name):
            remove_abandoned(path)
        elif TOMBSTONES.fullmatch(path.name) and path.name != bundle.tombstones and path.is_file():
            path.unlink()
    sync_folder(directory)


def _within(folder: Path) -> list[Path]:
    """The entries of a folder, sorted; none if there is no folder, or it is a symbolic link."""
    return sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


def _remove_folder(folder: Path, ours: re.Pattern[str]) -> None:
    """Removes the files of a folder whose names match, and the folder if it is empty then."""
    for path in _within(folder):
        if ours.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink()
    with contextlib.suppress(OSError):  # a link, a file, or a folder that still holds something
        folder.rmdir()
