"""Whose a run's directory is, and how a finished model takes its place there."""

import json
import os
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from nuner_embed.errors import PretrainingError
from nuner_embed.pretraining import folder as module
from nuner_embed.pretraining.facts import concept_card, hashes_of_cards, text_card
from nuner_embed.pretraining.folder import finish, held, is_placed, place, require_free, same_run
from nuner_embed.pretraining.settings import PretrainSettings

ALONE = SimpleNamespace(is_main=True, wait=lambda: None)
MADE = {
    "base": "bert",
    "base_sha256": "a" * 64,
    "data": {
        "files": ["a.jsonl"], "sha256": "b" * 64, "texts": 60, "pieces": 60, "mentions": 80, "mentions_lost": 0,
        "labels": 2, "kind": "concepts", "held_out": 6,
    },
    "settings": PretrainSettings().to_dict(),
    "probe_set": None,
}  # fmt: skip
FACTS = {
    **MADE, "layers": 2, "frozen_layers": 1, "frozen_concept_layers": 1, "similarity": {"scale": 10.0, "bias": -2.0},
    "steps": 14, "validation_loss": 0.5, "validation_top1": 0.9, "probe_f1": None,
}  # fmt: skip


def write_model(folder: Path, name: str, *, cards: bool = True, concepts: bool = True) -> None:
    """What a run makes, in small; `name` tells one model from another."""
    facts = {**FACTS, "base": name}
    (folder / "concept_encoder").mkdir(parents=True) if concepts else folder.mkdir(parents=True)
    for file in ("config.json", "model.safetensors", "tokenizer.json", "metrics.csv"):
        (folder / file).write_text(name)
    (folder / "README.md").write_text(text_card(facts))
    if concepts:
        (folder / "concept_encoder" / "config.json").write_text(name)
        (folder / "concept_encoder" / "README.md").write_text(concept_card(facts))
    more = {"schema_version": 1, "cards": hashes_of_cards(folder)} if cards else {}
    (folder / "pretrain.json").write_text(json.dumps({**facts, **more}))


def train(directory: Path, name: str, *, force: bool = False, concepts: bool = True) -> None:
    """A run that does nothing but write its model."""
    with held(directory, ALONE, force=force) as work:
        same_run(work, {**MADE, "base": name, "processes": 1}, write=True)
        if not is_placed(work):
            shutil.rmtree(work / "result", ignore_errors=True)
            write_model(work / "result", name, concepts=concepts)
            finish(work)
            place(directory, work)


def tree(folder: Path) -> dict[str, str | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def plain_model(folder: Path, name: str, **options: bool) -> dict[str, str | None]:
    write_model(folder, name, **options)
    return tree(folder)


PROJECTS = {
    "a folder called training": lambda p: [(p / "training").mkdir(), (p / "training" / "data.csv").write_text("mine")],
    "an empty folder called training and more": lambda p: [(p / "training").mkdir(), (p / "x.py").write_text("mine")],
    "a mark of somebody else": lambda p: [
        (p / "training").mkdir(), (p / "training" / "run.json").write_text('{"schema_version": 1, "kind": "marathon"}'),
    ],
    "a mark without a kind": lambda p: [
        (p / "training").mkdir(), (p / "training" / "run.json").write_text('{"run": 1}'),
    ],
    "a lock that holds something": lambda p: [(p / "training").mkdir(), (p / "training" / ".lock").write_text("mine")],
    "facts of somebody else": lambda p: [(p / "pretrain.json").write_text('{"schema_version": 1, "mine": 2}')],
    "facts of a later version": lambda p: [(p / "pretrain.json").write_text('{"schema_version": 2}')],
    "a model and more": lambda p: [p.rmdir(), write_model(p, "old"), (p / "notes.txt").write_text("mine")],
    "a model and a folder called training": lambda p: [
        p.rmdir(), write_model(p, "old"), (p / "training").mkdir(), (p / "training" / "data.csv").write_text("mine"),
    ],
    "a model with another card": lambda p: [p.rmdir(), write_model(p, "old"), (p / "README.md").write_text("mine")],
    "a model with something in its concept encoder": lambda p: [
        p.rmdir(), write_model(p, "old"), (p / "concept_encoder" / "notes.txt").write_text("mine"),
    ],
    "a model with a detector of the user's": lambda p: [
        p.rmdir(), write_model(p, "old"), (p / "detector").mkdir(), (p / "detector" / "probe.json").write_text("{}"),
    ],
    "a link in the place of the training folder": lambda p: [
        (p.parent / "elsewhere").mkdir(), (p.parent / "elsewhere" / "x").write_text("mine"),
        (p / "training").symlink_to(p.parent / "elsewhere"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("project", PROJECTS)
@pytest.mark.parametrize("force", [False, True])
def test_what_is_not_ours_is_left_alone(tmp_path, project, force):
    (tmp_path / "project").mkdir()
    PROJECTS[project](tmp_path / "project")
    before = tree(tmp_path)
    with pytest.raises(PretrainingError) as caught:
        train(tmp_path / "project", "new", force=force)
    assert "\n" not in str(caught.value)
    assert tree(tmp_path) == before


def test_a_run_is_known_by_its_mark_from_its_first_moment(tmp_path):
    with held(tmp_path / "m", ALONE, force=False) as work:
        assert json.loads((work / "run.json").read_text()) == {
            "schema_version": 1, "kind": "pre-training run", "begun": None,
        }  # fmt: skip
        write_model(work / "result", "m")
        finish(work)
        place(tmp_path / "m", work)
    assert tree(tmp_path / "m") == plain_model(tmp_path / "plain", "m")


def test_an_empty_folder_and_one_with_a_lock_alone_are_taken(tmp_path):
    (tmp_path / "m" / "training").mkdir(parents=True)
    require_free(tmp_path / "m", force=False)
    (tmp_path / "m" / "training" / ".lock").touch()
    train(tmp_path / "m", "new")
    assert tree(tmp_path / "m") == plain_model(tmp_path / "plain", "new")


def test_replacing_leaves_nothing_of_the_old_model(tmp_path):
    train(tmp_path / "m", "old")
    with pytest.raises(PretrainingError, match="holds a finished model; name another directory, or replace it with"):
        train(tmp_path / "m", "new")
    train(tmp_path / "m", "new", force=True, concepts=False)
    assert tree(tmp_path / "m") == plain_model(tmp_path / "plain", "new", concepts=False)


def test_a_model_of_an_earlier_version_is_ours_if_its_cards_are(tmp_path):
    write_model(tmp_path / "m", "old", cards=False)
    train(tmp_path / "m", "new", force=True)
    write_model(tmp_path / "n", "old", cards=False)
    (tmp_path / "n" / "concept_encoder" / "README.md").write_text("mine")
    with pytest.raises(PretrainingError, match=r"concept_encoder/README.md was changed after nuner-embed wrote it"):
        train(tmp_path / "n", "new", force=True)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("steps", range(12))
def test_killed_while_the_model_takes_its_place(tmp_path, monkeypatch, before, steps):
    """Whichever rename is the last that happens: the next start brings it to its end, without training again."""
    if before:
        train(tmp_path / "m", "old")
    rename, done = Path.rename, []

    def kill(self, target):
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(target)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", kill)
        try:
            train(tmp_path / "m", "new", force=before, concepts=False)
        except KeyboardInterrupt:
            pass
        else:
            return  # there were no more renames
    if steps:  # else the model was not whole yet, and a real run trains the last steps again

        def trained_again(*_, **__):
            raise AssertionError

        monkeypatch.setattr(module, "finish", trained_again)
        monkeypatch.setitem(globals(), "finish", trained_again)
    train(tmp_path / "m", "new", concepts=False)
    assert tree(tmp_path / "m") == plain_model(tmp_path / "plain", "new", concepts=False)


def test_what_comes_while_a_run_goes_on_stays(tmp_path):
    with held(tmp_path / "m", ALONE, force=False) as work:
        same_run(work, {**MADE, "processes": 1}, write=True)
        write_model(work / "result", "new")
        finish(work)
        (tmp_path / "m" / "README.md").write_text("mine")
        (tmp_path / "m" / "config.json").write_text("mine")
        with pytest.raises(PretrainingError, match=r"m/config.json is in the place of the finished model"):
            place(tmp_path / "m", work)
        (tmp_path / "m" / "config.json").unlink()
        (tmp_path / "m" / "training" / "notes.txt").write_text("mine")
        (tmp_path / "m" / "notes.txt").write_text("mine")
        place(tmp_path / "m", work)
    left = tree(tmp_path / "m")
    assert [left[name] for name in ("README.md", "notes.txt", "training/notes.txt")] == ["mine"] * 3
    assert left["config.json"] == "new"
    with pytest.raises(PretrainingError, match=r"m holds notes.txt, which is not part of a finished model"):
        train(tmp_path / "m", "other", force=True)
    assert tree(tmp_path / "m") == left


def test_any_byte_of_the_marks_may_be_another(tmp_path):
    """Either what is there is known all the same, or one line says why not; nothing else is raised."""
    chance = random.Random(0)
    write_model(tmp_path / "m", "old")
    (tmp_path / "r" / "training").mkdir(parents=True)
    (tmp_path / "r" / "training" / "run.json").write_text(
        json.dumps({"schema_version": 1, "kind": "pre-training run", "begun": {**MADE, "processes": 1}})
    )
    for path in (tmp_path / "m" / "pretrain.json", tmp_path / "r" / "training" / "run.json"):
        whole = path.read_bytes()
        directory = path.parent if path.name == "pretrain.json" else path.parent.parent
        for number in range(300):
            place_ = chance.randrange(len(whole))
            path.write_bytes(
                whole[:place_]
                + (bytes([whole[place_] ^ 1 << chance.randrange(8)]) + whole[place_ + 1 :] if number % 3 else b"")
            )
            _refused_or_known(directory)
        values = json.loads(whole)
        for key in values:
            for other in (None, -1, 1e300, "x", [], {}, True, [[]]):
                path.write_text(json.dumps({**values, key: other}))
                _refused_or_known(directory)
        for replace_ in (os.mkfifo, os.mkdir, lambda where: where.symlink_to("/dev/zero")):
            path.unlink()
            replace_(path)
            with pytest.raises(PretrainingError):
                require_free(directory, force=True)
            path.rmdir() if path.is_dir() else path.unlink()
            path.write_bytes(whole)


def _refused_or_known(directory: Path) -> None:
    try:
        require_free(directory, force=True)
    except PretrainingError as error:
        assert "\n" not in str(error)  # noqa: PT017
