"""Files that are either whole or not there."""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nuner_embed.errors import NunerEmbedError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# What a file system says that cannot do it; network and FUSE file systems often cannot sync a folder.
_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF})


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spare blanks, for hashing."""
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


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def expand(path: str | os.PathLike[str]) -> Path:
    """A path with the home folder in the place of `~` or `~name`.

    Raises:
        NunerEmbedError: that home folder is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise NunerEmbedError(
            f"{os.fspath(path)} begins with a home folder that is not known here; write the whole path"
        ) from None


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Opens a binary file that appears under `path`, synced, only if the block ends without an error.

    Raises:
        OSError: the file cannot be written; the error names `path`.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            yield stream
            sync(stream)
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # its folder is none
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and _is_about(error, temporary):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
    sync_folder(path.parent)


def _is_about(error: OSError, temporary: Path) -> bool:
    """Whether a file cannot be written that nobody knows by its temporary name; a full disk names none."""
    if error.filename is None:
        return error.errno in _FULL
    return str(error.filename) == str(temporary)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, atomically."""
    with atomic_write(path) as stream:
        stream.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """A JSON file's value.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no UTF-8 or no JSON.
    """
    return json.loads(path.read_text(encoding="utf-8"))
