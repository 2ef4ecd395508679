"""One writer a store."""

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from nuner_embed.errors import StoreError, StoreLocked

_LOCK_FILE = ".lock"
_HOLDER_FILE = ".writer.json"


@contextlib.contextmanager
def writer_lock(directory: Path) -> Iterator[None]:
    """Holds a store for writing; the operating system lets go of it when the process dies.

    Raises:
        StoreLocked: another process holds it; the message says which.
        StoreError: nothing can be written there.
    """
    lock = FileLock(directory / _LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreLocked(f"{directory} is being written by {_holder(directory)}; wait for it or stop it") from None
    except OSError as error:
        raise StoreError(f"{directory} cannot be written: {error.strerror or error}") from error
    holder = directory / _HOLDER_FILE
    try:
        holder.write_text(json.dumps({"process": os.getpid(), "host": platform.node()}), encoding="utf-8")
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
