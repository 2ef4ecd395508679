"""From the paths a user gives to the files of a corpus."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nuner_embed.arguments import Paths, StrPath, as_paths
from nuner_embed.corpora.compression import SUFFIXES
from nuner_embed.errors import CorpusError

FORMATS = {
    "txt": (".txt",),
    "jsonl": (".jsonl",),
    "conll": (".conll", ".conllu", ".bio", ".iob", ".iob2", ".tsv"),
    "parquet": (".parquet",),
}
_BY_SUFFIX = {suffix: name for name, suffixes in FORMATS.items() for suffix in suffixes}
_KNOWN = ", ".join(_BY_SUFFIX)
_LOG = logging.getLogger(__name__)


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


def list_files(arguments: Paths, format_: str | None, exclude: Sequence[Path]) -> tuple[CorpusFile, ...]:
    """The files that some paths mean, in the order given, those of a directory by name.

    Args:
        arguments: files, and directories: of a directory every file of a known suffix, or with `format_` every file,
            hidden ones left out, in its sub-folders too, which may be links. A file to which several names in a
            directory lead is listed once.
        format_: a key of `FORMATS` for all files, in place of their suffixes.
        exclude: directories to leave out.

    Raises:
        CorpusError: a path that is missing, of no known suffix, named twice, or a directory without corpora.
    """
    files: list[CorpusFile] = []
    for argument in as_paths(arguments):
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
    _require_good_names(files)
    return tuple(files)


def _require_good_names(files: Sequence[CorpusFile]) -> None:
    names: dict[Path, str] = {}
    for file in files:
        if not file.name.isascii() and any("\ud800" <= character <= "\udfff" for character in file.name):
            shown_name = os.fsencode(file.name).decode("utf-8", "backslashreplace")
            raise CorpusError(shown_name, None, "the file's name is not valid UTF-8, and ids are made of it; rename it")
        real = file.path.resolve()
        if real in names:
            raise CorpusError(file.name, None, f"the same file as {names[real]}, given before; name each file once")
        names[real] = file.name


def _existing(argument: StrPath) -> Path:
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
    found: dict[Path, Path] = {}
    for here, names in _folders(directory, exclude):
        for name in names:
            path = here / name
            if name.startswith(".") or not (format_ or format_of(path)) or not _can_be_read_twice(path):
                continue
            real = path.resolve()
            if real not in found or found[real].is_symlink():
                found[real] = path
    for path in sorted(found.values(), key=lambda path: path.relative_to(directory).as_posix()):
        yield CorpusFile(path, path.relative_to(directory).as_posix(), format_ or format_of(path) or "")


def _folders(directory: Path, exclude: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
    """A directory and its folders, each with the names of its files: those to which links lead last, each once."""
    top = directory.resolve()
    seen: set[Path] = set()
    roots = [directory]
    for root in roots:  # grows
        for folder, folders, names in os.walk(root, onerror=_unreadable):
            here = Path(folder)
            real = here.resolve()
            left_out = any(real.is_relative_to(place) for place in exclude) or _is_store(names)  # a store is no corpus
            if left_out or real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            links = [here / name for name in folders if (here / name).is_symlink()]  # which os.walk does not follow
            roots += [link for link in links if not top.is_relative_to(link.resolve())]  # round in a circle
            yield here, sorted(names)


def _can_be_read_twice(path: Path) -> bool:
    """Whether it is no pipe, socket or device; a link to nothing counts, so that opening it says so."""
    if path.is_file() or not path.exists():
        return True
    _LOG.warning("%s is left out: not a regular file, and a corpus is read more than once", path)
    return False
