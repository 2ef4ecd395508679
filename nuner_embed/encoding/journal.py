"""The journal: which shards there are."""

import json
from dataclasses import dataclass
from pathlib import Path

from nuner_embed.encoding.layout import COVERAGE_FILE, JOURNAL_FILE, SUFFIXES, shard_files
from nuner_embed.encoding.shards import ShardEntry
from nuner_embed.errors import StoreError
from nuner_embed.files import sync, sync_folder


@dataclass
class Journal:
    """An append-only file with a line for every finished shard; what it does not name does not exist.

    Attributes:
        directory: of the store.
        entries: the shards so far.
        coverage_bytes: length of `coverage.jsonl` up to the last of them.
    """

    directory: Path
    entries: list[ShardEntry]
    coverage_bytes: int = 0

    @classmethod
    def read(cls, directory: Path) -> "Journal":
        """Reads the journal; a last line without its end was being written when the writer died, and is ignored.

        Raises:
            StoreError: a line that is no entry.
        """
        path = directory / JOURNAL_FILE
        journal = cls(directory, [])
        data = path.read_bytes() if path.exists() else b""
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            try:
                values = json.loads(line)
                journal.coverage_bytes = values.pop("coverage_bytes")
                journal.entries.append(ShardEntry.from_dict(values))
            except (ValueError, TypeError, KeyError, AttributeError):
                raise StoreError(
                    f"{path}:{number}: not a journal entry; the store is damaged, --force starts over"
                ) from None
        return journal

    @property
    def documents(self) -> int:
        """Documents in the finished shards."""
        return sum(entry.documents for entry in self.entries)

    def require_files(self) -> None:
        """Checks that every shard's files, and the coverage, are there with the size they were written with.

        Raises:
            StoreError: one is not.
        """
        sizes = {f"{entry.name}.{suffix}": size for entry in self.entries for suffix, size in entry.bytes.items()}
        for name, size in sizes.items():
            path = self.directory / name
            if not path.is_file() or path.stat().st_size != size:
                raise StoreError(f"{path} is missing or not as long as it was written; --force starts over")
        coverage = self.directory / COVERAGE_FILE
        if self.coverage_bytes and (not coverage.is_file() or coverage.stat().st_size < self.coverage_bytes):
            raise StoreError(f"{coverage} is missing or shorter than it was written; --force starts over")

    def repair(self) -> None:
        """Takes away what a writer left behind that died: half a line, files that no line names, coverage beyond.

        Only the holder of the store's lock may call this.
        """
        path = self.directory / JOURNAL_FILE
        if path.exists():
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                with path.open("r+b") as stream:
                    stream.truncate(whole)
                    sync(stream)
        named = {f"{entry.name}.{suffix}" for entry in self.entries for suffix in SUFFIXES}
        for stray in list(shard_files(self.directory)):
            if stray.name not in named:
                stray.unlink()
        coverage = self.directory / COVERAGE_FILE
        with coverage.open("ab") as stream:
            stream.truncate(self.coverage_bytes)

    def commit(self, entry: ShardEntry, coverage: list[str], paths: dict[str, Path]) -> None:
        """Makes a shard part of the store: its files get their names, then the journal names it."""
        for suffix, path in paths.items():
            path.replace(self.directory / f"{entry.name}.{suffix}")
        lines = "".join(line + "\n" for line in coverage).encode()
        with (self.directory / COVERAGE_FILE).open("ab") as stream:
            stream.write(lines)
            sync(stream)
        sync_folder(self.directory)
        self.coverage_bytes += len(lines)
        line = json.dumps({**entry.to_dict(), "coverage_bytes": self.coverage_bytes}) + "\n"
        with (self.directory / JOURNAL_FILE).open("ab") as stream:
            stream.write(line.encode())
            sync(stream)
        self.entries.append(entry)
