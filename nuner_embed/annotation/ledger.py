"""The replies that were paid for: a line each, kept as soon as it arrives."""

import json
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from nuner_embed.annotation.replies import Reply
from nuner_embed.errors import AnnotationError
from nuner_embed.files import sync

_SECONDS_BETWEEN_SYNCS = 1.0


@dataclass(frozen=True, slots=True)
class KeptReply:
    """What an LLM said of a text.

    Attributes:
        key: of text, instruction and model; see `Instruction.key`.
        text: what it was asked about.
        reply: its answer.
        finish_reason: why it ended, in the server's words; "length" if it was cut short.
        model: that was asked for.
        served_by: that answered, by its own account.
        prompt_tokens: by the server's count, 0 where it gives none.
        completion_tokens: likewise.
    """

    key: str
    text: str
    reply: str
    finish_reason: str
    model: str
    served_by: str
    prompt_tokens: int
    completion_tokens: int


class Ledger:
    """An append-only JSONL file of replies, found again by key.

    Any process may read the file; one at a time may hold it open here. It is itself a file of replies that
    `annotate` reads without an LLM.
    """

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path, self._stream = path, stream
        self._places: dict[str, int] = {}
        self.models: set[str] = set()
        self._synced = time.monotonic()
        self.prompt_tokens = self.completion_tokens = 0
        whole = 0
        stream.seek(0)
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):  # the writer died within it
                break
            record = self._read(line, number)
            self._places[record["key"]] = whole
            self.models.add(record["model"])
            self.prompt_tokens += record["prompt_tokens"]
            self.completion_tokens += record["completion_tokens"]
            whole += len(line)
        stream.truncate(whole)
        stream.seek(whole)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def keys(self) -> Set[str]:
        """Of all kept replies."""
        return self._places.keys()

    def add(self, kept: KeptReply) -> None:
        """Appends a reply; it survives the death of this process at once, a power cut after a second."""
        place = self._stream.tell()
        try:
            self._stream.write((json.dumps(asdict(kept), ensure_ascii=False) + "\n").encode())
            self._stream.flush()
        except OSError as error:
            raise AnnotationError(f"{self._path} cannot be written: {error.strerror or error}") from None
        self._places[kept.key] = place
        self.prompt_tokens += kept.prompt_tokens
        self.completion_tokens += kept.completion_tokens
        if time.monotonic() - self._synced > _SECONDS_BETWEEN_SYNCS:
            sync(self._stream)
            self._synced = time.monotonic()

    def reply(self, key: str, identity: str) -> Reply:
        """A kept reply as that to a document of this id."""
        end = self._stream.tell()
        self._stream.seek(self._places[key])
        record = self._read(self._stream.readline(), None)
        self._stream.seek(end)
        return Reply(identity, record["text"], record["reply"], record["finish_reason"])

    def _read(self, line: bytes, number: int | None) -> dict[str, Any]:
        try:
            record = json.loads(line)
            if not all(isinstance(record[name], str) for name in ("key", "text", "reply", "finish_reason", "model")):
                raise TypeError
            record["prompt_tokens"], record["completion_tokens"] = (
                int(record[name]) for name in ("prompt_tokens", "completion_tokens")
            )
            return dict(record)
        except (ValueError, TypeError, KeyError):
            where = self._path if number is None else f"{self._path}:{number}"
            raise AnnotationError(
                f"{where}: not a line of kept replies; mend or remove that line (its reply is asked for again)"
            ) from None


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """Opens a file of kept replies, made if need be, for this process alone.

    Raises:
        AnnotationError: another process holds it, it cannot be written, or a line of it is damaged.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise AnnotationError(f"{path} is being written by another annotate; wait for it or stop it") from None
    except OSError as error:
        raise AnnotationError(f"{path} cannot be written: {error.strerror or error}") from None
    try:
        with path.open("a+b") as stream:
            yield Ledger(path, stream)
            sync(stream)
    finally:
        lock.release()
