"""Options that several commands share."""

import json

import pytest
from command import run

RECORD = {"tokens": ["Mara", "sails", "to", "Kiel"], "ner_tags": [1, 0, 0, 3]}
NAMES = ["O", "B-person", "I-person", "B-harbour"]


@pytest.fixture
def numbered(tmp_path):
    (tmp_path / "c.jsonl").write_text(json.dumps(RECORD))
    (tmp_path / "names").write_text("\n".join(NAMES) + "\n")
    return tmp_path


@pytest.mark.parametrize("names", [",".join(NAMES), "O, B-person,I-person , B-harbour", "names"])
def test_names_of_tags_that_are_numbers(numbered, names):
    said = run("probe", "train", "c.jsonl", "-o", "p", "--k", 2, "--tag-names", names, cwd=numbered, check=1)
    assert "harbour has 1 of 2, person has 1 of 2" in said.stderr


def test_numbers_without_names_are_refused_in_one_line(numbered):
    for command in (
        ["probe", "train", "c.jsonl", "-o", "p"],
        ["concepts", "map", "nuner-mini", "c.jsonl", "-o", "map.html"],
        ["evaluate", "fewshot", "--set", "sea", "c.jsonl", "c.jsonl", "--model", "nuner-mini", "-o", "scores"],
    ):
        said = run(*command, cwd=numbered, check=1)
        assert said.stderr.startswith('Error: c.jsonl:1: "ner_tags" holds numbers such as 1'), said.stderr
        assert said.stderr.count("\n") == 1
        assert "--tag-names O,B-person,I-person" in said.stderr


@pytest.mark.parametrize("names", ["O,O", "O,,B-x", "", "empty"])
def test_tag_names_that_are_none(numbered, names):
    (numbered / "empty").write_text("\n")
    said = run("probe", "train", "c.jsonl", "-o", "p", "--tag-names", names, cwd=numbered, check=2)
    assert "is neither a list of different names" in said.stderr
