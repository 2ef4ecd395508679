"""Where an index comes to lie, and what must not lie there."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from nuner_embed.errors import IndexBundleError, IndexLocked
from nuner_embed.files import sync_folder
from nuner_embed.indexes.bundle import SEGMENTS_FOLDER, Bundle


def require_free(directory: Path, force: bool) -> None:
    """Refuses a directory that holds anything, but for an index that is to be replaced.

    Raises:
        IndexBundleError: saying what is there.
    """
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    if not (directory / SEGMENTS_FOLDER).is_dir():
        raise IndexBundleError(f"{directory} exists and is no index; name a new directory")
    if not force:
        raise IndexBundleError(f"{directory} holds an index; add to it, name a new directory, or give --force")


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Holds a lock beside a directory that is being made."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory.with_name(f".{directory.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise IndexLocked(f"another process is building {directory}; try again when it is done") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def put(work: Path, directory: Path) -> None:
    """Gives a finished index its name; one that was there goes once it has another."""
    old = directory.with_name(f".{directory.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    work.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
    sync_folder(directory.parent)


def clear_strays(directory: Path, bundle: Bundle) -> None:
    """Removes what no state names any more: only the holder of the lock may."""
    named = {entry.name for entry in bundle.segments}
    for folder in (directory / SEGMENTS_FOLDER).iterdir():
        if folder.name not in named:
            shutil.rmtree(folder, ignore_errors=True)
    for path in directory.glob("*tombstones-*"):
        if path.name != bundle.tombstones:
            path.unlink(missing_ok=True)
    sync_folder(directory)
