"""One writer a store."""

import contextlib
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from nuner_embed import artifacts, metadata
from nuner_embed.errors import NunerEmbedError, StoreError, StoreLocked
from nuner_embed.files import write_json
from nuner_embed.metadata import Positive
from nuner_embed.printable import printable
from nuner_embed.store.layout import LOCK_FILE, WRITER_FILE

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
