"""A file of LLM replies, each kept on a line as soon as it arrives, so that no reply is paid for twice."""

import contextlib
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Annotated

import msgspec

from nuner_embed import artifacts, metadata
from nuner_embed.annotation.replies import Reply
from nuner_embed.documents import is_text
from nuner_embed.errors import AnnotationError
from nuner_embed.files import naming, sync
from nuner_embed.limits import LINE_MIB, MIB, REPLY_MIB
from nuner_embed.metadata import Count
from nuner_embed.printable import printable

_SECONDS_BETWEEN_SYNCS = 1.0
# The largest text and the largest reply with every character escaped; a longer line is not of this program.
_LONGEST_LINE = 8 * (LINE_MIB + REPLY_MIB) * MIB
# The beginning of every line, and an example.
_BEGINNING = re.compile(rb'\{"key": "[0-9a-f]{32}", "text": "')
_AN_EXAMPLE = b'{"key": "' + b"0" * 32 + b'", "text": "'
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class KeptReply:
    """The reply of an LLM to a text.

    Attributes:
        key: of text, instruction and model; see `Instruction.key`.
        text: the text.
        reply: the LLM's answer.
        finish_reason: why the answer ended, in the server's words; "length" if it was cut short.
        model: the model that was asked for.
        served_by: the model that the server names.
        prompt_tokens: by the server's count; 0 if unknown.
        completion_tokens: by the server's count; 0 if unknown.
    """

    key: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    text: str
    reply: str
    finish_reason: str
    model: str
    served_by: str
    prompt_tokens: Count
    completion_tokens: Count


class Ledger:
    """A JSONL file of replies that are found by key; lines are only appended.

    Any process may read the file, and one process at a time may append. `annotate` can read the file without an LLM.
    An incomplete last line was being written by a process that died: it is ignored, and the next reply overwrites it. A
    last line that lacks only its line feed is kept.

    Args:
        path: of the file, for messages.
        stream: of its bytes, unbuffered where replies are added; None where there is no such file.

    Raises:
        AnnotationError: the file is not of this program, or a line is damaged.
    """

    def __init__(self, path: Path, stream: IO[bytes] | None) -> None:
        self._path, self._stream = path, stream
        self._places: dict[str, int] = {}
        self.models: set[str] = set()
        self._synced = time.monotonic()
        self.prompt_tokens = self.completion_tokens = 0
        self._end = 0  # of the last whole line
        self._ends_with_line_feed = True
        if stream is not None:
            with naming(path), open(stream.fileno(), "rb", closefd=False) as lines:
                self._read_all(lines)

    def _read_all(self, lines: IO[bytes]) -> None:
        number = 0
        while line := lines.readline(_LONGEST_LINE):
            number += 1
            if number == 1:
                _require_ours(self._path, line)
            whole = line.endswith(b"\n")
            try:
                record = _parse(line)
            except ValueError as error:
                if not whole and not lines.read(1):
                    return
                raise AnnotationError(
                    f"{self._path}:{number}: not a line of kept replies ({printable(error)}); repair or remove that "
                    "line (its text is then sent again)"
                ) from None
            self._places[record.key] = self._end
            self._count(record)
            self._end += len(line)
            self._ends_with_line_feed = whole

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def keys(self) -> Set[str]:
        """The keys of all kept replies."""
        return self._places.keys()

    def add(self, kept: KeptReply) -> None:
        """Appends a reply, which survives the death of this process at once and a power cut after a second.

        Raises:
            AnnotationError: the file cannot be written, as on a full disk; its earlier content is unchanged.
        """
        before = b"" if self._ends_with_line_feed else b"\n"
        line = (json.dumps(asdict(kept), ensure_ascii=False) + "\n").encode()
        descriptor = self._descriptor
        try:
            os.ftruncate(descriptor, self._end)
            _write(descriptor, before + line, self._end)
        except OSError as error:
            with contextlib.suppress(OSError):  # the next reader skips half a line that is left
                os.ftruncate(descriptor, self._end)
            raise _unwritable(self._path, error) from None
        self._places[kept.key] = self._end + len(before)
        self._end += len(before) + len(line)
        self._ends_with_line_feed = True
        self._count(kept)
        if time.monotonic() - self._synced > _SECONDS_BETWEEN_SYNCS:
            self.sync()

    def sync(self) -> None:
        """Syncs the file to the disk, so that a power cut loses nothing.

        Raises:
            AnnotationError: the disk reports an error.
        """
        self._synced = time.monotonic()
        if self._stream is not None:
            try:
                sync(self._stream)
            except OSError as error:
                raise _unwritable(self._path, error) from None

    def reply(self, key: str, identity: str) -> Reply:
        """A kept reply, as the reply to the document of this id."""
        place, pieces = self._places[key], list[bytes]()
        while piece := os.pread(self._descriptor, _PIECE, place):
            line, line_feed, _ = piece.partition(b"\n")
            pieces.append(line)
            place += len(piece)
            if line_feed:
                break
        record = _parse(b"".join(pieces))
        return Reply(identity, record.text, record.reply, record.finish_reason)

    def _count(self, record: KeptReply) -> None:
        self.models.add(record.model)
        self.prompt_tokens += record.prompt_tokens
        self.completion_tokens += record.completion_tokens

    @property
    def _descriptor(self) -> int:
        if self._stream is None:
            raise ValueError("a ledger that is not there holds no reply and takes none")
        return self._stream.fileno()


def _write(descriptor: int, data: bytes, place: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, place)
        left, place = left[written:], place + written


def _unwritable(path: Path, error: OSError) -> AnnotationError:
    return AnnotationError(
        f"{path} cannot be written: {error.strerror or error}; the replies in it are intact, and the same command "
        "continues"
    )


def _parse(line: bytes) -> KeptReply:
    """The reply in a line.

    Raises:
        ValueError: the line holds no reply.
    """
    record = metadata.parse(line, KeptReply)
    if not all(map(is_text, (record.text, record.reply, record.finish_reason, record.model, record.served_by))):
        raise ValueError("it holds a lone surrogate, which is not text")
    return record


def _require_ours(path: Path, first: bytes) -> None:
    """Checks that the first line of a file, complete or cut, is of this program.

    Raises:
        AnnotationError: the file is not of this program; it is left unchanged.
    """
    try:
        metadata.parse(first, KeptReply)
    except ValueError:
        begun = first if first.endswith(b"\n") else first + _AN_EXAMPLE[len(first) :]
        if _BEGINNING.match(begun):
            return
        raise AnnotationError(
            f"{path} holds no kept replies, and is not overwritten; name another output, or move that file away"
        ) from None


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """Opens a file of kept replies for this process alone; a missing file is created.

    Raises:
        AnnotationError: another process has the file open, the file is not of this program or cannot be written, or a
            line is damaged.
    """
    path = Path(os.path.realpath(path))  # resolved, since the lock belongs into the folder of the file itself
    busy = AnnotationError(f"{path} is being written by another annotate; wait for it or stop it")
    with (
        artifacts.lock(path.with_name(f".{path.name}.lock"), busy, AnnotationError),
        _opened(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW) as stream,
    ):
        ledger = Ledger(path, stream)
        try:
            yield ledger
        finally:
            ledger.sync()


@contextmanager
def read_ledger(path: Path) -> Iterator[Ledger]:
    """Opens a file of kept replies for reading, also while another process adds to it; nothing is created or changed.

    Raises:
        AnnotationError: the file is not of this program, cannot be read, or a line is damaged.
    """
    if not os.path.lexists(path):
        yield Ledger(path, None)
        return
    with _opened(path, os.O_RDONLY) as stream:
        yield Ledger(path, stream)


def _opened(path: Path, flags: int) -> IO[bytes]:
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)  # opening a pipe must not block
    except OSError as error:
        raise AnnotationError(f"{path} cannot be opened: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise AnnotationError(f"{path} is not a regular file; name another output")
    return os.fdopen(descriptor, "rb" if flags == os.O_RDONLY else "r+b", buffering=0)
