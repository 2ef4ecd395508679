"""From the paths a user gives to the files of a corpus."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nuner_embed.corpora.compression import SUFFIXES
from nuner_embed.errors import CorpusError

FORMATS = {
    "txt": (".txt",),
    "jsonl": (".jsonl",),
    "conll": (".conll", ".bio", ".iob", ".tsv"),
    "parquet": (".parquet",),
}
_BY_SUFFIX = {suffix: name for name, suffixes in FORMATS.items() for suffix in suffixes}
_KNOWN = ", ".join(_BY_SUFFIX)


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One file of a corpus.

    Attributes:
        path: where it lies.
        name: what ids are made of: relative to the argument that named it.
        format: a key of `FORMATS`.
    """

    path: Path
    name: str
    format: str


def list_files(
    arguments: Sequence[str | os.PathLike[str]], format_: str | None, exclude: Sequence[Path]
) -> tuple[CorpusFile, ...]:
    """The files that some paths mean, in the order given, those of a directory by name.

    Raises:
        CorpusError: a path that is missing, of no known suffix, or a directory without corpora.
    """
    files: list[CorpusFile] = []
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            found = list(_in_directory(path, format_, [place.resolve() for place in exclude]))
            if not found:
                raise CorpusError(str(argument), None, f"no corpus in this directory; known suffixes: {_KNOWN}")
            files += found
        elif not path.exists():
            raise CorpusError(str(argument), None, "no such file or directory")
        else:
            known = format_ or format_of(path)
            if known is None:
                reason = f"unknown suffix; known are {_KNOWN}, each also .gz or .zst; or say --format"
                raise CorpusError(str(argument), None, reason)
            files.append(CorpusFile(path, path.name, known))
    if not files:
        raise ValueError("name at least one file or directory")
    return tuple(files)


def format_of(path: Path) -> str | None:
    """A file's format by its suffix, looking through compression."""
    if path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    return _BY_SUFFIX.get(path.suffix.lower())


def _in_directory(directory: Path, format_: str | None, exclude: Sequence[Path]) -> Iterator[CorpusFile]:
    found = []
    for folder, folders, names in os.walk(directory):
        here = Path(folder)
        if here.resolve() in exclude or {"manifest.json", "journal.jsonl"} <= set(names):  # a store is no corpus
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [here / name for name in names if not name.startswith(".") and format_of(here / name)]
    for path in sorted(found, key=lambda path: path.relative_to(directory).as_posix()):
        yield CorpusFile(path, path.relative_to(directory).as_posix(), format_ or format_of(path) or "")
