"""The names in a store's directory: what is ours there, and what is not."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from nuner_embed.errors import StoreError

MANIFEST_FILE = "manifest.json"
JOURNAL_FILE = "journal.jsonl"
COVERAGE_FILE = "coverage.jsonl"
REJECTS_FILE = "rejects.jsonl"
LOCK_FILE = ".lock"
# of a shard: vectors, what the rows are, and the documents that they were taken from
SUFFIXES = ("npy", "parquet", "documents.parquet")
# Beside the manifest; it goes first when a store is cleared, so that no half of one looks like a whole.
_LISTS = (JOURNAL_FILE, COVERAGE_FILE, REJECTS_FILE)
_SHARD = re.compile(r"shard-\d{5,}\.(npy|parquet|documents\.parquet)")
_TEMPORARY = re.compile(r"\.(shard-\d{5,}\.(npy|parquet|documents\.parquet)|manifest\.json)\.\d+\.tmp")


def shard_name(index: int) -> str:
    """The name of the index-th shard."""
    return f"shard-{index:05d}"


def require_shard_name(name: str) -> None:
    """Refuses a name that `shard_name` does not give, which could lead out of the directory.

    Raises:
        ValueError: it is another.
    """
    if not _SHARD.fullmatch(f"{name}.npy"):
        raise ValueError(f"{name!r}, which is no shard")


def temporary_path(directory: Path, name: str, suffix: str) -> Path:
    """Where a shard's file lies until the shard is committed; processes never share one."""
    return directory / f".{name}.{suffix}.{os.getpid()}.tmp"


def shard_files(directory: Path) -> Iterator[Path]:
    """Shards' files, finished or not, whether or not the journal names them."""
    return (path for path in directory.iterdir() if _SHARD.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name))


def clear(directory: Path) -> None:
    """Removes a store's files and nothing else."""
    (directory / MANIFEST_FILE).unlink(missing_ok=True)
    for path in [*(directory / name for name in _LISTS), *shard_files(directory)]:
        path.unlink(missing_ok=True)


def require_ours(directory: Path) -> None:
    """Refuses a directory that holds anything but a store, or what is left of one that was being cleared.

    Raises:
        StoreError: naming what else is there.
    """
    if not directory.is_dir():
        if directory.exists():
            raise StoreError(f"{directory} is a file; a store is a directory")
        return
    if (directory / MANIFEST_FILE).exists():
        return
    left = set(_LISTS) if (directory / LOCK_FILE).exists() else set()
    for path in directory.iterdir():
        remnant = path.name in left or (left and _SHARD.fullmatch(path.name))
        if not (path.name.startswith(".") or remnant):
            raise StoreError(f"{directory} holds no store but {path.name}; name a new directory")
