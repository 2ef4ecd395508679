"""The records that a reader yields: documents, and rejects for bad records."""

from collections.abc import Iterator
from dataclasses import dataclass

from nuner_embed.documents import Document
from nuner_embed.printable import printable

_KEPT_CHARACTERS = 2000
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be a document.

    Attributes:
        source: the file, as ids name it.
        line: 1-based line, or row for Parquet; None for the rest of a file.
        reason: what is wrong and what to do about it.
        record: the first 2,000 characters of the record, as far as it could be read.
    """

    source: str
    line: int | None
    reason: str
    record: str | None = None

    @property
    def where(self) -> str:
        """FILE:LINE."""
        return printable(self.source if self.line is None else f"{self.source}:{self.line}")


Item = tuple[int, Document | Reject]


def reject(source: str, line: int, reason: str, record: str) -> Item:
    """A reader's item for a bad record."""
    return line, Reject(source, line, reason, record[:_KEPT_CHARACTERS])


def shown(value: object) -> str:
    """A value for an error message: at most 60 characters, no line breaks."""
    text = "".join(_pieces(value, _SHOWN_CHARACTERS + 1))
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def _pieces(value: object, most: int) -> Iterator[str]:
    """`repr` of a value in pieces, cut after about `most` characters, since the value may be large and deep."""
    if isinstance(value, str | bytes):
        yield repr(value[:most])
        return
    if not isinstance(value, dict | list | tuple) or not value or most <= 0:
        yield repr(value) if not isinstance(value, dict | list | tuple) or not value else "..."
        return
    left = most
    opened, closed = ("{", "}") if isinstance(value, dict) else ("[", "]") if isinstance(value, list) else ("(", ")")
    before = opened
    for key in value:
        parts = [before, *_pieces(key, left - 1)]
        if isinstance(value, dict):
            parts += [": ", *_pieces(value[key], left - 1)]
        piece = "".join(parts)
        yield piece
        left -= len(piece)
        before = ", "
        if left <= 0:
            return
    yield ("," if isinstance(value, tuple) and len(value) == 1 else "") + closed
