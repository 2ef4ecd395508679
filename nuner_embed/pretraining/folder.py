"""The directory of a run: whose it is, what was begun in it, and how a finished model takes its place.

training/run.json   the mark of a run that was begun; the folder goes when the model is in its place
training/result/    is being written
training/finished/  is whole and on the disk; whatever happens now, this model will stand in the directory
training/replaced/  the former model's files go there, its facts first
training/placing/   the former ones are away; the new ones leave this folder, the facts last
pretrain.json       the facts of a finished model, beside its files

What is interrupted is finished on the next start.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nuner_embed.artifacts import Kind, is_free, is_only_begun, lock, require_ours
from nuner_embed.errors import PretrainingError
from nuner_embed.files import hash_of, sync_folder, sync_tree, write_json
from nuner_embed.models.directories import CONCEPT_FOLDER, TOKENIZER_FILES
from nuner_embed.pretraining.facts import (
    CARD,
    FACTS_FILE,
    RUN_FILE,
    RUN_KIND,
    SCHEMA_VERSION,
    TRAINING_FOLDER,
    changed_cards,
    read_begun,
    read_model,
)

if TYPE_CHECKING:
    from nuner_embed.pretraining.processes import Processes  # torch, which takes seconds to import

STATE_FILE: Final = "state.safetensors"
METRICS_FILE: Final = "metrics.csv"
CURVE_FILE: Final = "curve.png"
LOCK_FILE: Final = ".lock"
# folders in the run's: see `placing`
RESULT: Final = "result"
FINISHED: Final = "finished"
REPLACED: Final = "replaced"
PLACING: Final = "placing"

_TEMPORARY = ".*." + "[0-9a-f]" * 16 + ".tmp"
_ENCODER = (
    "config.json", "recipe.json", CARD, "model.safetensors", "model-*.safetensors", "model.safetensors.index.json",
    "concepts.json", _TEMPORARY, *TOKENIZER_FILES,
)  # fmt: skip
_MADE = (*_ENCODER, FACTS_FILE, METRICS_FILE, CURVE_FILE, *(f"{CONCEPT_FOLDER}/{name}" for name in _ENCODER))
_KEPT = (
    RUN_FILE, LOCK_FILE, STATE_FILE, METRICS_FILE, "texts.npy", "texts.json", "concepts.npy", "concepts.json",
    ".*.tmp", *(f"{folder}/{name}" for folder in (RESULT, FINISHED, PLACING, REPLACED) for name in _MADE),
)  # fmt: skip
_TRAINING = tuple(f"{TRAINING_FOLDER}/{name}" for name in _KEPT)

RUN: Final = Kind(
    "a pre-training run", f"{TRAINING_FOLDER}/{RUN_FILE}", read_begun, _TRAINING, PretrainingError, PretrainingError
)
MODEL: Final = Kind(
    "a finished model", FACTS_FILE, read_model, (*_MADE, *_TRAINING), PretrainingError, PretrainingError
)
# a run with a model beside it: the former one, or its own while the files take their places
RUN_AND_MODEL: Final = Kind(RUN.name, RUN.marker, read_begun, (FACTS_FILE, *MODEL.files), RUN.error, RUN.locked)


def finish(work: Path) -> None:
    """Says that what lies in `result` is whole."""
    sync_tree(work / RESULT)
    (work / RESULT).rename(work / FINISHED)
    sync_folder(work)


def place(directory: Path, work: Path) -> None:
    """Puts the finished model of a run in its place; called again, it goes on where it was interrupted.

    Args:
        directory: of the model.
        work: the run's folder in it.

    Raises:
        PretrainingError: something lies there that this program did not write. The model stays in the run's folder,
            and the next call goes on.
    """
    if (work / FINISHED).is_dir():
        _move_away(directory, work)
        (work / FINISHED).rename(work / PLACING)
    placing = work / PLACING
    for path in sorted(placing.iterdir(), key=lambda path: path.name == FACTS_FILE):
        there = directory / path.name
        if path.name == CARD and there.exists():
            continue  # somebody's own card: it came, or was changed, while the model was trained
        if there.is_symlink() or there.exists():
            raise PretrainingError(
                f"{there} is in the way of the finished model and not of nuner-embed; move it away and run the same "
                "command again"
            )
        path.rename(there)
    sync_folder(directory)


def _move_away(directory: Path, work: Path) -> None:
    """Moves the former model's files into the run's folder; what is not of it stays, somebody's own card too."""
    replaced = work / REPLACED
    replaced.mkdir(exist_ok=True)
    if (directory / FACTS_FILE).exists():
        (directory / FACTS_FILE).rename(replaced / FACTS_FILE)  # readers learn at once that the model is not whole
    if not (replaced / FACTS_FILE).exists():
        return  # there was no model before
    strangers = MODEL.strangers(directory)
    stay = [work, *(directory / name for name in strangers), *changed_cards(directory, replaced)]
    for path in sorted(directory.iterdir()):
        inner = next((one for one in stay if one != path and one.is_relative_to(path)), None)
        if inner is not None:
            raise PretrainingError(
                f"{inner} is in the way of the finished model and not of nuner-embed; move it away and run the same "
                "command again"
            )
        if path not in stay:
            path.rename(replaced / path.name)


def require_free(directory: Path, *, force: bool) -> None:
    """Checks that a run may take place in a directory: it is new or empty, holds a run, or its model may be replaced.

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
def held(directory: Path, processes: "Processes", *, force: bool) -> Iterator[Path]:
    """The working folder of a run, for this run alone; it goes when the block ends without an error.

    Where an earlier process died while a finished model took its place, that is done first: see `is_placed`.

    Args:
        directory: of the run.
        processes: of the run; the main one holds the folder for all.
        force: empty it first.

    Raises:
        PretrainingError: another process trains there, or see `require_free`.
    """
    work = directory / TRAINING_FOLDER
    if not processes.is_main:
        processes.wait()
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
        processes.wait()
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
