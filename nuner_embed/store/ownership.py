"""Who may write into a directory: whether it is a store, the lock of its writer, and the removal of a store."""

import contextlib
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from nuner_embed import artifacts, metadata
from nuner_embed.artifacts import Kind
from nuner_embed.errors import NunerEmbedError, StoreError, StoreLocked
from nuner_embed.files import write_json
from nuner_embed.metadata import Positive
from nuner_embed.printable import printable
from nuner_embed.store.layout import (
    LOCK_FILE,
    MANIFEST_FILE,
    PATTERNS,
    WRITER_FILE,
    beginnings,
    own_files,
    require_plain,
)
from nuner_embed.store.manifest import read_manifest

STORE = Kind(
    name="a store",
    marker=MANIFEST_FILE,
    read=read_manifest,
    files=PATTERNS,
    error=StoreError,
    locked=StoreLocked,
)


_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Writer:
    """The process that writes a store.

    Attributes:
        process: its id.
        host: the machine that it runs on.
    """

    process: Positive
    host: str


@contextlib.contextmanager
def writer_lock(directory: Path) -> Iterator[None]:
    """Makes a store's directory and locks it for writing; the operating system releases the lock of a dead process.

    Raises:
        StoreLocked: another process holds the lock; the message names the process.
        StoreError: the directory cannot be written.
    """
    holder = directory / WRITER_FILE
    try:
        Path(os.path.realpath(directory)).mkdir(parents=True, exist_ok=True)  # also the target of a link
    except OSError as error:
        raise StoreError(f"{directory} cannot be written: {error.strerror or error}") from error
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(artifacts.lock(directory / LOCK_FILE, StoreLocked(), StoreError))
        except StoreLocked:
            raise StoreLocked(f"{directory} is being written by {_holder(directory)}; wait for it or stop it") from None
        try:
            write_json(holder, {"schema_version": _SCHEMA_VERSION, **asdict(Writer(os.getpid(), platform.node()))})
        except OSError as error:
            raise StoreError(f"{directory} cannot be written: {error.strerror or error}") from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                holder.unlink()


def read_writer(directory: Path) -> Writer:
    """The process that writes a store, or was killed while it wrote.

    Raises:
        FileNotFoundError: there is no such process.
        StoreError: the file was not written by nuner-embed.
    """
    path = directory / WRITER_FILE
    if path.is_symlink():
        raise StoreError(f"{path} is a symbolic link, which nuner-embed never makes")
    return metadata.read(
        path, Writer, version=_SCHEMA_VERSION, error=StoreError, what="the note of a store's writer", cure="remove it"
    )


def _holder(directory: Path) -> str:
    try:
        writer = read_writer(directory)
    except (OSError, NunerEmbedError):
        return "another process"
    return f"process {writer.process} on {printable(writer.host)}"


def require_ours(directory: Path, *, force: bool) -> None:
    """Refuses a directory into which no store may be written.

    Accepted are a store, known by its manifest; a path that does not exist; an empty directory; and a directory in
    which a job was killed before it wrote a manifest.

    Args:
        directory: of the store.
        force: the store is going to be cleared, so it must hold no other files.

    Raises:
        StoreError: naming a file that does not belong to a store.
        StoreMismatch: the store is of another schema version.
    """
    if not directory.exists() or artifacts.is_free(directory):
        return
    if not directory.is_dir():
        raise StoreError(f"{directory} is a file; a store is a directory")
    if not os.path.lexists(directory / MANIFEST_FILE):
        _require_begun(directory)
    elif force:
        artifacts.require_ours(directory, STORE)
    else:
        read_manifest(directory)
    require_plain(directory)


def _require_begun(directory: Path) -> None:
    """Refuses a directory without a manifest that holds more than what a job writes before the manifest."""
    known = {path.name for path in beginnings(directory)}
    strangers = sorted(path.name for path in directory.iterdir() if path.name not in known)
    lock = directory / LOCK_FILE
    if LOCK_FILE in known and (not lock.is_file() or lock.stat().st_size):
        strangers.append(LOCK_FILE)
    if WRITER_FILE in known:
        try:
            read_writer(directory)
        except (OSError, NunerEmbedError):
            strangers.append(WRITER_FILE)
    if strangers:
        raise StoreError(
            f"{directory} holds {strangers[0]} and no {MANIFEST_FILE}: it is not a store; name a new directory"
        )


def remove(directory: Path) -> bool:
    """Removes the files of a store and nothing else.

    Returns:
        Whether the directory was removed; it is kept if it holds other files.
    """
    require_ours(directory, force=False)
    for path in list(own_files(directory)):
        if path.name != MANIFEST_FILE:
            path.unlink(missing_ok=True)
    (directory / MANIFEST_FILE).unlink(missing_ok=True)
    if any(directory.iterdir()):
        return False
    directory.rmdir()
    return True
