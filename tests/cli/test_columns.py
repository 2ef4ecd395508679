"""Which fields of a file hold words and tags, said on the command line."""

import json

import pyarrow.parquet as pq
import pytest
from command import run
from fakes import tiny_model

GOLD_AND_GUESS = "the\tO\tO\nferry\tB-boat\tO\nleft\tO\tO\nKiel\tB-city\tB-boat\n\nOslo\tB-city\tO\nsleeps\tO\tO\n"
NAMED = "word\tgold\tguess\n" + GOLD_AND_GUESS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("columns")
    tiny_model("bert", folder / "m")
    (folder / "two.conll").write_text(GOLD_AND_GUESS)
    (folder / "named.tsv").write_text(NAMED)
    return folder


def labels(store):
    rows = pq.read_table(store / "shard-00000.parquet", columns=["text", "label"]).to_pylist()
    return [(row["text"], row["label"]) for row in rows]


def test_what_is_not_certain_ends_with_one_line(folder):
    done = run("encode", "two.conll", "-o", "none", "--model", "m", "--rows", "mention", cwd=folder, check=1)
    (line,) = done.stderr.splitlines()
    assert line == (
        "Error: two.conll: fields 2, 3 hold tags; found 3 tab-separated fields such as ['the', 'O', 'O']; use "
        "--word-column and --tag-column, each the number of a field or its name in the first line (--tag-column none: "
        "words without tags)"
    )
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("two.conll", ["--tag-column", 2], [("ferry", "boat"), ("Kiel", "city"), ("Oslo", "city")]),
        ("two.conll", ["--word-column", 1, "--tag-column", 3], [("Kiel", "boat")]),
        ("named.tsv", ["--tag-column", "gold"], [("ferry", "boat"), ("Kiel", "city"), ("Oslo", "city")]),
        ("named.tsv", ["--tag-column", "Guess", "--word-column", "word"], [("Kiel", "boat")]),
    ],
)
def test_fields_by_number_and_by_name(folder, tmp_path, name, options, expected):
    store = tmp_path / "store"
    run("encode", name, "-o", store, "--model", "m", "--rows", "mention", *options, cwd=folder, check=0)
    assert labels(store) == expected


def test_words_alone(folder, tmp_path):
    run("encode", "two.conll", "-o", tmp_path / "s", "--model", "m", "--tag-column", "none", cwd=folder, check=0)
    words = ["the", "ferry", "left", "Kiel", "Oslo", "sleeps"]
    assert labels(tmp_path / "s") == [(word, None) for word in words]


def test_words_without_a_blank_between_them_are_encoded_one_by_one(folder, tmp_path):
    rows = [f"{i}\t{word}" + "\t_" * 7 for i, word in enumerate(["the", "ferry", "left", "."], start=1)]
    glue = ["_", "_", "SpaceAfter=No", "_"]
    (tmp_path / "c.conllu").write_text("\n".join(f"{row}\t{misc}" for row, misc in zip(rows, glue, strict=True)))
    run("encode", "c.conllu", "-o", "s", "--model", folder / "m", cwd=tmp_path, check=0)
    table = pq.read_table(tmp_path / "s" / "shard-00000.parquet").to_pylist()
    assert [(row["text"], row["start"], row["end"]) for row in table] == [
        ("the", 0, 3), ("ferry", 4, 9), ("left", 10, 14), (".", 14, 15),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def made(folder):
    """A probe and an index to use the corpus with."""
    gold = [line.rpartition("\t")[0] for line in GOLD_AND_GUESS.splitlines()]
    (folder / "plain.conll").write_text("\n".join(gold))
    run("probe", "train", "plain.conll", "-o", "p", "--model", "m", cwd=folder, check=0)
    run("encode", "plain.conll", "-o", "store", "--model", "m", "--rows", "mention", cwd=folder, check=0)
    run("index", "build", "store", "-o", "index", cwd=folder, check=0)
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "encode two.conll -o s --model m", "probe train two.conll -o q --model m", "probe predict p two.conll",
        "probe evaluate p two.conll", "evaluate fewshot --set a two.conll two.conll --model m -o r",
        "concepts calibrate m two.conll", "concepts map m two.conll -o c.html", "pretrain two.conll -o b --base m",
        "pretrain plain.conll -o b --base m --probe-set a two.conll two.conll", "search index --like two.conll",
        "annotate two.conll -o a.jsonl --llm x --dry-run", "finetune two.conll -o f --base m",
    ],
)  # fmt: skip
def test_every_command_that_reads_a_corpus_takes_the_fields(made, command):
    others = ["--text-column", "text", "--id-column", "id", "--max-line-mib", 2]
    done = run(*command.split(), "--tag-column", 9, "--format", "conll", *others, cwd=made, check=1)
    assert done.stderr.splitlines()[-1].startswith("Error: two.conll: --tag-column 9: there are fields 1 to 3; found 3")


def test_fields_of_a_corpus_that_is_not_read(made):
    done = run("search", "index", "the [[ferry]]", "--tag-column", 2, cwd=made, check=2)
    assert "--tag-column goes with --like FILE" in done.stderr
    done = run("probe", "train", "--concepts", "boat", "-o", "q", "--tag-column", 2, cwd=made, check=2)
    assert "--tag-column goes with DATA" in done.stderr
    (made / "replies.jsonl").write_text(json.dumps({"text": "a b", "reply": "a <> x"}))
    done = run("annotate", "replies.jsonl", "-o", "a.jsonl", "--word-column", "x", cwd=made, check=2)
    assert "--word-column goes with --llm" in done.stderr
    done = run("encode", "two.conll", "-o", "x", "--tag-column", "", cwd=made, check=2)
    assert "give the number or the name of a field" in done.stderr
