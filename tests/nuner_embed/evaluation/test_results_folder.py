"""Whose an evaluation's directory is, and what becomes of parts that are damaged."""

import errno
import json
import os
import random
from pathlib import Path

import pytest

from nuner_embed import files
from nuner_embed.errors import ProbeError
from nuner_embed.evaluation.fewshot import Cell
from nuner_embed.evaluation.results_folder import opened, read_part, require_free, write_part

CELLS = [
    Cell("m", "s", k, [0.25, 0.5], 0.375, 0.17, [8, 9], 3, ["rare"], None, {"span_micro_f1": [0.5, 1.0]})
    for k in (1, 2)
]
KEY = "0123456789abcdef" * 4
RESULTS = {
    "metric": "token_macro_f1", "scheme": "", "k": [1, 2], "protocol": {}, "sets": [], "averaged": [],
    "cells": [cell.to_dict() for cell in CELLS], "differences": [],
}  # fmt: skip


def evaluate(directory: Path, results: dict = RESULTS) -> None:
    with opened(directory) as folder:
        write_part(folder.part(KEY), CELLS, 2)
        folder.write("results.json", json.dumps(results).encode())
        folder.write("table.md", b"a table")


def contents(folder: Path) -> dict[str, str | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


PROJECTS = {
    "results of somebody else": lambda p: (p / "results.json").write_text('{"mine": 1}'),
    "a table": lambda p: (p / "table.md").write_text("mine"),
    "a folder called parts": lambda p: [(p / "parts").mkdir(), (p / "parts" / "wheel.json").write_text("{}")],
    "a part that is none": lambda p: [(p / "parts").mkdir(), (p / "parts" / f"{KEY}.json").write_text("{}")],
    "a mark of somebody else": lambda p: [
        (p / "parts").mkdir(),
        (p / "parts" / "evaluation.json").write_text('{"schema_version": 1, "kind": "exam", "written": {}}'),
    ],
    "a mark of a later version": lambda p: [
        (p / "parts").mkdir(), (p / "parts" / "evaluation.json").write_text('{"schema_version": 2}'),
    ],
    "an evaluation and more": lambda p: [evaluate(p), (p / "notes.txt").write_text("mine")],
    "an evaluation with another table": lambda p: [evaluate(p), (p / "table.md").write_text("mine")],
    "an evaluation with a figure": lambda p: [evaluate(p), (p / "figure.png").write_text("mine")],
    "an evaluation with a link": lambda p: [
        evaluate(p), (p / "table.md").unlink(), (p / "table.md").symlink_to(p / "results.json"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("project", PROJECTS)
def test_what_is_not_ours_is_left_alone(tmp_path, project):
    (tmp_path / "out").mkdir()
    PROJECTS[project](tmp_path / "out")
    before = contents(tmp_path)
    with pytest.raises(ProbeError) as caught:
        evaluate(tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_an_evaluation_goes_on_whether_a_process_died_before_or_after_it_wrote(tmp_path, monkeypatch):
    evaluate(tmp_path / "out")
    replace, other = Path.replace, {**RESULTS, "k": [1]}

    def die(self, target):
        if target.name == "results.json":
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            evaluate(tmp_path / "out", other)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == RESULTS
    require_free(tmp_path / "out")
    (tmp_path / "out" / "results.json").write_text(json.dumps(other))  # as if it died a moment later
    evaluate(tmp_path / "out", other)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == other


def test_evaluations_of_an_earlier_version_are_ours(tmp_path):
    for name, results in (("finished", True), ("begun", False)):
        evaluate(tmp_path / name)
        (tmp_path / name / "parts" / "evaluation.json").unlink()
        if not results:
            (tmp_path / name / "results.json").unlink()
            (tmp_path / name / "table.md").unlink()
        evaluate(tmp_path / name)
    assert contents(tmp_path / "begun") == contents(tmp_path / "finished")


def test_one_at_a_time(tmp_path):
    with opened(tmp_path / "out"), pytest.raises(ProbeError, match="another process evaluates into"):
        evaluate(tmp_path / "out")


def test_a_full_disk_names_the_file_and_keeps_the_old_one(tmp_path, monkeypatch):
    evaluate(tmp_path / "out")
    before = contents(tmp_path / "out")

    def full(stream):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with opened(tmp_path / "out") as folder, pytest.raises(OSError, match="No space left on device") as caught:
        folder.write("results.json", b"{}")
    assert caught.value.filename
    assert contents(tmp_path / "out") == before


def test_any_byte_of_the_mark_and_of_a_part_may_be_another(tmp_path):
    """A part that is damaged is measured again, a mark that is is one line."""
    evaluate(tmp_path / "out")
    chance, part = random.Random(0), tmp_path / "out" / "parts" / f"{KEY}.json"
    for path in (part, part.with_name("evaluation.json"), tmp_path / "out" / "results.json"):
        whole = path.read_bytes()
        variants = [
            whole[:place]
            + (bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :] if number % 3 else b"")
            for number, place in enumerate(chance.randrange(len(whole)) for _ in range(300))
        ]
        values = json.loads(whole)
        for key in values:
            variants += [json.dumps({**values, key: other}).encode() for other in (None, -1, "x", [], {}, 1e300, 2**70)]
        for content in variants:
            path.write_bytes(content)
            assert read_part(part) in (None, (CELLS, 2))
            try:
                require_free(tmp_path / "out")
            except ProbeError as error:
                assert "\n" not in str(error)  # noqa: PT017
        for put in (os.mkfifo, os.mkdir, lambda where: where.symlink_to("/dev/zero")):
            path.unlink()
            put(path)
            assert path != part or read_part(part) is None
            with pytest.raises((ProbeError, OSError)) as caught:
                evaluate(tmp_path / "out")
            assert isinstance(caught.value, ProbeError) or caught.value.filename
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            path.write_bytes(whole)
