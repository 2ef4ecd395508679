"""The files of a corpus, found from the paths that a user gives."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nuner_embed.arguments import Paths, StrPath, as_paths
from nuner_embed.corpora.base import FORMATS, KNOWN_SUFFIXES, SUFFIXES, Source
from nuner_embed.corpora.streams import COMPRESSION_SUFFIXES
from nuner_embed.errors import CorpusError

_IN_DIRECTORIES = ", ".join(
    suffix if one.in_directories else f"{suffix} with --format {one.name}" for suffix, one in SUFFIXES.items()
)
_LOG = logging.getLogger(__name__)


def list_files(arguments: Paths, format: str | None, exclude: Sequence[Path]) -> tuple[Source, ...]:
    """The files of some paths, in the order given; the files of a directory are sorted by name.

    Args:
        arguments: files and directories. A directory stands for all files with a known suffix, or with `format` for all
            files, also in sub-folders and linked folders, except hidden ones. A file with several names in a
            directory is listed once.
        format: a key of `FORMATS` for all files, whatever their suffixes.
        exclude: directories to leave out.

    Raises:
        CorpusError: a path is missing, has no known suffix or is given twice, or a directory holds no corpus.
    """
    files: list[Source] = []
    for argument in as_paths(arguments):
        path = _existing(argument)
        if path.is_dir():
            found = list(_in_directory(path, format, [place.resolve() for place in exclude]))
            if not found:
                is_store = _is_store(entry.name for entry in path.iterdir())
                stores = "; what lies in a store is left out" if is_store else ""
                reason = f"no corpus in this directory{stores}; known suffixes: {_IN_DIRECTORIES}"
                raise CorpusError(str(argument), None, reason)
            files += found
        elif not path.is_file():
            reason = "not a regular file, and a corpus is read more than once; pipe it in and say - instead"
            raise CorpusError(str(argument), None, reason)
        else:
            name = format or _format_of(path)
            if name is None:
                reason = f"unknown suffix; known are {KNOWN_SUFFIXES}, each also .gz or .zst; or use --format"
                raise CorpusError(str(argument), None, reason)
            files.append(Source(path, path.name, name))
    if not files:
        raise ValueError("name at least one file or directory")
    _require_good_names(files)
    return tuple(files)


def _require_good_names(files: Sequence[Source]) -> None:
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
    """The path of an argument; "~" is the home directory, unless a file has that name."""
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


def _format_of(path: Path, *, in_directory: bool = False) -> str | None:
    """The name of a file's format by its suffix, looking through compression."""
    if path.suffix.lower() in COMPRESSION_SUFFIXES:
        path = path.with_suffix("")
    known = SUFFIXES.get(path.suffix.lower())
    return None if known is None or (in_directory and not known.in_directories) else known.name


def _is_store(names: Iterable[str]) -> bool:
    return {"manifest.json", "journal.jsonl"} <= set(names)


def _unreadable(error: OSError) -> None:
    """Raises the error of a directory that cannot be listed, which os.walk would skip silently."""
    raise CorpusError(str(error.filename), None, f"cannot be read: {error.strerror}; repair it or name other paths")


def _in_directory(directory: Path, format: str | None, exclude: Sequence[Path]) -> Iterator[Source]:
    found: dict[Path, tuple[Path, str]] = {}
    for here, names in _folders(directory, exclude):
        there = {_split(name) for name in names}
        for name in names:
            path = here / name
            known = format or _format_of(path, in_directory=True)
            if name.startswith(".") or known is None or not _can_be_read_twice(path):
                continue
            if _format_of(path) != known if FORMATS[known].beside else not format and _belongs_to_another(name, there):
                continue
            real = path.resolve()
            if real not in found or found[real][0].is_symlink():
                found[real] = path, known
    named = ((path.relative_to(directory).as_posix(), path, known) for path, known in found.values())
    yield from (Source(path, name, known) for name, path, known in sorted(named))


def _belongs_to_another(name: str, there: set[tuple[str, str]]) -> bool:
    """Whether another file of the folder is read in place of a file, as an .ann file in place of its .txt file."""
    stem, suffix = _split(name)
    return any(one.beside == suffix and (stem, of) in there for one in FORMATS.values() for of in one.suffixes)


def _split(name: str) -> tuple[str, str]:
    """The name of a file without its suffix, and the suffix, looking through compression."""
    path = Path(name)
    if path.suffix.lower() in COMPRESSION_SUFFIXES:
        path = path.with_suffix("")
    return path.stem, path.suffix.lower()


def _folders(directory: Path, exclude: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
    """A directory and its sub-folders with the names of their files, each folder once, linked folders last."""
    top = directory.resolve()
    seen: set[Path] = set()
    roots = [directory]
    for root in roots:  # grows
        for folder, folders, names in os.walk(root, onerror=_unreadable):
            here = Path(folder)
            real = here.resolve()
            left_out = any(real.is_relative_to(place) for place in exclude) or _is_store(names)  # no corpus
            if left_out or real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            links = [here / name for name in folders if (here / name).is_symlink()]  # which os.walk does not follow
            roots += [link for link in links if not top.is_relative_to(link.resolve())]  # round in a circle
            yield here, sorted(names)


def _can_be_read_twice(path: Path) -> bool:
    """Whether a path is no pipe, socket or device; True for a broken link, so that opening it raises the error."""
    if path.is_file() or not path.exists():
        return True
    _LOG.warning("%s is left out: not a regular file, and a corpus is read more than once", path)
    return False
