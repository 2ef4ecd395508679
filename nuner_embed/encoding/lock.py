"""One writer a store."""

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from nuner_embed.encoding.layout import LOCK_FILE
from nuner_embed.errors import StoreError, StoreLocked

_HOLDER_FILE = ".writer.json"


@contextlib.contextmanager
def writer_lock(directory: Path) -> Iterator[None]:
    """Makes a store's directory and holds it for writing; the operating system lets go when the process dies.

    Raises:
        StoreLocked: another process holds it; the message says which.
        StoreError: nothing can be written there.
    """
    lock = FileLock(directory / LOCK_FILE)
    holder = directory / _HOLDER_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        holder.write_text(json.dumps({"process": os.getpid(), "host": platform.node()}), encoding="utf-8")
    except Timeout:
        raise StoreLocked(f"{directory} is being written by {_holder(directory)}; wait for it or stop it") from None
    except OSError as error:
        lock.release()
        raise StoreError(f"{directory} cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _holder(directory: Path) -> str:
    try:
        holder = json.loads((directory / _HOLDER_FILE).read_text(encoding="utf-8"))
        return f"process {holder['process']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
