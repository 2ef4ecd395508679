"""The lists of a store: the journal of its shards, and the rejected records."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from nuner_embed import metadata
from nuner_embed.corpora.records import Reject
from nuner_embed.errors import StoreError
from nuner_embed.files import hash_of, naming, open_own, read_bytes, sync, sync_folder
from nuner_embed.limits import JOURNAL_BYTES
from nuner_embed.metadata import Count, Sha256
from nuner_embed.printable import printable
from nuner_embed.store.layout import (
    COVERAGE_FILE,
    JOURNAL_FILE,
    REJECTS_FILE,
    SUFFIXES,
    Suffix,
    shard_files,
    shard_name,
)
from nuner_embed.store.shard import ShardEntry

# The hash of an entry's other values.
ENTRY_HASH = "entry_sha256"


@dataclass(frozen=True, slots=True)
class JournalLine(ShardEntry):
    """A line of the journal.

    Attributes:
        coverage_bytes: length of `coverage.jsonl` up to the last line of this shard.
        coverage_sha256: of these lines; earlier versions did not write it.
        entry_sha256: of all other values; earlier versions did not write it.
    """

    coverage_bytes: Count
    coverage_sha256: Sha256 | None = None
    entry_sha256: Sha256 | None = None


@dataclass
class Journal:
    """An append-only file with a line for every finished shard; a shard without a line does not exist.

    Attributes:
        directory: of the store.
        entries: the shards so far.
    """

    directory: Path
    entries: list[JournalLine]

    @classmethod
    def read(cls, directory: Path) -> "Journal":
        """Reads the journal; ignores a last line without a line feed, whose writer was killed.

        Raises:
            StoreError: the file cannot be read, or a line is no entry.
        """
        path = directory / JOURNAL_FILE
        journal = cls(directory, [])
        for number, line in enumerate(read_lines(directory)[:-1], start=1):
            try:
                entry = metadata.parse(line, JournalLine)
                journal.require_next(entry)
            except ValueError as error:
                raise StoreError(
                    f"{path}:{number}: not a journal entry ({printable(error)}); the store is damaged, --force starts "
                    "over"
                ) from None
            journal.entries.append(entry)
        return journal

    def require_next(self, entry: JournalLine) -> None:
        """Refuses an entry that cannot follow the last one.

        Raises:
            ValueError: the entry is of another shard, or its coverage ends before the coverage of the last entry.
        """
        name = shard_name(len(self.entries))
        if entry.name != name:
            raise ValueError(f"name: {entry.name!r} stands where {name!r} comes")
        if entry.coverage_bytes < self.coverage_bytes:
            raise ValueError(f"coverage_bytes: {entry.coverage_bytes} after {self.coverage_bytes}")

    @property
    def documents(self) -> int:
        """Documents in the finished shards."""
        return sum(entry.documents for entry in self.entries)

    @property
    def coverage_bytes(self) -> int:
        """Length of `coverage.jsonl` up to the last line of the last shard."""
        return self.entries[-1].coverage_bytes if self.entries else 0

    def require_files(self) -> None:
        """Checks that all files of the shards, and the coverage, exist with the sizes in the journal.

        Raises:
            StoreError: a file is missing or has another size.
        """
        sizes = {f"{entry.name}.{suffix}": size for entry in self.entries for suffix, size in entry.bytes.items()}
        for name, size in sizes.items():
            path = self.directory / name
            if not path.is_file() or path.stat().st_size != size:
                raise StoreError(f"{path} is missing or does not have the length that was written; --force starts over")
        coverage = self.directory / COVERAGE_FILE
        if self.coverage_bytes and (not coverage.is_file() or coverage.stat().st_size < self.coverage_bytes):
            raise StoreError(f"{coverage} is missing or shorter than it was written; --force starts over")

    def repair(self) -> None:
        """Removes what a killed writer left: half a line, files of uncommitted shards, and their coverage.

        Only the holder of the store's lock may call this.
        """
        path = self.directory / JOURNAL_FILE
        torn = read_lines(self.directory)[-1]
        if torn:
            with naming(path), open_own(path, "r+b") as stream:
                stream.truncate(path.stat().st_size - len(torn))
                sync(stream)
        named = {f"{entry.name}.{suffix}" for entry in self.entries for suffix in SUFFIXES}
        for stray in list(shard_files(self.directory)):
            if stray.name not in named:
                stray.unlink()
        coverage = self.directory / COVERAGE_FILE
        with naming(coverage), open_own(coverage, "ab") as stream:
            stream.truncate(self.coverage_bytes)

    def commit(self, shard: ShardEntry, coverage: list[str], paths: dict[Suffix, Path]) -> None:
        """Makes a shard part of the store: renames its files, then adds its line to the journal."""
        for suffix, path in paths.items():
            path.replace(self.directory / f"{shard.name}.{suffix}")
        lines = "".join(line + "\n" for line in coverage).encode()
        with naming(self.directory / COVERAGE_FILE), open_own(self.directory / COVERAGE_FILE, "ab") as stream:
            stream.write(lines)
            sync(stream)
        sync_folder(self.directory)
        values = {
            **asdict(shard),
            "coverage_bytes": self.coverage_bytes + len(lines),
            "coverage_sha256": hashlib.sha256(lines).hexdigest(),
        }
        entry = JournalLine(**values, entry_sha256=hash_of(values))
        with naming(self.directory / JOURNAL_FILE), open_own(self.directory / JOURNAL_FILE, "ab") as stream:
            stream.write((json.dumps(asdict(entry)) + "\n").encode())
            sync(stream)
        self.entries.append(entry)


def read_lines(directory: Path) -> list[bytes]:
    """The journal's lines without line feeds; the last element is what follows the last line feed.

    Raises:
        StoreError: the file cannot be read.
    """
    path = directory / JOURNAL_FILE
    try:
        return read_bytes(path, JOURNAL_BYTES).split(b"\n")
    except FileNotFoundError:
        if path.is_symlink():
            raise StoreError(f"{path} is a symbolic link that leads nowhere; --force starts over") from None
        return [b""]
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise StoreError(f"{path} cannot be read ({reason}); --force starts over") from None


class RejectFile:
    """`rejects.jsonl` of a store; every run writes the file anew, because every run reads the whole corpus.

    Without rejects there is no file.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / REJECTS_FILE
        self._path.unlink(missing_ok=True)
        self._lines: list[str] = []
        self._written = 0
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the file, once the block has ended; None where there is no reject."""
        return self._hash.hexdigest() if self._written else None

    def add(self, reject: Reject) -> None:
        """Adds a reject."""
        self._lines.append(json.dumps(asdict(reject)) + "\n")
        if len(self._lines) >= 1000:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            data = "".join(self._lines).encode()
            with naming(self._path), open_own(self._path, "ab") as stream:
                stream.write(data)
                sync(stream)
            self._hash.update(data)
            self._written += len(self._lines)
            self._lines.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, Exception):
            self._flush()
