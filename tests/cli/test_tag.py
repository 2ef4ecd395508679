"""`nuner-embed tag` and `nuner_embed.extract`: texts and the names of types in, spans out."""

import csv
import json

import pytest
from command import run

import nuner_embed
from nuner_embed import Corpus, Document, Span

NOTES = """\
Ines Varga flew from Lisbon to Oslo.
Thank you, said Mara Quill.
"""
FOUND = [
    [("Ines Varga", "person"), ("Lisbon", "city"), ("Oslo", "city")],
    [("Mara Quill", "person")],
]


def named(documents):
    return [[(document.text[s.start : s.end], s.label) for s in document.spans] for document in documents]


@pytest.fixture
def folder(default_model, tmp_path):
    (tmp_path / "m").symlink_to(default_model)
    (tmp_path / "notes.txt").write_text(NOTES)
    return tmp_path


def test_spans_on_standard_output_and_in_files(folder):
    command = ["tag", "notes.txt", "--types", "city,person", "--model", "m"]
    done = run(*command, cwd=folder, check=0)
    assert "read: notes.txt, 2 documents\nmade: standard output, 4 mentions\nnext: " in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [[(span["text"], span["label"]) for span in line["spans"]] for line in lines] == FOUND
    assert all(0.1 <= span["score"] < 1 for line in lines for span in line["spans"])

    run(*command, "-o", "spans.csv", cwd=folder, check=0)
    with (folder / "spans.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["document_id", "start", "end", "text", "label", "score"]
    assert [(row["document_id"], row["start"], row["text"], row["label"]) for row in rows] == [
        ("notes.txt:1", "0", "Ines Varga", "person"),
        ("notes.txt:1", "21", "Lisbon", "city"),
        ("notes.txt:1", "31", "Oslo", "city"),
        ("notes.txt:2", "16", "Mara Quill", "person"),
    ]


@pytest.mark.slow
def test_other_ways_in_and_out(folder):
    command = ["tag", "notes.txt", "--types", "city,person", "--model", "m"]
    done = run(*command, cwd=folder, check=0)
    assert run(*command, "--json", cwd=folder, check=0).stdout == done.stdout
    assert run(*command[:1], "-", *command[2:], cwd=folder, stdin=NOTES, check=0).stdout == done.stdout.replace(
        "notes.txt:", "-:"
    )

    done = run(*command, "-o", "spans.jsonl", cwd=folder, check=0)
    assert not done.stdout
    assert "read: notes.txt, 2 documents\nmade: spans.jsonl, 4 mentions\nnext: " in done.stderr
    assert named(Corpus([folder / "spans.jsonl"])) == FOUND

    run(*command, "-o", "spans.conll", cwd=folder, check=0)
    assert (folder / "spans.conll").read_text().startswith("Ines\tB-person\nVarga\tI-person\nflew\tO\n")


@pytest.mark.slow
def test_labels_thresholds_and_names_that_are_not_asked_for(folder):
    renamed = run("tag", "notes.txt", "--types", "LOC=city", "--model", "m", cwd=folder, check=0).stdout
    labels = {(span["text"], span["label"]) for line in renamed.splitlines() for span in json.loads(line)["spans"]}
    assert labels == {("Lisbon", "LOC"), ("Oslo", "LOC")}
    strict = run("tag", "notes.txt", "--types", "city", "--threshold", "0.999", "--model", "m", cwd=folder, check=0)
    assert [json.loads(line)["spans"] for line in strict.stdout.splitlines()] == [[], []]


def test_extract(folder):
    texts = NOTES.splitlines()
    found = nuner_embed.extract(texts, ["city", "person"], model=str(folder / "m"))
    assert named(found) == FOUND
    assert [document.id for document in found] == ["0", "1"]
    tagger = nuner_embed.named_tagger(["city", "person"], model=str(folder / "m"))
    assert named(tagger.tag(texts)) == FOUND
    assert named(tagger.tag(texts[1])) == FOUND[1:]


@pytest.mark.slow
def test_what_extract_takes(folder):
    texts = NOTES.splitlines()
    assert named(nuner_embed.extract(texts[0], "city", model=str(folder / "m"))) == [
        [("Lisbon", "city"), ("Oslo", "city")]
    ]
    given = Document("mine", texts[0], spans=(Span(0, 4, "old"),))
    (one,) = nuner_embed.extract([given], {"LOC": "city"}, model=str(folder / "m"), threshold=0.2)
    assert (one.id, named([one])) == ("mine", [[("Lisbon", "LOC"), ("Oslo", "LOC")]])
    assert nuner_embed.extract([], ["city"], model=str(folder / "m")) == []
    assert named(nuner_embed.extract(["", " \n"], ["city"], model=str(folder / "m"))) == [[], []]


@pytest.mark.parametrize(
    ("types", "error", "said"),
    [
        ([], ValueError, "one or more different names"),
        (["city", "city"], ValueError, "one or more different names"),
        (["city", " "], ValueError, "one or more different names"),
        (["O"], nuner_embed.NunerEmbedError, 'a type cannot be called "O"'),
        (["ci\udc80ty"], ValueError, "a type's name is text, and 'ci\\\\udc80ty' holds a lone surrogate"),
        ({"ci\udc80ty": "city"}, ValueError, "holds a lone surrogate"),
        (["word " * 300], ValueError, "a concept is the name of an entity type"),
    ],
)
def test_names_that_are_none(default_model, types, error, said):
    with pytest.raises(error, match=said):
        nuner_embed.extract(["Oslo"], types, model=str(default_model))


def test_a_threshold_is_a_probability(default_model):
    with pytest.raises(ValueError, match="threshold must be between 0 and 1"):
        nuner_embed.extract(["Oslo"], ["city"], model=str(default_model), threshold=1.5)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["notes.txt"], 2, "Missing option '--types'"),
        (["notes.txt", "--types", "city,"], 2, "'city,' is not a list of different names"),
        (["notes.txt", "--types", "city", "-o", "spans.xml"], 2, "the name must end in one of .csv, .jsonl"),
        (["notes.txt", "--types", "city", "-o", "spans.csv", "--json"], 2, "leave it out for --json"),
        (["notes.txt", "--types", "ci\udc80ty"], 2, "holds a lone surrogate"),
        (["notes.txt", "--types", "city", "--threshold", "2"], 2, "Invalid value for '--threshold'"),
        (["notes.txt", "--types", "city", "--model", "nuner-mni"], 1, "did you mean nuner-mini?"),
        (["notes.txt", "--types", "city", "--model", "minilm-l6"], 1, "minilm-l6 has no mention detector"),
        (["gone.txt", "--types", "city"], 1, "gone.txt: no such file"),
        (["empty.txt", "--types", "city"], 1, "the corpus holds no documents"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(folder, arguments, code, said):
    (folder / "empty.txt").write_text("")
    done = run("tag", *arguments, cwd=folder, check=code)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not list(folder.glob("spans*"))
