"""Records that were left out, with the reason."""

import json
from pathlib import Path
from types import TracebackType
from typing import Self

from nuner_embed.corpora import Reject
from nuner_embed.encoding.layout import REJECTS_FILE
from nuner_embed.files import sync


class RejectFile:
    """`rejects.jsonl` of a store, written anew by every run, since every run reads the corpus from its start.

    There is no file where there is no reject.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / REJECTS_FILE
        self._path.unlink(missing_ok=True)
        self._lines: list[str] = []

    def __enter__(self) -> Self:
        return self

    def add(self, reject: Reject) -> None:
        """Writes one more."""
        values = {"source": reject.source, "line": reject.line, "reason": reject.reason, "record": reject.record}
        self._lines.append(json.dumps(values) + "\n")
        if len(self._lines) >= 1000:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.writelines(self._lines)
                sync(stream)
            self._lines.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, Exception):
            self._flush()
