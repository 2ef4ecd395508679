"""How a finished model takes the place of the one before: what is interrupted is brought to its end on the next start.

training/result/    is being written
training/finished/  is whole and on the disk; whatever happens now, this model will stand in the directory
training/replaced/  the former model's files go there, its facts first
training/placing/   the former ones are away; the new ones leave this folder, the facts last
"""

from pathlib import Path

from nuner_embed.errors import PretrainingError
from nuner_embed.files import sync_folder, sync_tree
from nuner_embed.pretraining.cards import changed_cards
from nuner_embed.pretraining.facts import CARD, FACTS_FILE
from nuner_embed.pretraining.run_files import FINISHED, MODEL, PLACING, REPLACED, RESULT


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
