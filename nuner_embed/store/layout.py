"""The names of the files in a store's directory."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from nuner_embed.errors import StoreError
from nuner_embed.files import temporary_name

Suffix = Literal["npy", "parquet", "documents.parquet"]

MANIFEST_FILE = "manifest.json"
JOURNAL_FILE = "journal.jsonl"
COVERAGE_FILE = "coverage.jsonl"
REJECTS_FILE = "rejects.jsonl"
LOCK_FILE = ".lock"
# names the process that holds the lock
WRITER_FILE = ".writer.json"
# the files of a shard: vectors, the table of the rows, and the table of their documents
SUFFIXES: Final[tuple[Suffix, ...]] = ("npy", "parquet", "documents.parquet")
_LISTS = (JOURNAL_FILE, COVERAGE_FILE, REJECTS_FILE)
_SHARD_NAME = r"shard-[0-9]{5,9}\.(npy|parquet|documents\.parquet)"
_SHARD = re.compile(_SHARD_NAME)
# A shard's files before they are committed, as this version and as earlier ones name them.
_UNFINISHED = re.compile(rf"\.{_SHARD_NAME}\.([0-9a-f]{{16}}\.part|[0-9]+\.tmp)")
_UNFINISHED_FILE = re.compile(r"\.(manifest|\.writer)\.json\.([0-9a-f]{16}|[0-9]+)\.tmp")
# All of the above as patterns for `artifacts.Kind`; only files that match the narrower patterns above are removed.
_DIGITS = "[0-9]" * 5
PATTERNS = (
    *_LISTS,
    LOCK_FILE,
    WRITER_FILE,
    ".manifest.json.*.tmp",
    "..writer.json.*.tmp",
    *(f"shard-{_DIGITS}*.{suffix}" for suffix in SUFFIXES),
    *(f".shard-{_DIGITS}*.{suffix}.*.{end}" for suffix in SUFFIXES for end in ("part", "tmp")),
)


def shard_name(index: int) -> str:
    """The name of the index-th shard."""
    return f"shard-{index:05d}"


def temporary_path(directory: Path, name: str, suffix: str) -> Path:
    """A temporary name for a shard's file, until the shard is committed."""
    return temporary_name(directory / f"{name}.{suffix}", "part")


def shard_files(directory: Path) -> Iterator[Path]:
    """The files of shards, finished or not, in the journal or not, and other temporary files."""
    patterns = (_SHARD, _UNFINISHED, _UNFINISHED_FILE)
    return (path for path in directory.iterdir() if any(pattern.fullmatch(path.name) for pattern in patterns))


def beginnings(directory: Path) -> Iterator[Path]:
    """The files in a directory that a job may write before the manifest."""
    names = (LOCK_FILE, WRITER_FILE)
    return (path for path in directory.iterdir() if path.name in names or _UNFINISHED_FILE.fullmatch(path.name))


def own_files(directory: Path) -> Iterator[Path]:
    """All files in a directory with a name of a store's file."""
    names = (MANIFEST_FILE, *_LISTS, LOCK_FILE, WRITER_FILE)
    yield from (path for path in directory.iterdir() if path.name in names)
    yield from shard_files(directory)


def require_plain(directory: Path) -> None:
    """Refuses a store in which a file of ours is not a regular file, before anything is written.

    Raises:
        StoreError: naming a symbolic link, a folder, a pipe or a device.
    """
    for path in own_files(directory):
        if path.is_symlink():
            raise StoreError(f"{path} is a symbolic link, which nuner-embed never makes and never writes through")
        if not path.is_file():
            raise StoreError(f"{path} is not a regular file, as every file of a store is; move it away")


def remove_contents(directory: Path) -> None:
    """Removes the lists and shards of a store, and nothing else; the manifest stays."""
    for path in (*(directory / name for name in _LISTS), *shard_files(directory)):
        path.unlink(missing_ok=True)
