"""Whose a directory is that a job is to write into, and how a store is cleared or removed."""

import os
from pathlib import Path

from nuner_embed import artifacts
from nuner_embed.artifacts import Kind
from nuner_embed.errors import NunerEmbedError, StoreError, StoreLocked
from nuner_embed.store.layout import (
    LOCK_FILE,
    MANIFEST_FILE,
    PATTERNS,
    WRITER_FILE,
    beginnings,
    own_files,
    require_plain,
)
from nuner_embed.store.lock import read_writer
from nuner_embed.store.manifest import read_manifest

STORE = Kind(
    name="a store",
    marker=MANIFEST_FILE,
    read=read_manifest,
    files=PATTERNS,
    error=StoreError,
    locked=StoreLocked,
)


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
