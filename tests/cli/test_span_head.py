"""`nuner-embed pretrain --objective spans`, and what `tag` does with the span head that it makes."""

import contextlib
import json
import subprocess
import sys

import pytest
from command import run

import nuner_embed
from nuner_embed.bundled import SENTENCES
from nuner_embed.heads.spans import SpanHead, load_span_head
from nuner_embed.models.resolver import locate
from nuner_embed.pretraining.facts import read_model

TRAIN = ("--objective", "spans", "--epochs", "2", "--batch-size", "16", "--threads", "1")
COMMAND = ("pretrain", "c.jsonl", *TRAIN)
SOME = 60
TEXT = "Ines Varga flew from Lisbon to Oslo."


@pytest.fixture(scope="module")
def place(default_model, tmp_path_factory):
    """Some of our sentences, a thesaurus, the model `made` of both; and `m`, nuner-mini exported."""
    folder = tmp_path_factory.mktemp("spans")
    (folder / "m").symlink_to(default_model)
    (folder / "c.jsonl").write_text("".join(SENTENCES.read_text().splitlines(keepends=True)[:SOME]))
    (folder / "t.tsv").write_text("city\ttown|municipality|burg\tpopulated place|location\nperson\t-\t-\n\n")
    run(*COMMAND, "-o", "made", "--thesaurus", "t.tsv", cwd=folder, check=0)
    return folder


def test_the_model_has_a_span_head_and_all_that_its_base_has(place):
    facts = read_model(place / "made")
    assert (facts.settings["objective"], facts.data.kind, facts.data.labels > 20) == ("spans", "concepts", True)
    assert facts.thesaurus is not None
    assert facts.validation_top1 is not None
    head = load_span_head(str(place / "made"))
    assert isinstance(head, SpanHead)
    assert head.types == ()
    for name in ("model.safetensors", "concept_encoder/concepts.json", "detector/probe.json"):
        assert (place / "made" / name).read_bytes() == (locate("nuner-mini").directory / name).read_bytes()
    (document,) = nuner_embed.extract(TEXT, ["city", "person"], model=str(place / "made"), threshold=0.001)
    assert {s.label for s in document.spans} <= {"city", "person"}


def test_tag_takes_the_span_head_unless_asked_otherwise(place):
    (place / "notes.txt").write_text(f"{TEXT}\n")

    def found(*arguments):
        command = ["tag", "notes.txt", "--types", "city,person", "--model", "m", *arguments]
        lines = run(*command, cwd=place, check=0).stdout.splitlines()
        return [(s["text"], s["label"], round(s["score"], 3)) for line in lines for s in json.loads(line)["spans"]]

    ways = {way: found("--decode", way) for way in ("auto", "spans", "words")}
    ways["detector"] = found("--detector", "m/detector")
    assert ways["auto"] == ways["spans"]
    assert len({str(way) for way in ways.values()}) == 3
    for way in ways.values():
        assert {(text, label) for text, label, _ in way} >= {("Lisbon", "city"), ("Oslo", "city")}
    flat, nested = found("--threshold", "0.001"), found("--threshold", "0.001", "--nested")
    assert len(nested) > len(flat)
    run(
        "probe",
        "train",
        "--concepts",
        "city,person",
        "-o",
        "p",
        "--decode",
        "spans",
        "--model",
        "m",
        cwd=place,
        check=0,
    )
    done = run("probe", "predict", "p", "notes.txt", "--json", cwd=place, check=0)
    spans = json.loads(done.stdout.splitlines()[0])["spans"]
    assert [(s["text"], s["label"], round(s["score"], 3)) for s in spans] == ways["spans"]
    assert all(set(s["scores"]) == {"city", "person"} for s in spans)


@pytest.mark.slow
def test_killed_it_goes_on_and_ends_alike(place, tmp_path):
    for name in ("c.jsonl", "t.tsv"):
        (tmp_path / name).symlink_to(place / name)
    command = [*COMMAND, "-o", "again", "--thesaurus", "t.tsv"]
    for seconds in (4, 7, 9):
        with contextlib.suppress(subprocess.TimeoutExpired):  # the end of the time kills the process
            subprocess.run(
                [sys.executable, "-m", "nuner_embed.cli", *command], cwd=tmp_path, capture_output=True, timeout=seconds
            )
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0 or "holds a finished model" in done.stderr
    heads = [next((folder / "span_head").glob("weights-*")) for folder in (place / "made", tmp_path / "again")]
    assert heads[0].read_bytes() == heads[1].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base", "minilm-l6"], "has no concept encoder"),
        (["--thesaurus", "bad.tsv"], "bad.tsv, line 2: expected concept, synonyms and broader types"),
        (["--thesaurus", "none.tsv"], "none.tsv: the thesaurus cannot be read"),
        (["--probe-set", "sea", "c.jsonl", "c.jsonl"], "a probe set measures a text encoder"),
        (["--objective", "contrastive", "--thesaurus", "t.tsv"], "a thesaurus goes with"),
    ],
)
def test_what_cannot_be_is_one_line(place, arguments, message):
    (place / "bad.tsv").write_text("city\ttown\t-\ncity town\n")
    done = run("pretrain", "c.jsonl", "-o", "refused", *TRAIN, *arguments, cwd=place)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "refused" / "pretrain.json").exists()


def test_nested_mentions_take_a_span_head(place):
    (place / "notes.txt").write_text(f"{TEXT}\n")
    command = ["tag", "notes.txt", "--types", "city", "--model", "m", "--nested"]
    for arguments, code, message in (
        (["--decode", "words"], 1, "nested mentions take a span head"),
        (["--detector", "m/detector"], 2, "--detector does not go with --nested"),
    ):
        done = run(*command, *arguments, cwd=place)
        assert (done.returncode, message in done.stderr) == (code, True), done.stderr
