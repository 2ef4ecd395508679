"""The directory of a run: its owner, the run that was begun in it, and the steps by which a model is published.

training/run.json   marks a run; the folder `training` is removed when the model is published
training/result/    the model while it is written
training/finished/  the complete model, synced to the disk; from now on it will be published, also after a crash
training/replaced/  receives the files of the former model, its facts first
training/placing/   the complete model while its files move to the directory, the facts last
pretrain.json       the facts of the published model, beside its files

An interrupted publication is completed at the next start.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nuner_embed.artifacts import Kind, is_free, is_only_begun, lock, require_ours
from nuner_embed.errors import PretrainingError
from nuner_embed.files import hash_of, sync_folder, sync_tree, write_json
from nuner_embed.models.directories import CONCEPT_FOLDER, DETECTOR_FOLDER, HEAD_FOLDER, SPAN_FOLDER, TOKENIZER_FILES
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
FEATURES: Final = "features"  # embedded words
LOCK_FILE: Final = ".lock"
# folders in the run's: see `placing`
RESULT: Final = "result"
FINISHED: Final = "finished"
REPLACED: Final = "replaced"
PLACING: Final = "placing"

_TEMPORARY = ".*." + "[0-9a-f]" * 16 + ".tmp"
_UNFINISHED_WEIGHTS = ".tmp" + "[0-9A-Za-z]" * 6  # safetensors 0.8 writes such a file, and renames it
_ENCODER = (
    "config.json", "recipe.json", CARD, "model.safetensors", "model-*.safetensors", "model.safetensors.index.json",
    "concepts.json", _TEMPORARY, *TOKENIZER_FILES,
)  # fmt: skip
_HEAD = ("probe.json", "weights-*.safetensors")
_HEADS = (HEAD_FOLDER, SPAN_FOLDER, DETECTOR_FOLDER)
_MADE = (
    *_ENCODER, FACTS_FILE, METRICS_FILE, CURVE_FILE, *(f"{CONCEPT_FOLDER}/{name}" for name in _ENCODER),
    *(f"{folder}/{name}" for folder in _HEADS for name in _HEAD),
)  # fmt: skip
_KEPT = (
    RUN_FILE, LOCK_FILE, STATE_FILE, METRICS_FILE, "texts.npy", "texts.json", "concepts.npy", "concepts.json",
    "teacher.npy", "teacher.json", ".*.tmp",
    *(f"{folder}/{name}" for folder in (RESULT, FINISHED, PLACING, REPLACED) for name in _MADE),
    f"{RESULT}/{_UNFINISHED_WEIGHTS}", f"{RESULT}/{CONCEPT_FOLDER}/{_UNFINISHED_WEIGHTS}",
    *(f"{RESULT}/.{folder}.lock" for folder in _HEADS), f"{FEATURES}/*",
    *(f"{RESULT}/.{folder}.*.new/{name}" for folder in _HEADS for name in (*_HEAD, _TEMPORARY)),
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
    """Marks the model in `result` as complete."""
    sync_tree(work / RESULT)
    (work / RESULT).rename(work / FINISHED)
    sync_folder(work)


def place(directory: Path, work: Path) -> None:
    """Publishes the finished model of a run; a second call continues an interrupted one.

    Args:
        directory: of the model.
        work: the run's folder in it.

    Raises:
        PretrainingError: a file that this program did not write is in the way. The model stays in the run's folder,
            and the next call continues.
    """
    if (work / FINISHED).is_dir():
        _move_away(directory, work)
        (work / FINISHED).rename(work / PLACING)
    placing = work / PLACING
    for path in sorted(placing.iterdir(), key=lambda path: path.name == FACTS_FILE):
        there = directory / path.name
        if path.name == CARD and there.exists():
            continue  # a card that the user added or changed while the model was trained
        if there.is_symlink() or there.exists():
            raise PretrainingError(
                f"{there} is in the place of the finished model and was not written by nuner-embed; move it away and "
                "run the same command again"
            )
        path.rename(there)
    sync_folder(directory)


def _move_away(directory: Path, work: Path) -> None:
    """Moves the files of the former model into the run's folder; all other files and changed cards stay."""
    replaced = work / REPLACED
    replaced.mkdir(exist_ok=True)
    if (directory / FACTS_FILE).exists():
        (directory / FACTS_FILE).rename(replaced / FACTS_FILE)  # from now on, readers see that the model is incomplete
    if not (replaced / FACTS_FILE).exists():
        return  # there was no model before
    strangers = MODEL.strangers(directory)
    stay = [work, *(directory / name for name in strangers), *changed_cards(directory, replaced)]
    for path in sorted(directory.iterdir()):
        inner = next((one for one in stay if one != path and one.is_relative_to(path)), None)
        if inner is not None:
            raise PretrainingError(
                f"{inner} is in the place of the finished model and was not written by nuner-embed; move it away and "
                "run the same command again"
            )
        if path not in stay:
            path.rename(replaced / path.name)


def require_free(directory: Path, *, force: bool) -> None:
    """Checks that a run may use a directory: it is new or empty, or holds a run or a model that may be replaced.

    Raises:
        PretrainingError: none of these is the case, or the directory holds files that this program did not write.
    """
    if is_free(directory) or is_only_begun(directory, RUN):
        return
    work = directory / TRAINING_FOLDER
    begun, finished = (work / RUN_FILE).exists(), (directory / FACTS_FILE).exists()
    if not begun:
        require_ours(directory, MODEL)
        if not force:
            _clear_up(work)
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
            f"{changed[0]} was changed after nuner-embed wrote it, and would be replaced; move it away, or name "
            "another directory"
        )


@contextmanager
def held(directory: Path, processes: "Processes", *, force: bool) -> Iterator[Path]:
    """Locks the working folder of a run; the folder is removed when the block ends without an error.

    If an earlier process died while it published a model, the publication is completed first: see `is_placed`.

    Args:
        directory: of the run.
        processes: of the run; the main process locks the folder for all.
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
        require_free(directory, force=force)  # another process may have been quicker
        if (work / FINISHED).is_dir() or (work / PLACING).is_dir():
            place(directory, work)
        if force:
            _empty(work)
        if not (work / RUN_FILE).exists():
            write_json(work / RUN_FILE, _mark(None))  # first of all, since it identifies the folder
        processes.wait()
        yield work
        if any(name.startswith(f"{TRAINING_FOLDER}/") for name in MODEL.strangers(directory)):
            (work / RUN_FILE).unlink()  # the user put files there during the run; they stay
            return
        _empty(work)
        (work / LOCK_FILE).unlink(missing_ok=True)
        work.rmdir()


def _clear_up(work: Path) -> None:
    """Removes what a process left that was killed while it removed its working folder; see `held`."""
    if not work.is_dir():
        return
    with suppress(PretrainingError, OSError), lock(work / LOCK_FILE, PretrainingError("busy"), PretrainingError):
        _empty(work)
        (work / LOCK_FILE).unlink(missing_ok=True)
        work.rmdir()


def is_placed(work: Path) -> bool:
    """Whether the model of a run is published, and only the run's folder is left to remove."""
    return (work / PLACING).is_dir() and (work.parent / FACTS_FILE).exists()


def _mark(begun: dict[str, Any] | None) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "kind": RUN_KIND, "begun": begun}


def _empty(work: Path) -> None:
    """Removes everything of a run except its lock, the mark first; the model then identifies the directory."""
    (work / RUN_FILE).unlink(missing_ok=True)
    for path in work.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK_FILE:
            path.unlink()


def same_run(work: Path, made: dict[str, Any], *, write: bool) -> str:
    """The fingerprint of a run, after a check that no other run was begun in the folder.

    Args:
        work: the folder.
        made: the inputs of the run, including "settings".
        write: record the inputs in the folder.

    Raises:
        PretrainingError: another run was begun there; the message says what differs.
    """
    begun = None
    # without a state nothing is learnt yet, and there is nothing to protect
    if (work / STATE_FILE).exists() or is_placed(work):
        begun = read_begun(work.parent)
    if begun is not None and begun != made:
        there, here = {**begun, **begun["settings"]}, {**made, **made["settings"]}
        names = [name for name in {**here, **there} if name != "settings" and here.get(name) != there.get(name)]
        shown = ", ".join(
            name if isinstance(here.get(name), dict) else f"{name} ({there.get(name)} there, {here.get(name)} here)"
            for name in names
        )
        raise PretrainingError(f"the run in {work.parent} was begun with another {shown}; --force starts over")
    if write and begun is None:
        write_json(work / RUN_FILE, _mark(made))
    return hash_of(made)
