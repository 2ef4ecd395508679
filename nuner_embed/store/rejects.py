"""Records that were left out, with the reason."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from nuner_embed.corpora.records import Reject
from nuner_embed.files import naming, open_own, sync
from nuner_embed.store.layout import REJECTS_FILE


class RejectFile:
    """`rejects.jsonl` of a store, written anew by every run, since every run reads the corpus from its start.

    There is no file where there is no reject.
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
        """Writes one more."""
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
