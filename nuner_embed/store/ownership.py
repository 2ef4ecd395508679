"""Whose a directory is that a job is to write into, who writes there now, and how a store is cleared or removed."""

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
    """Who writes a store.

    Attributes:
        process: its number.
        host: where it runs.
    """

    process: Positive
    host: str


@contextlib.contextmanager
def writer_lock(directory: Path) -> Iterator[None]:
    """Makes a store's directory and holds it for writing; the operating system lets go when the process dies.

    Raises:
        StoreLocked: another process holds it; the message says which.
        StoreError: nothing can be written there.
    """
    holder = directory / WRITER_FILE
    try:
        Path(os.path.realpath(directory)).mkdir(parents=True, exist_ok=True)  # what a link names, too
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
    """Who writes a store, or was writing it when it was killed.

    Raises:
        FileNotFoundError: nobody.
        StoreError: the file is none of ours.
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

    A store may be, by its manifest; a directory that is not there or is empty; and one in which a job began and was
    killed before it wrote a manifest.

    Args:
        directory: of the store.
        force: the store is going to be cleared, so that nothing that is no part of it may lie in it.

    Raises:
        StoreError: naming what else is there.
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
    """Refuses a directory without a manifest that holds more than a job leaves that was killed at once."""
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
    """Removes a store, but nothing that is no part of it.

    Returns:
        Whether the directory is gone; it stays where something else lies in it.
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
