"""The cache: the user's cache folder, or a temporary folder where the user's cannot be written."""

import contextlib
import logging
import os
import stat
import tempfile
from functools import cache
from pathlib import Path

from nuner_embed.errors import NunerEmbedError
from nuner_embed.files import expand

_VARIABLE = "NUNER_EMBED_CACHE"
_LOG = logging.getLogger(__name__)


def cached(*parts: str, folder: bool = False) -> Path:
    """A path in the cache, where the file exists already or can be made.

    Args:
        parts: of the path within the cache.
        folder: the path is a folder to write files into; it is made if it is missing.

    The cache is the folder that NUNER_EMBED_CACHE names, or `nuner-embed` in XDG_CACHE_HOME or in the home folder's
    `.cache`. Where the last two cannot be written, or there is no home folder, a temporary folder replaces the
    cache, and one line of the log says so.

    Raises:
        NunerEmbedError: NUNER_EMBED_CACHE names a folder that cannot be written, or no folder can be written.
    """
    kept = cache_folder()
    if kept:
        path = kept.joinpath(*parts)
        problem = _problem(path) if folder else None if path.exists() else _problem(path.parent)
        if problem is None:
            return path
        if _named():
            raise NunerEmbedError(f"{_VARIABLE} is {kept}, which cannot be written ({problem}); name a writable folder")
    path = _temporary(kept).joinpath(*parts)
    (path if folder else path.parent).mkdir(parents=True, exist_ok=True)
    return path


def cache_folder() -> Path | None:
    """The cache folder, whether it exists or not; None where there is no home folder."""
    return _named() or _of_user()


def _named() -> Path | None:
    named = os.environ.get(_VARIABLE)
    return expand(named).absolute() if named else None


def _of_user() -> Path | None:
    """The user's own cache folder; None where the user has none."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the XDG specification calls relative paths invalid
        try:
            base = Path.home() / ".cache"
        except RuntimeError:  # HOME is not set, and the system does not know the user
            return None
    return base / "nuner-embed" if base.is_absolute() else None


def _problem(folder: Path) -> str | None:
    """Makes a folder if it is missing; returns why nothing can be written there, or None."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return None if os.access(folder, os.W_OK | os.X_OK) else "it is read-only"


@cache
def _temporary(instead_of: Path | None) -> Path:
    """A temporary folder that only this user can write; if possible the same one in all processes of the user."""
    try:
        user = os.getuid() if hasattr(os, "getuid") else 0
        folder = Path(tempfile.gettempdir()) / f"nuner-embed-{user}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        facts = folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != user or facts.st_mode & 0o022:
            folder = Path(tempfile.mkdtemp(prefix="nuner-embed-"))  # another user could write into the first one
    except OSError as error:
        raise NunerEmbedError(
            f"there is no writable cache folder ({error.strerror or error}); name one "
            f"with the environment variable {_VARIABLE}"
        ) from None
    reason = f"{instead_of} cannot be written" if instead_of else "there is no home folder"
    _LOG.info("%s; the cache folder is %s; the environment variable %s names another", reason, folder, _VARIABLE)
    return folder
