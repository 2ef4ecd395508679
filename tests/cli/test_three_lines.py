"""The three lines that commands end with: what was read, what was made and where, what to do next."""

import json
import logging
import re

import pytest
from command import run

_SEARCH = 'nuner-embed search i "... [[mention]] ..."'
_REPLIES = {
    "text": "The ferry left Kiel.",
    "reply": "ferry <> boat\nKiel <> city",
}
# What each command says of what it read and made, and what one may do next; in the order in which they run.
COMMANDS = {
    "annotate replies.jsonl -o a.jsonl": (
        "replies.jsonl, 1 reply",
        "a.jsonl, 1 sentence with 2 annotations",
        "nuner-embed pretrain a.jsonl -o checkpoint",
    ),
    "encode a.jsonl -o s --model m --rows mention": (
        r"1 document, \d+ tokens in 1 window, .*",
        "s, 2 rows in 1 shard, .*",
        "nuner-embed index build s -o index",
    ),
    "encode a.jsonl -o s.parquet --model m": (
        r"1 document, \d+ tokens in 1 window, .*",
        "s.parquet, 5 rows, .*",
        r"any reader of Parquet, such as pandas.read_parquet\('s.parquet'\)",
    ),
    "index build s -o i": ("s", "i, 2 rows", re.escape(_SEARCH)),
    "index add i s --again": ("s, 2 rows", "i, 4 rows in 2 segments", re.escape(_SEARCH)),
    "index remove i --filter text='Kiel'": (
        "i, 4 rows",
        "i, 2 rows removed, 2 left",
        "nuner-embed index compact i, which frees the space of the removed rows",
    ),
    "index compact i": ("i, 2 rows in 2 segments", "i, 2 rows in 1 segment", re.escape(_SEARCH)),
    "index verify i": (
        "i, 2 rows in 1 segment",
        "nothing; the files are intact, and searches find what they should",
        re.escape(_SEARCH),
    ),
    "search i ferry -k 1": ("i, 2 rows; 1 query", "standard output, 1 hit", ".*-o FILE saves the hits"),
    "search i --queries q.txt -o h.parquet": ("i, 2 rows; 2 queries", "h.parquet, 4 hits", "any reader of Parquet, .*"),
    "search i --concept boat": ("i, 2 rows; 1 query", "standard output, 2 hits", ".*-o FILE saves the hits"),
    "tag q.txt --types boat --model m": ("q.txt, 2 documents", r"standard output, \d mentions?", "-o spans.jsonl, .*"),
    "probe train a.jsonl -o p --model m": (
        "a.jsonl, 1 sentence",
        "p, a probe for 2 types",
        "nuner-embed probe predict p CORPUS",
    ),
    "probe predict p q.txt -o f.conll": (
        "q.txt, 2 documents",
        r"f.conll, \d mentions?",
        "nuner-embed encode f.conll -o store --rows mention",
    ),
    "probe evaluate p a.jsonl": (
        "a.jsonl, 1 sentence",
        "scores of 2 types, on standard output",
        "nuner-embed probe predict p CORPUS",
    ),
    "verify m": (
        r"m, [\d,]+ tokens",
        r"m/verify.json, [1-9]\d* of [1-9]\d* ways to run it passed",
        "nuner-embed encode CORPUS -o STORE --model m",
    ),
}


@pytest.fixture(scope="module")
def folder(small_model, tmp_path_factory):
    """A model and something to read."""
    folder = tmp_path_factory.mktemp("three")
    (folder / "m").symlink_to(small_model)
    (folder / "replies.jsonl").write_text(json.dumps(_REPLIES) + "\n")
    (folder / "q.txt").write_text("The [[ferry]] left.\nA ferry to Kiel\n")
    return folder


@pytest.fixture(scope="module")
def said(folder):
    """What every command said on standard error."""
    return {line: run(*line.split(), cwd=folder, check=0).stderr.splitlines() for line in COMMANDS}


@pytest.mark.parametrize("line", COMMANDS)
def test_what_was_read_and_made_and_what_to_do_next(said, line):
    ends = [text for text in said[line] if text.startswith(("read: ", "made: ", "next: "))]
    assert [text[:6] for text in ends] == ["read: ", "made: ", "next: "]
    for text, expected in zip(ends, COMMANDS[line], strict=True):
        assert re.fullmatch(expected, text[6:]), text


@pytest.mark.parametrize("line", ["search i ferry", "probe evaluate p a.jsonl", "index verify i"])
def test_quiet_commands_say_none_of_them(said, folder, line):
    assert said  # so that what is read is there
    assert logging.getLogger("nuner_embed").level != logging.WARNING
    assert run("-q", *line.split(), cwd=folder, check=0).stderr == ""
