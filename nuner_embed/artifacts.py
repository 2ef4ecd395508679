"""Directories that this project makes: how they are recognised, locked, replaced and published.

A directory is ours if it holds its marker: a file with our schema, which `Kind.read` reads. What nuner-embed did not
write is never removed and never overwritten, whatever the options.
"""

import contextlib
import errno
import fnmatch
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from nuner_embed.errors import NunerEmbedError
from nuner_embed.files import remove_abandoned, sync_folder, sync_tree, temporary_name, temporary_names

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.(?P<suffix>new|old|ready|tmp)", re.DOTALL)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NO_EXCHANGE = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of directory that this project writes.

    Attributes:
        name: with its article, for messages: "an index".
        marker: the file that identifies a directory of this kind.
        read: reads the marker of a directory; raises `error` if the marker is damaged or of another program.
        files: patterns of the paths that such a directory may contain, one pattern a file; `*` stands for any
            characters within one name. The marker need not be listed.
        error: the class of errors to raise.
        locked: the class to raise where another process is working on the directory.
    """

    name: str
    marker: str
    read: Callable[[Path], object]
    files: tuple[str, ...]
    error: type[NunerEmbedError]
    locked: type[NunerEmbedError]

    def strangers(self, directory: Path) -> list[str]:
        """Paths within a directory that do not belong to this kind; symbolic links never belong."""
        found = []
        patterns = [PurePosixPath(pattern).parts for pattern in (self.marker, *self.files)]
        for parent, folders, names in os.walk(directory):
            inner = PurePosixPath(Path(parent).relative_to(directory).as_posix())
            for name in list(folders):
                parts = (inner / name).parts
                if (Path(parent) / name).is_symlink() or not any(_begins(parts, pattern) for pattern in patterns):
                    folders.remove(name)
                    found.append(str(inner / name))
            for name in names:
                parts = (inner / name).parts
                left = _LEFTOVER.fullmatch(name)  # of one of the files, whose writer was killed
                written = (*parts[:-1], left["name"]) if left and left["suffix"] == "tmp" else parts
                if (Path(parent) / name).is_symlink() or not any(_matches(written, pattern) for pattern in patterns):
                    found.append(str(inner / name))
        return sorted(found)


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    return len(parts) == len(pattern) and _begins(parts, pattern)


def _begins(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    return len(parts) <= len(pattern) and all(
        fnmatch.fnmatchcase(part, one) for part, one in zip(parts, pattern, strict=False)
    )


def is_free(directory: Path) -> bool:
    """Whether the path does not exist, or is an empty directory."""
    return not os.path.lexists(directory) or (directory.is_dir() and not any(directory.iterdir()))


def is_only_begun(directory: Path, kind: Kind) -> bool:
    """Whether a command was killed in a directory before it wrote the marker.

    Such a directory holds at most the marker's folder, an empty `.lock`, and temporary files of the marker.
    """
    marker = directory / kind.marker
    if not directory.is_dir() or os.path.lexists(marker):
        return False
    begun = temporary_names(marker)
    for parent, folders, names in os.walk(directory):
        here = Path(parent)
        if any((here / name).is_symlink() or not marker.is_relative_to(here / name) for name in folders):
            return False
        for name in names:
            facts = (here / name).lstat()
            empty_lock = name == ".lock" and not facts.st_size
            ours = here == marker.parent and (empty_lock or begun.fullmatch(name))
            if not (stat.S_ISREG(facts.st_mode) and ours):
                return False
    return True


def require_ours(directory: Path, kind: Kind) -> None:
    """Refuses a directory without a valid marker of the kind, or with files that do not belong to the kind.

    Raises:
        NunerEmbedError: the kind's error; the message names what was found.
    """
    if not directory.is_dir():
        raise kind.error(f"{directory} is a file; name a directory for {kind.name}")
    marker = directory / kind.marker
    if not marker.is_file() or marker.is_symlink():
        there = next(iter(sorted(path.name for path in directory.iterdir())), "nothing")
        raise kind.error(
            f"{directory} holds {there} and no {kind.marker}: it is not {kind.name}; name another directory"
        )
    try:
        kind.read(directory)
    except NunerEmbedError as error:
        raise kind.error(
            f"{directory} is not known to be {kind.name} ({error}); name another directory, or remove that one yourself"
        ) from None
    strangers = kind.strangers(directory)
    if strangers:
        raise kind.error(
            f"{directory} holds {strangers[0]}, which is not part of {kind.name}; "
            "move that file away or name another directory"
        )


def require_replaceable(directory: Path, kind: Kind, *, force: bool) -> None:
    """Refuses a directory that is neither free nor, with `force`, a directory of the kind that may be replaced.

    Raises:
        NunerEmbedError: the kind's error; the message names what was found.
    """
    if is_free(directory):
        return
    require_ours(directory, kind)
    if not force:
        raise kind.error(f"{directory} holds {kind.name}; name another directory, or replace it with --force")
    if Path.cwd().is_relative_to(directory):
        raise kind.error(f"{directory} is the current folder; name another directory for {kind.name}")


@contextlib.contextmanager
def lock(path: Path, busy: NunerEmbedError, error: type[NunerEmbedError], *, wait: bool = False) -> Iterator[None]:
    """Holds a lock file; the operating system releases the lock when the process ends.

    Args:
        path: of the lock file, which is not removed.
        busy: the error to raise where another process holds the lock.
        error: the class of the error to raise where the file cannot be made.
        wait: wait for the lock instead of raising `busy`.
    """
    if path.is_symlink():
        raise error(f"{path} is a symbolic link, which nuner-embed never makes; remove the link")
    held = FileLock(path, timeout=-1 if wait else 0)
    try:
        held.acquire()
    except Timeout:
        raise busy from None
    except OSError as problem:
        raise error(f"{path.parent} cannot be written: {problem.strerror or problem}") from None
    try:
        yield
    finally:
        held.release()


def lock_beside(directory: Path) -> Path:
    """The lock file to hold while a directory is made or replaced."""
    return directory.with_name(f".{directory.name}.lock")


@contextlib.contextmanager
def replacing(directory: Path, kind: Kind, *, force: bool = False) -> Iterator[Path]:
    """Yields a new folder to fill, which is renamed to `directory` in one step if the block ends without an error.

    The folder lies beside the directory. What killed attempts left is removed first, or their renames are completed.
    Where `directory` is a symbolic link, the directory that the link names is made.

    Args:
        directory: the final path.
        kind: of the directory.
        force: replace an existing directory of the kind.

    Raises:
        NunerEmbedError: the kind's error: the path is taken by something else, or another process is writing it.
    """
    named, directory = directory, Path(os.path.realpath(directory))
    require_replaceable(directory, kind, force=force)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise kind.error(f"{error.filename} cannot be made: {error.strerror}") from None
    beside = lock_beside(directory)
    busy = kind.locked(f"another process is writing {directory}; wait for it or stop it")
    with lock(beside, busy, kind.error):
        try:
            sweep(directory)
            require_replaceable(directory, kind, force=force)
            work = temporary_name(directory, "new")
            work.mkdir()
            try:
                with _as_if_there(work, named):
                    yield work
                publish(work, directory, kind)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
        finally:
            beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _as_if_there(work: Path, directory: Path) -> Iterator[None]:
    """Makes an OSError of the block, such as that of a full disk, name the final path instead of the temporary one."""
    try:
        yield
    except OSError as error:
        if error.filename is None or not Path(os.fsdecode(error.filename)).is_relative_to(work):
            raise
        path = directory / Path(os.fsdecode(error.filename)).relative_to(work)
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def publish(work: Path, directory: Path, kind: Kind) -> None:
    """Renames a finished folder in one step; an existing directory of the kind is replaced and removed.

    Raises:
        NunerEmbedError: the kind's error: something else took the path in the meantime. Nothing was changed.
    """
    sync_tree(work)
    if is_free(directory):
        work.rename(directory)  # replaces an empty directory too
        sync_folder(directory.parent)
        return
    require_ours(directory, kind)
    if _exchange(work, directory):
        old = work
    else:  # a file system that cannot exchange: `sweep` finishes what is interrupted between the renames
        ready, old = temporary_name(directory, "ready"), temporary_name(directory, "old")
        work.rename(ready)
        directory.rename(old)
        ready.rename(directory)
    sync_folder(directory.parent)
    shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two paths in one step; returns False where the system cannot."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), os.fspath(other))


def sweep(directory: Path) -> list[Path]:
    """Completes or removes what a command left that was killed while it made or replaced a directory.

    Only the holder of the directory's lock may call this.

    Returns:
        The removed folders.
    """
    names = temporary_names(directory)
    with os.scandir(directory.parent) as entries:
        left = [
            (match[1], Path(entry.path))
            for entry in entries
            if (match := names.fullmatch(entry.name)) and entry.is_dir(follow_symlinks=False)
        ]
    for suffix in ("ready", "old"):  # the new directory if it was finished, else the old one
        for found, path in left:
            if found == suffix and not os.path.lexists(directory):
                path.rename(directory)
                sync_folder(directory.parent)
    removed = [path for suffix, path in left if suffix in ("new", "old", "ready") and path.is_dir()]
    for path in removed:
        shutil.rmtree(path, ignore_errors=True)
    return removed


def leftovers(folder: Path) -> list[Path]:
    """The temporary files and folders of commands in a folder, by their names; a command may still be using them."""
    with os.scandir(folder) as entries:
        found = [
            Path(entry.path)
            for entry in entries
            if (match := _LEFTOVER.fullmatch(entry.name))
            and not entry.is_symlink()
            and entry.is_dir(follow_symlinks=False) == (match["suffix"] != "tmp")
        ]
    return sorted(found)


def sweep_folder(folder: Path) -> list[Path]:
    """Removes what killed commands left in a folder and no process is using; returns what was removed."""
    removed = []
    for path in leftovers(folder):
        match = _LEFTOVER.fullmatch(path.name)
        assert match
        if match["suffix"] == "tmp":
            removed += [path] if remove_abandoned(path) else []
        elif path.is_dir():  # else it was removed with the one before
            target = folder / match["name"]
            with (
                contextlib.suppress(NunerEmbedError),
                lock(lock_beside(target), NunerEmbedError("it is being written"), NunerEmbedError),
            ):
                removed += sweep(target)
                lock_beside(target).unlink(missing_ok=True)
    return removed


def require_no_links(directory: Path, error: type[NunerEmbedError]) -> None:
    """Refuses to change a directory that holds a symbolic link, at any depth.

    Raises:
        NunerEmbedError: the given error, naming the link.
    """
    for parent, folders, names in os.walk(directory):
        for name in (*folders, *names):
            path = Path(parent) / name
            if path.is_symlink():
                raise error(
                    f"{path} is a symbolic link, which nuner-embed never makes and never writes through; "
                    "put the files themselves in its place"
                )
