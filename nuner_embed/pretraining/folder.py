"""The directory of a run: whose it is, what was begun in it, what is finished."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nuner_embed.errors import PretrainingError
from nuner_embed.files import hash_of, read_json, write_json

TRAINING_FOLDER, FACTS_FILE, STATE_FILE = "training", "pretrain.json", "state.safetensors"
_RUN_FILE, _LOCK_FILE = "run.json", ".lock"


def require_free(directory: Path, *, force: bool) -> None:
    """Checks that a run may take place in a directory: it is new, empty, that of a run, or its model may be replaced.

    Raises:
        PretrainingError: none of these.
    """
    finished, begun = (directory / FACTS_FILE).exists(), (directory / TRAINING_FOLDER).exists()
    if directory.exists() and not directory.is_dir():
        raise PretrainingError(f"{directory} is a file; name a directory for the model")
    if finished and not force and not begun:  # begun with --force, the run goes on without it
        raise PretrainingError(
            f"{directory} holds a finished model; name another directory, or replace it with --force"
        )
    if directory.exists() and not (finished or begun) and any(directory.iterdir()):
        raise PretrainingError(f"{directory} holds something else; name another directory for the model")


@contextmanager
def held(directory: Path, accelerator: Any, *, force: bool) -> Iterator[Path]:
    """The working folder of a run, for this run alone; it goes when the block ends without an error.

    Args:
        directory: of the run.
        accelerator: accelerate's; of its processes, the main one holds the folder for all.
        force: empty it first.

    Raises:
        PretrainingError: another process trains there, or see `require_free`.
    """
    work = directory / TRAINING_FOLDER
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()
        yield work
        return
    require_free(directory, force=force)
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / _LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PretrainingError(f"{directory} is being trained by another process; wait for it or stop it") from None
    try:
        if force:
            _empty(work)
        accelerator.wait_for_everyone()
        yield work
    finally:
        lock.release()
    shutil.rmtree(work)


def _empty(work: Path) -> None:
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _LOCK_FILE:
            path.unlink()


def same_run(work: Path, made: dict[str, Any], *, write: bool) -> str:
    """The fingerprint of a run, if it is the one that was begun in the folder, or none was.

    Args:
        work: the folder.
        made: what the run is made of, with "settings" among it.
        write: say in the folder what was begun.

    Raises:
        PretrainingError: it is another; the message says in what.
    """
    path = work / _RUN_FILE
    begun = None
    if (work / STATE_FILE).exists():  # before that nothing is learnt: nothing to protect
        try:
            begun = read_json(path)
            there = {**begun, **begun["settings"]}
        except (OSError, ValueError, KeyError, TypeError):
            raise PretrainingError(f"{path} is damaged; --force starts over") from None
    if begun is not None and begun != made:
        here = {**made, **made["settings"]}
        names = [name for name in here if name != "settings" and here[name] != there.get(name)]
        shown = ", ".join(
            name if isinstance(here[name], dict) else f"{name} ({there.get(name)} there, {here[name]} here)"
            for name in names
        )
        raise PretrainingError(f"the run in {work.parent} was begun with another {shown}; --force starts over")
    if write and begun is None:
        write_json(path, made)
    return hash_of(made)
