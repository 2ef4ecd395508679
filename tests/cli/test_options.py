"""Options that several commands share."""

import json

import click
import pytest
from command import run

from nuner_embed.cli.options import Within

RECORD = {"tokens": ["Mara", "sails", "to", "Kiel"], "ner_tags": [1, 0, 0, 3]}
NAMES = ["O", "B-person", "I-person", "B-harbour"]


def test_a_number_within_a_range():
    kind = Within(0, 1, min_open=True, max_open=True)
    assert kind.convert("0.25", None, None) == 0.25
    for text in ("nan", "NaN", "0", "1", "-inf", "much"):
        with pytest.raises(click.BadParameter):
            kind.convert(text, None, None)


@pytest.fixture
def numbered(tmp_path):
    (tmp_path / "c.jsonl").write_text(json.dumps(RECORD))
    (tmp_path / "names").write_text("\n".join(NAMES) + "\n")
    return tmp_path


LONGER_THAN_A_FILE_NAME = ",".join([*NAMES, *(f"B-kind {number}" for number in range(100))])


@pytest.mark.parametrize(
    "names", [",".join(NAMES), "O, B-person,I-person , B-harbour", "names", LONGER_THAN_A_FILE_NAME]
)
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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--types", r"food\, drink"], "food, drink has 1 of 2;"),
        (["--types", r"food\, drink,city"], "city has 1 of 2, food, drink has 1 of 2;"),
        (["--types", r"food\, drink", "--types", "city"], "city has 1 of 2, food, drink has 1 of 2;"),
        (["--types", "city, boat", "--types", "food"], r"no mention of food; its types are boat, city, food, drink (a"),
        (["--types", "food, drink"], r"(a comma within a name is written \,: --types 'food\, drink')"),
    ],
)
def test_types_with_commas_in_their_names(tmp_path, options, said):
    spans = [[0, 3, "food, drink"], [8, 12, "city"], [17, 22, "boat"]]
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "Tea for Kiel, by ferry", "spans": spans}))
    done = run("probe", "train", "c.jsonl", "-o", "p", "--k", 2, *options, cwd=tmp_path, check=1)
    assert said in done.stderr


@pytest.mark.parametrize("options", [["--types", "a,a"], ["--types", "a", "--types", "b,a"], ["--types", ""]])
def test_a_type_that_is_named_twice_or_not_at_all(numbered, options):
    done = run("probe", "train", "c.jsonl", "-o", "p", *options, cwd=numbered, check=2)
    assert "is not a list of different names such as city,river" in done.stderr
    done = run("probe", "train", "-o", "p", *[{"--types": "--concepts"}.get(one, one) for one in options], check=2)
    assert "is not a list of different names such as city,river" in done.stderr
