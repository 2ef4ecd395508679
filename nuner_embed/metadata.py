"""Metadata on disk: JSON files and JSON lines as typed values, checked in one place when they are read.

A kind of metadata is a dataclass; the annotations give the type of each field, and `typing.Annotated` with
`msgspec.Meta`, or one of the aliases below, its bounds. A value that does not fit raises a one-line error with the file
and the field.
"""

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from nuner_embed.errors import NunerEmbedError
from nuner_embed.files import parse_json, read_json

Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**62)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
# The name of a file or folder, not a path to another folder.
FileName = Annotated[str, msgspec.Meta(pattern=r"^(?!\.{1,2}$)[^/\\\x00]{1,255}$")]

T = TypeVar("T")
_PLACE = re.compile(r" - at `\$\.?(.*)`$", re.DOTALL)


def convert(values: Any, kind: type[T]) -> T:
    """Converts a JSON value to a type.

    Args:
        values: what `parse_json` gives.
        kind: a dataclass, or any type that msgspec knows. Keys that the class does not have are ignored.

    Raises:
        ValueError: the value does not fit; the message names the field.
    """
    try:
        return msgspec.convert(values, kind)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ValueError(_said(str(error))) from None


def parse(line: str | bytes, kind: type[T]) -> T:
    """Parses a JSON text and converts its value to a type.

    Raises:
        ValueError: it is no JSON, or does not fit; the message names the field.
    """
    return convert(parse_json(line), kind)


def read(path: Path, kind: type[T], *, version: int, error: type[NunerEmbedError], what: str, cure: str) -> T:
    """Reads a JSON file with a `schema_version` and converts its object to a type.

    Args:
        path: of the file.
        kind: see `convert`.
        version: the schema version that this program writes and reads.
        error: the class of errors to raise.
        what: what the file should be, such as "the manifest of an index".
        cure: what the user should do about a damaged or different file, such as "build the index again".

    Raises:
        FileNotFoundError, NotADirectoryError: the file does not exist.
        error: the file cannot be read, is damaged or something else, or has another version.
    """
    values = read_object(path, version=version, error=error, what=what, cure=cure)
    try:
        return convert(values, kind)
    except ValueError as problem:
        raise error(f"{path}: {problem}; {cure}") from None


def read_object(
    path: Path,
    *,
    version: int,
    error: type[NunerEmbedError],
    what: str,
    cure: str,
    of_other_version: type[NunerEmbedError] | None = None,
    known_by: tuple[str, ...] = (),
    unversioned: bool = False,
) -> dict[str, Any]:
    """Reads the object of a JSON file and checks its `schema_version`; see `read`.

    Args:
        path, version, error, what, cure: see `read`.
        of_other_version: the class to raise where the version differs; None for `error`.
        known_by: fields that all versions have, and that tell the file from others of its name.
        unversioned: whether a file without a `schema_version` counts as one of the current version.
    """
    try:
        values = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError) as problem:
        reason = (problem.strerror if isinstance(problem, OSError) else None) or problem
        raise error(f"{path} cannot be read as {what} ({reason}); {cure}") from None
    needed = {*known_by} if unversioned else {"schema_version", *known_by}
    if not isinstance(values, dict) or not needed <= set(values):
        raise error(f"{path} is not {what}; {cure}")
    found = values.get("schema_version", version)
    if type(found) is not int or found != version:
        raise (of_other_version or error)(
            f"{path} has schema version {found!r:.20}, this program reads {version}; {cure}"
        )
    return values


def _said(message: str) -> str:
    """msgspec's message with the field first, then the problem."""
    place = _PLACE.search(message)
    reason = _PLACE.sub("", message).replace("`", "")
    reason = reason[:1].lower() + reason[1:]
    return f"{place[1]}: {reason}" if place and place[1] else reason
