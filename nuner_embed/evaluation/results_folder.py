"""The directory of an evaluation: its mark, the hashes of its files, and its finished parts.

parts/evaluation.json marks the directory as an evaluation, and is written first; parts/HASH.json hold finished cells.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from nuner_embed import metadata
from nuner_embed.artifacts import Kind, is_free, is_only_begun, lock, require_no_links, require_ours
from nuner_embed.errors import ProbeError
from nuner_embed.evaluation.fewshot import Cell
from nuner_embed.files import atomic_write, hash_of, read_json, sha256_of, write_json
from nuner_embed.metadata import Count, Sha256, convert

PARTS_FOLDER: Final = "parts"
RESULTS_FILE, TABLE_FILE, FIGURE_FILE = "results.json", "table.md", "figure.png"
_OUTPUTS: Final = (RESULTS_FILE, TABLE_FILE, FIGURE_FILE)
_MARK: Final = f"{PARTS_FOLDER}/evaluation.json"
_LOCK: Final = f"{PARTS_FOLDER}/.lock"
_KIND: Final = "few-shot evaluation"
_SCHEMA_VERSION: Final = 1
_HASH: Final = "[0-9a-f]" * 64


@dataclass(frozen=True, slots=True)
class _Mark:
    """The contents of the mark.

    Attributes:
        kind: what the directory is.
        written: hashes of what was written, or was about to be when the process died, by the name of the file.
    """

    kind: str
    written: dict[str, list[Sha256]]


@dataclass(frozen=True, slots=True)
class _Results:
    """The fields of results.json in all versions."""

    metric: str
    scheme: str
    k: list[int]
    protocol: dict[str, Any]
    sets: list[dict[str, Any]]
    averaged: list[str]
    cells: list[Cell]
    differences: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Part:
    cells: list[Cell]
    lost: Count
    sha256: Sha256 | None = None  # of the rest; an earlier version kept none


def _read_mark(directory: Path) -> _Mark:
    mark = metadata.read(
        directory / _MARK, _Mark, version=_SCHEMA_VERSION, error=ProbeError, what="the mark of an evaluation",
        cure="name another directory, or remove that one yourself",
    )  # fmt: skip
    if mark.kind != _KIND:
        raise ProbeError(f"{directory / _MARK} is not the mark of an evaluation; name another directory")
    return mark


EVALUATION: Final = Kind(
    "an evaluation",
    _MARK,
    _read_mark,
    (*_OUTPUTS, _LOCK, f"{PARTS_FOLDER}/{_HASH}.json", ".*.tmp", f"{PARTS_FOLDER}/.*.tmp"),
    ProbeError,
    ProbeError,
)


class Folder:
    """The directory of an evaluation; see `opened`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def part(self, key: str) -> Path:
        """The file of some cells, by the hash of what decides them."""
        return self.path / PARTS_FOLDER / f"{key}.json"

    def write(self, name: str, content: bytes) -> None:
        """Writes one of the outputs; its hash is recorded first."""
        path = self.path / name
        mark = _read_mark(self.path)
        before = [sha256_of(path)] if path.is_file() else []
        with atomic_write(path, follow=False) as stream:
            stream.write(content)
            stream.flush()
            written = {**mark.written, name: sorted({*before, sha256_of(Path(stream.name))})}
            write_json(self.path / _MARK, {"schema_version": _SCHEMA_VERSION, **asdict(_Mark(_KIND, written))})


def require_free(directory: Path) -> None:
    """Checks that an evaluation may be written: the directory is new, empty, or one of an evaluation as it was written.

    Raises:
        ProbeError: something there was not written by this program.
    """
    if is_free(directory) or is_only_begun(directory, EVALUATION) or _is_of_earlier_version(directory):
        return
    require_ours(directory, EVALUATION)
    written = _read_mark(directory).written
    for name in _OUTPUTS:
        path = directory / name
        if path.exists() and (not path.is_file() or sha256_of(path) not in written.get(name, [])):
            raise ProbeError(
                f"{path} was changed after nuner-embed wrote it, and would be overwritten; move it away, or name "
                "another directory"
            )


def _is_of_earlier_version(directory: Path) -> bool:
    """Whether an evaluation of a version that made no marks lies there, and nothing else: its results or its parts."""
    if not directory.is_dir() or (directory / _MARK).exists() or EVALUATION.strangers(directory):
        return False
    parts = list((directory / PARTS_FOLDER).glob("*.json"))
    try:
        if (directory / RESULTS_FILE).exists():
            convert(read_json(directory / RESULTS_FILE), _Results)
            return True
        return bool(parts) and not any((directory / name).exists() for name in _OUTPUTS) and all(map(_read, parts))
    except (OSError, ValueError):
        return False


@contextmanager
def opened(directory: Path) -> Iterator[Folder]:
    """The directory of an evaluation, for this process alone.

    Raises:
        ProbeError: see `require_free`; or another process writes there.
    """
    require_free(directory)
    (directory / PARTS_FOLDER).mkdir(parents=True, exist_ok=True)
    require_no_links(directory, ProbeError)
    busy = ProbeError(f"another process evaluates into {directory}; wait for it, or name another directory")
    if not (directory / _MARK).exists():
        written = {name: [sha256_of(directory / name)] for name in _OUTPUTS if (directory / name).is_file()}
        write_json(directory / _MARK, {"schema_version": _SCHEMA_VERSION, **asdict(_Mark(_KIND, written))})
    with lock(directory / _LOCK, busy, ProbeError):
        yield Folder(directory)


def write_part(path: Path, cells: Sequence[Cell], lost: int) -> None:
    """Writes finished cells, and the number of test mentions that overlap an earlier one or hold no word."""
    part = {"cells": [cell.to_dict() for cell in cells], "lost": lost}
    write_json(path, {**part, "sha256": hash_of(part)})


def read_part(path: Path) -> tuple[list[Cell], int] | None:
    """The cells and the number that `write_part` wrote; None if the file is missing or damaged."""
    try:
        part = _read(path)
    except (OSError, ValueError):
        return None
    return part.cells, part.lost


def _read(path: Path) -> _Part:
    values = read_json(path)
    part = convert(values, _Part)
    if part.sha256 is not None and part.sha256 != hash_of({"cells": values["cells"], "lost": part.lost}):
        raise ValueError("its values are not those that were written")
    return part
