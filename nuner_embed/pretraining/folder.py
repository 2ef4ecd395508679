"""The directory of a run: whose it is, what was begun in it, what is finished."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nuner_embed.artifacts import is_free, is_only_begun, lock, require_ours
from nuner_embed.errors import PretrainingError
from nuner_embed.files import hash_of, write_json
from nuner_embed.pretraining.cards import changed_cards
from nuner_embed.pretraining.facts import (
    FACTS_FILE,
    RUN_FILE,
    RUN_KIND,
    SCHEMA_VERSION,
    TRAINING_FOLDER,
    read_begun,
)
from nuner_embed.pretraining.publication import place
from nuner_embed.pretraining.run_files import FINISHED, LOCK_FILE, MODEL, PLACING, RUN, RUN_AND_MODEL, STATE_FILE


def require_free(directory: Path, *, force: bool) -> None:
    """Checks that a run may take place in a directory: it is new, empty, that of a run, or its model may be replaced.

    Raises:
        PretrainingError: none of these, or something there was not written by this program.
    """
    if is_free(directory) or is_only_begun(directory, RUN):
        return
    work = directory / TRAINING_FOLDER
    begun, finished = (work / RUN_FILE).exists(), (directory / FACTS_FILE).exists()
    if not begun:
        require_ours(directory, MODEL)
        if not force:
            raise PretrainingError(
                f"{directory} holds a finished model; name another directory, or replace it with --force"
            )
    elif finished or (work / FINISHED).is_dir() or (work / PLACING).is_dir():
        require_ours(directory, RUN_AND_MODEL)
    else:
        require_ours(directory, RUN)
    changed = changed_cards(directory) if finished else []
    if changed and not is_placed(work):
        raise PretrainingError(
            f"{changed[0]} is not as nuner-embed wrote it, and would be replaced; move it away, or name another "
            "directory"
        )


@contextmanager
def held(directory: Path, accelerator: Any, *, force: bool) -> Iterator[Path]:
    """The working folder of a run, for this run alone; it goes when the block ends without an error.

    Where an earlier process died while a finished model took its place, that is done first: see `is_placed`.

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
    busy = PretrainingError(f"{directory} is being trained by another process; wait for it or stop it")
    with lock(work / LOCK_FILE, busy, PretrainingError):
        require_free(directory, force=force)  # nobody was quicker
        if (work / FINISHED).is_dir() or (work / PLACING).is_dir():
            place(directory, work)
        if force:
            _empty(work)
        if not (work / RUN_FILE).exists():
            write_json(work / RUN_FILE, _mark(None))  # first of all: by it the folder is known
        accelerator.wait_for_everyone()
        yield work
        if any(name.startswith(f"{TRAINING_FOLDER}/") for name in MODEL.strangers(directory)):
            (work / RUN_FILE).unlink()  # somebody put something there while the run went on: it stays
            return
        _empty(work)
        (work / LOCK_FILE).unlink(missing_ok=True)
        work.rmdir()


def is_placed(work: Path) -> bool:
    """Whether the model of a run is in its place already, and only the run's folder is left to remove."""
    return (work / PLACING).is_dir() and (work.parent / FACTS_FILE).exists()


def _mark(begun: dict[str, Any] | None) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "kind": RUN_KIND, "begun": begun}


def _empty(work: Path) -> None:
    """Removes all of a run but its lock, its mark first: what is left then is known by the model beside it."""
    (work / RUN_FILE).unlink(missing_ok=True)
    for path in work.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK_FILE:
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
    begun = None
    if (work / STATE_FILE).exists() or is_placed(work):  # before that nothing is learnt: nothing to protect
        begun = read_begun(work.parent)
    if begun is not None and begun != made:
        there, here = {**begun, **begun["settings"]}, {**made, **made["settings"]}
        names = [name for name in here if name != "settings" and here[name] != there.get(name)]
        shown = ", ".join(
            name if isinstance(here[name], dict) else f"{name} ({there.get(name)} there, {here[name]} here)"
            for name in names
        )
        raise PretrainingError(f"the run in {work.parent} was begun with another {shown}; --force starts over")
    if write and begun is None:
        write_json(work / RUN_FILE, _mark(made))
    return hash_of(made)
