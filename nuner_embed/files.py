"""Files that are written whole or not at all, and read within bounds."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, Literal

from nuner_embed.errors import NunerEmbedError
from nuner_embed.limits import JSON_DEPTH, JSON_FILE_BYTES, MIB

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# The errors of file systems that cannot sync; network and FUSE file systems often cannot sync a folder.
_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF})
# Errors of the process, not of a file: too many open files, or no memory.
OF_THE_PROCESS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_NAME_BYTES = 200  # of the file's name that its temporary name keeps: file names have at most 255 bytes


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no optional white space, for hashing."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def hash_of(value: Any) -> str:
    """The SHA-256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sync(stream: IO[Any]) -> None:
    """Flushes a file through to the disk, as far as its file system can."""
    stream.flush()
    _sync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Makes renames and new names within a folder survive a power cut, as far as its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Makes a folder, and every file and folder in it, survive a power cut, as far as its file system can."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if stat.S_ISREG((Path(parent) / name).lstat().st_mode):
                sync_folder(Path(parent) / name)  # what syncs an open folder syncs an open file
        sync_folder(Path(parent))


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def expand(path: str | os.PathLike[str]) -> Path:
    """A path with `~` or `~name` replaced by the home folder.

    Raises:
        NunerEmbedError: the home folder is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise NunerEmbedError(
            f"{os.fspath(path)} begins with a home folder that is not known here; write the whole path"
        ) from None


def same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to the same file or folder, through links, hard links or other spellings too."""
    try:
        return Path(one).samefile(other)
    except OSError:  # one of them is not there
        return os.path.realpath(one) == os.path.realpath(other)


def temporary_name(path: Path, suffix: str) -> Path:
    """An unpredictable name beside a path: `.NAME.<16 hex digits>.SUFFIX`."""
    name = os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])
    return path.with_name(f".{name}.{secrets.token_hex(8)}.{suffix}")


def temporary_names(path: Path) -> re.Pattern[str]:
    """Matches the names that `temporary_name` gives for a path; group 1 is the suffix."""
    name = os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])
    return re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{16}}\.([a-z]+)", re.DOTALL)


@contextlib.contextmanager
def atomic_write(path: Path, *, follow: bool = True) -> Iterator[IO[bytes]]:
    """Opens a binary file that appears under `path`, synced, only if the block ends without an error.

    Temporary files that killed writers of `path` left are removed first.

    Args:
        path: of the file.
        follow: write through a symbolic link. Where this is False, a link is an error, as in a directory that somebody
            else may have prepared.

    Raises:
        OSError: the file cannot be written; the error names `path`.
    """
    if path.is_symlink():
        if not follow:
            raise OSError(errno.ELOOP, "it is a symbolic link, which is never written to", os.fspath(path))
        with atomic_write(Path(os.path.realpath(path))) as stream:
            yield stream
        return
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if path.exists() and not path.is_file():  # root could replace /dev/null
        raise OSError(errno.EINVAL, "a pipe or a device, neither a file nor the name of a new one", os.fspath(path))
    temporary: Path | None = None
    try:
        sweep_temporaries(path)
        stream = _locked_temporary(path)
        temporary = Path(stream.name)
        with stream:
            yield stream
            sync(stream)
            temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        if temporary:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and (error.filename is None or _is_temporary(error.filename, path)):
            if error.filename is None and error.errno not in _FULL:
                raise
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


def _is_temporary(name: Any, path: Path) -> bool:
    return temporary_names(path).fullmatch(Path(os.fsdecode(name)).name) is not None


def _locked_temporary(path: Path) -> IO[bytes]:
    """A new file beside a path, locked while it is open, so that `sweep_temporaries` of another process keeps it."""
    while True:
        stream = temporary_name(path, "tmp").open("xb")
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(stream.fileno()).st_nlink:  # else another process removed it before it was locked
            return stream
        stream.close()


def sweep_temporaries(path: Path) -> list[Path]:
    """Removes the temporary files that killed writers of a path left; returns their paths."""
    names = temporary_names(path)
    try:
        with os.scandir(path.parent) as entries:
            found = [
                Path(entry.path) for entry in entries if (match := names.fullmatch(entry.name)) and match[1] == "tmp"
            ]
    except OSError:
        return []
    return [left for left in found if remove_abandoned(left)]


def remove_abandoned(temporary: Path) -> bool:
    """Removes a temporary file; returns False if a process holds the file open, or it is not a regular file."""
    try:
        descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Adds the path to an OSError of the block that names no file, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def open_own(path: Path, mode: Literal["ab", "r+b", "xb"]) -> IO[bytes]:
    """Opens a regular file of an artefact for writing.

    Args:
        path: of the file.
        mode: of `open`.

    Raises:
        OSError: the file cannot be opened, or the path is a symbolic link, a pipe or a device.
    """
    try:
        stream = open(path, mode, opener=_without_following)  # noqa: SIM115
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(errno.ELOOP, "it is a symbolic link, which is never written to", os.fspath(path)) from None
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    return stream


def _without_following(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def copy_file(source: Path, target: Path) -> None:
    """Copies a regular file's bytes; never writes through a symbolic link.

    Raises:
        OSError: a file cannot be read or written; the error names the file.
    """
    if not source.is_file():
        there = os.path.lexists(source)
        number, reason = (
            (errno.EINVAL, "it is not a regular file") if there else (errno.ENOENT, os.strerror(errno.ENOENT))
        )
        raise OSError(number, reason, os.fspath(source))
    if target.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link, which is never written to", os.fspath(target))
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        if error.errno in _FULL:  # shutil names the source in the error of a full disk
            raise OSError(error.errno, error.strerror, os.fspath(target)) from None
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, atomically; never writes through a symbolic link."""
    with atomic_write(path, follow=False) as stream:
        stream.write(json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """What `write_json` writes."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not a regular file, such as a pipe, or has more than `limit` bytes.
    """
    with open(path, "rb", opener=opened_at_once) as stream:
        facts = os.fstat(stream.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is not a regular file")
        # no more than the file holds: Python allocates as much as is asked for
        data = stream.read(min(limit, max(facts.st_size, MIB)) + 1)
    if max(len(data), facts.st_size) > limit:
        raise ValueError(f"it has {facts.st_size / MIB:,.0f} MiB, at most {limit / MIB:,.0f} are read")
    return data


def opened_at_once(path: str, flags: int) -> int:
    """An opener for `open` that does not block on a pipe that no process writes to."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_json(path: Path, limit: int = JSON_FILE_BYTES) -> Any:
    """A JSON file's value.

    Args:
        path: of the file.
        limit: most bytes that are read.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no UTF-8, no JSON, nested too deeply, larger than the limit, or no regular file.
    """
    return parse_json(read_bytes(path, limit).decode("utf-8"))


def parse_json(text: str | bytes, **options: Any) -> Any:
    """The value of a JSON text, of at most `JSON_DEPTH` levels.

    Args:
        text: the JSON.
        options: of `json.loads`.

    Raises:
        ValueError: it is no JSON, no UTF-8, or nested deeper.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        value = json.loads(text, **options)
    except RecursionError:  # Python's own bound, of some thousand levels
        raise _too_deep() from None
    if text.count("[") + text.count("{") > JSON_DEPTH:  # fewer cannot be nested deeper
        _require_shallow(value)
    return value


def _require_shallow(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(JSON_DEPTH):
        values = (inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer))
        level = [inner for inner in values if isinstance(inner, dict | list)]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"nested more than {JSON_DEPTH} levels deep")
