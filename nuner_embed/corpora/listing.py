"""From the paths a user gives to the files of a corpus."""

import os
from collections.abc import Iterable, Iterator, Sequence
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
        path = _existing(argument)
        if path.is_dir():
            found = list(_in_directory(path, format_, [place.resolve() for place in exclude]))
            if not found:
                is_store = _is_store(entry.name for entry in path.iterdir())
                stores = "; what lies in a store is left out" if is_store else ""
                reason = f"no corpus in this directory{stores}; known suffixes: {_KNOWN}"
                raise CorpusError(str(argument), None, reason)
            files += found
        elif not path.is_file():
            reason = "not a regular file, and a corpus is read more than once; pipe it in and say - instead"
            raise CorpusError(str(argument), None, reason)
        else:
            known = format_ or format_of(path)
            if known is None:
                reason = f"unknown suffix; known are {_KNOWN}, each also .gz or .zst; or say --format"
                raise CorpusError(str(argument), None, reason)
            files.append(CorpusFile(path, path.name, known))
    if not files:
        raise ValueError("name at least one file or directory")
    for file in files:
        if not file.name.isascii() and any("\ud800" <= character <= "\udfff" for character in file.name):
            shown_name = os.fsencode(file.name).decode("utf-8", "backslashreplace")
            raise CorpusError(shown_name, None, "the file's name is not valid UTF-8, and ids are made of it; rename it")
    return tuple(files)


def _existing(argument: str | os.PathLike[str]) -> Path:
    """The path that an argument means; "~" is the home directory unless there is a file of that name."""
    if os.fspath(argument) == "":  # an unset shell variable, which Path would read as the current directory
        raise CorpusError('""', None, "no such file or directory; the path is empty")
    try:
        path = Path(argument)
        if not path.exists():
            path = path.expanduser()
        if path.exists():
            return path
    except (OSError, RuntimeError) as error:
        said = error.strerror if isinstance(error, OSError) else "no such file or directory"
        raise CorpusError(str(argument)[:80], None, f"cannot be read: {said}") from None
    raise CorpusError(str(argument), None, "no such file or directory")


def format_of(path: Path) -> str | None:
    """A file's format by its suffix, looking through compression."""
    if path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    return _BY_SUFFIX.get(path.suffix.lower())


def _is_store(names: Iterable[str]) -> bool:
    return {"manifest.json", "journal.jsonl"} <= set(names)


def _unreadable(error: OSError) -> None:
    """Left alone, os.walk passes over a directory that it may not list, and its documents are missing."""
    raise CorpusError(str(error.filename), None, f"cannot be read: {error.strerror}; mend it or name other paths")


def _in_directory(directory: Path, format_: str | None, exclude: Sequence[Path]) -> Iterator[CorpusFile]:
    found = []
    for folder, folders, names in os.walk(directory, onerror=_unreadable):
        here = Path(folder)
        real = here.resolve()
        if any(real.is_relative_to(place) for place in exclude) or _is_store(names):  # a store is no corpus
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [here / name for name in names if not name.startswith(".") and format_of(here / name)]
    for path in sorted(found, key=lambda path: path.relative_to(directory).as_posix()):
        yield CorpusFile(path, path.relative_to(directory).as_posix(), format_ or format_of(path) or "")
