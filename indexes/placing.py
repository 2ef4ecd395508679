"""Where an index comes to lie, and what must not lie there."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from nuner_embed.errors import IndexBundleError, IndexLocked
from nuner_embed.files import sync_folder
from nuner_embed.indexes.bundle import LOCK_FILE, SEGMENTS_FOLDER, Bundle


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
    """Holds a lock beside a directory that is being made.

    Raises:
        IndexLocked: somebody else holds it.
        IndexBundleError: nothing can be written there.
    """
    lock = FileLock(directory.with_name(f".{directory.name}.lock"), timeout=0)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise IndexLocked(f"another process is building {directory}; try again when it is done") from None
    except OSError as error:
        raise IndexBundleError(f"{directory} cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def put(work: Path, directory: Path) -> None:
    """Gives a finished index its name, which nothing bears yet but perhaps an empty directory."""
    if directory.exists():
        directory.rmdir()
    work.rename(directory)
    sync_folder(directory.parent)


@contextlib.contextmanager
def changing_alone(directory: Path) -> Iterator[None]:
    """Holds the lock of an index that is there.

    Raises:
        IndexLocked: somebody else holds it.
    """
    lock = FileLock(directory / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise IndexLocked(f"another process is changing {directory}; try again when it is done") from None
    try:
        yield
    finally:
        lock.release()


def successor(directory: Path, bundle: Bundle) -> Bundle:
    """The first state of a new index that is to stand where another stands, which may be damaged.

    Its segment gets a name that no segment here has or had, so that whoever reads sees either index whole.
    """
    try:
        before = Bundle.read(directory)
    except IndexBundleError:
        before = bundle
    there = [int(folder.name) for folder in (directory / SEGMENTS_FOLDER).iterdir() if folder.name.isdecimal()]
    number = max([before.next_segment, *(name + 1 for name in there)])
    return replace(bundle, generation=before.generation + 1, next_segment=number)


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
