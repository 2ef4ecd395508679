"""Directories that this project makes: whose a directory is, who may change it, how a new one takes its name.

A directory is ours only by its marker: a file of ours, with our schema in it, which `Kind.read` reads. What we did not
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
        name: with its article, as messages have it: "an index".
        marker: the file by which a directory of this kind is known.
        read: reads the marker, given the directory; raises an `error` if the marker is damaged or somebody else's.
        files: all that such a directory may consist of, as patterns of paths within it, one pattern a file:
            `*` stands for anything within one name. The marker belongs to them without being named.
        error: what is raised.
        locked: what is raised where another process works on the directory.
    """

    name: str
    marker: str
    read: Callable[[Path], object]
    files: tuple[str, ...]
    error: type[NunerEmbedError]
    locked: type[NunerEmbedError]

    def strangers(self, directory: Path) -> list[str]:
        """What lies in a directory and does not belong to this kind, by its path within; links never belong."""
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
    """Whether nothing is there, or an empty directory."""
    return not os.path.lexists(directory) or (directory.is_dir() and not any(directory.iterdir()))


def is_only_begun(directory: Path, kind: Kind) -> bool:
    """Whether a command died in a directory before the marker was there.

    Nothing lies there then but the marker's folder, an empty `.lock`, and files that were to become the marker.
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
    """Refuses a directory that is not of the kind, by its marker, or that holds anything besides.

    Raises:
        NunerEmbedError: the kind's error, which says what is there.
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
            f"{directory} holds {strangers[0]}, which is no part of {kind.name}; "
            "move that file away or name another directory"
        )


def require_replaceable(directory: Path, kind: Kind, *, force: bool) -> None:
    """Checks that a directory is free, or of the kind and to be replaced, with nothing in it that would be lost.

    Raises:
        NunerEmbedError: the kind's error, which says what is there.
    """
    if is_free(directory):
        return
    require_ours(directory, kind)
    if not force:
        raise kind.error(f"{directory} holds {kind.name}; name another directory, or replace it with --force")
    if Path.cwd().is_relative_to(directory):
        raise kind.error(f"{directory} is the folder that this runs in; name another directory for {kind.name}")


@contextlib.contextmanager
def lock(path: Path, busy: NunerEmbedError, error: type[NunerEmbedError], *, wait: bool = False) -> Iterator[None]:
    """Holds a lock file; the operating system lets go of it when the process dies.

    Args:
        path: of the lock file, which stays.
        busy: what is raised where another process holds it.
        error: what is raised where the file cannot be made.
        wait: for as long as another process holds it.
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
    """The lock file of whoever makes or replaces a directory."""
    return directory.with_name(f".{directory.name}.lock")


@contextlib.contextmanager
def replacing(directory: Path, kind: Kind, *, force: bool = False) -> Iterator[Path]:
    """A new folder to fill, which takes the name of `directory` in one step if the block ends without an error.

    The folder lies beside the directory. What earlier attempts left that were killed is swept first, or brought to
    its end. Where `directory` is a symbolic link, the directory that the link names is made.

    Args:
        directory: the name to take.
        kind: of the directory.
        force: replace what is there, if that is of the kind.

    Raises:
        NunerEmbedError: the kind's error: something else is there; or another process is at it.
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
    """Names in an OSError, such as one of a full disk, the file that was to come to be, not the one beside it."""
    try:
        yield
    except OSError as error:
        if error.filename is None or not Path(os.fsdecode(error.filename)).is_relative_to(work):
            raise
        path = directory / Path(os.fsdecode(error.filename)).relative_to(work)
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def publish(work: Path, directory: Path, kind: Kind) -> None:
    """Gives a finished folder its name in one step; a directory of the kind that bears the name is removed.

    Raises:
        NunerEmbedError: the kind's error: in the meantime something else came to lie there. Nothing was changed.
    """
    sync_tree(work)
    if is_free(directory):
        work.rename(directory)  # in the place of an empty directory too
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
    """Exchanges two names in one step; False where the system cannot."""
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
    """Brings to its end what was killed while it made or replaced a directory: only the holder of its lock may.

    Returns:
        What was removed.
    """
    names = temporary_names(directory)
    with os.scandir(directory.parent) as entries:
        left = [
            (match[1], Path(entry.path))
            for entry in entries
            if (match := names.fullmatch(entry.name)) and entry.is_dir(follow_symlinks=False)
        ]
    for suffix in ("ready", "old"):  # the finished one first; else the former one gets its name back
        for found, path in left:
            if found == suffix and not os.path.lexists(directory):
                path.rename(directory)
                sync_folder(directory.parent)
    removed = [path for suffix, path in left if suffix in ("new", "old", "ready") and path.is_dir()]
    for path in removed:
        shutil.rmtree(path, ignore_errors=True)
    return removed


def leftovers(folder: Path) -> list[Path]:
    """What lies in a folder under a name that only a command gives to what it has not finished; it may still run."""
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
    """Removes what killed commands left in a folder, as far as no process is at it, and says what that was."""
    removed = []
    for path in leftovers(folder):
        match = _LEFTOVER.fullmatch(path.name)
        assert match
        if match["suffix"] == "tmp":
            removed += [path] if remove_abandoned(path) else []
        elif path.is_dir():  # else it went with the one before
            target = folder / match["name"]
            with (
                contextlib.suppress(NunerEmbedError),
                lock(lock_beside(target), NunerEmbedError("it is being written"), NunerEmbedError),
            ):
                removed += sweep(target)
                lock_beside(target).unlink(missing_ok=True)
    return removed


def require_no_links(directory: Path, error: type[NunerEmbedError]) -> None:
    """Refuses a directory that is to be changed and in which, or in whose folders, something is a symbolic link.

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
