"""`nuner-embed probe` and `nuner-embed evaluate` as a user meets them."""

import json
import re

import numpy as np
import pytest
from command import run

from nuner_embed import Corpus, Document, Span
from nuner_embed.cli.tables import show_scores
from nuner_embed.cli.tagged import writer
from nuner_embed.errors import CorpusError
from nuner_embed.evaluation.metrics import Counts, Scores
from nuner_embed.heads.tagger import Tagger

TRAIN = """\
the\tO
ferry\tB-boat
left\tO
Kiel\tB-city
at\tO
seven\tO

a\tO
raft\tB-boat
in\tO
New\tB-city
York\tI-city

the\tO
canoe\tB-boat
from\tO
Oslo\tB-city
sank\tO

Oslo\tB-city
saw\tO
a\tO
yacht\tB-boat

"""
TEST = """\
a\tO
ferry\tB-boat
in\tO
Oslo\tB-city

the\tO
raft\tB-boat
left\tO
New\tB-city
York\tI-city

"""


@pytest.fixture(scope="module")
def folder(default_model, tmp_path_factory):
    """A model, two parts of a set, and a probe trained on the first."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "m").symlink_to(default_model)
    (folder / "train.conll").write_text(TRAIN)
    (folder / "test.conll").write_text(TEST)
    done = run("probe", "train", "train.conll", "-o", "p", "--model", "m", "--no-names", cwd=folder, check=0)
    assert "4 sentences, 20 words; gradient norm" in done.stderr
    assert done.stdout.split() == ["mentions", "in", "the", "support", "set:", "boat", "4", "city", "4"]
    return folder


def test_decoded_by_mentions_the_detector_draws_the_bounds(folder, tmp_path):
    command = ["probe", "train", "train.conll", "--model", "m", "--no-names"]
    done = run(*command, "-o", tmp_path / "s", "--decode", "auto", "--json", cwd=folder, check=0)
    assert re.search(
        r"detector finds \d+% of the mentions with the same bounds; its mentions are labelled", done.stderr
    )
    assert "without it, probe predict finds too much there" in done.stderr
    assert json.loads(done.stdout)["finder"]["kind"] == "probe"
    found = run("probe", "evaluate", tmp_path / "s", "test.conll", "--json", cwd=folder, check=0)
    assert json.loads(found.stdout)["span_micro_f1"] > 0.4
    assert json.loads(found.stdout)["scheme"] == "mentions are found first; each has one type or none"
    for arguments, message in (
        (
            ["train.conll", "--model", "minilm-l6"],
            "--decode auto needs a mention detector, and --decode words does not",
        ),
        (["--concepts", "city", "--k", "2"], "--k goes with DATA, not with --concepts"),
    ):
        refused = run("probe", "train", *arguments, "-o", tmp_path / "n", "--decode", "auto", cwd=folder)
        assert refused.returncode in (1, 2)
        assert message in refused.stderr
    assert not (tmp_path / "n").exists()


def test_mentions_that_the_detector_does_not_find_are_labelled_by_words(folder, tmp_path):
    (tmp_path / "odd.conll").write_text(
        "the\tO\nferry\tO\nleft\tB-verb\nKiel\tO\n\na\tO\nraft\tO\nsank\tB-verb\n\n" * 3
    )
    command = ["probe", "train", tmp_path / "odd.conll", "--model", "m", "--no-names", "--json"]
    done = run(*command, "-o", tmp_path / "w", "--decode", "auto", cwd=folder, check=0)
    assert "finds 0% of the mentions with the same bounds; words are labelled (spans from 60% on)" in done.stderr
    assert "finder" not in json.loads(done.stdout)
    done = run(*command, "-o", tmp_path / "s", "--decode", "spans", cwd=folder, check=0)
    assert "finds 0% of the mentions with the same bounds; its mentions are labelled" in done.stderr


def test_texts_come_out_as_jsonl_from_another_folder(folder, tmp_path):
    (tmp_path / "t.txt").write_text("the ferry left Kiel at seven\n😀 a raft in New York\n")
    done = run("probe", "predict", folder / "p", "t.txt", "-o", "found.jsonl", cwd=tmp_path, check=0)
    assert "read: t.txt, 2 documents\nmade: found.jsonl, " in done.stderr
    assert not done.stdout
    found = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [record["id"] for record in found] == ["t.txt:1", "t.txt:2"]
    named = [(r["text"][s["start"] : s["end"]], s["label"]) for r in found for s in r["spans"]]
    assert {("ferry", "boat"), ("Kiel", "city"), ("raft", "boat"), ("New York", "city")} <= set(named)
    assert all(0 < span["score"] <= 1 for record in found for span in record["spans"])
    assert [document.spans for document in Corpus([tmp_path / "found.jsonl"])]


def test_conll_comes_out_as_it_went_in(folder, tmp_path):
    run("probe", "predict", "p", "train.conll", "-o", tmp_path / "found.conll", cwd=folder, check=0)
    assert (tmp_path / "found.conll").read_text() == TRAIN


def places(document):
    return document.id, document.text, [(span.start, span.end, span.label) for span in document.spans]


@pytest.mark.parametrize("suffix", [".json", ".conllu"])
def test_what_every_format_gets_is_a_corpus_again(folder, tmp_path, suffix):
    (tmp_path / "t.txt").write_text("the  ferry left Kiel\n😀 a raft in New York\n")
    done = run("probe", "predict", folder / "p", "t.txt", "-o", f"found{suffix}", cwd=tmp_path, check=0)
    run("probe", "predict", folder / "p", "t.txt", "-o", "found.jsonl", cwd=tmp_path, check=0)
    assert ("Label Studio" in done.stderr) == (suffix == ".json")
    of_lines, documents = Corpus([tmp_path / "found.jsonl"]), Corpus([tmp_path / f"found{suffix}"])
    assert [places(document) for document in documents] == [places(document) for document in of_lines]
    if suffix == ".json":
        assert '"model_version": "nuner-embed p"' in (tmp_path / "found.json").read_text()


def test_help_names_every_format(folder):
    said = " ".join(run("probe", "predict", "--help", check=0).stdout.split())
    assert "[txt|jsonl|conll|conllu|parquet|brat|label-studio]" in said
    assert (
        "a .conll file with BIO tags, a .conllu file with BIO tags in its last field, a .json file to correct in Label "
        "Studio, or a .spacy file to train spaCy on" in said
    )


def test_highlights_and_json_on_standard_output(folder):
    done = run("probe", "predict", "p", "-", cwd=folder, stdin="the ferry left Kiel at \x1b[31mseven\n", check=0)
    assert done.stdout == "the [ferry|boat] left [Kiel|city] at \N{REPLACEMENT CHARACTER}[31mseven\n"
    done = run("probe", "predict", "p", "-", "--json", cwd=folder, stdin="the ferry\n", check=0)
    assert [span["label"] for span in json.loads(done.stdout)["spans"]] == ["boat"]
    (span,) = json.loads(done.stdout)["spans"]
    assert list(span["scores"]) == ["O", "boat", "city"]
    assert span["scores"]["boat"] == span["score"]


def test_where_mentions_are_rare_the_threshold_rises_and_this_is_said(folder, monkeypatch):
    monkeypatch.setattr(Tagger, "threshold_for", lambda *_: 0.99999)  # how it is found: test_linear.py
    said = "threshold 1.00: mentions are far rarer here than in what the probe learnt from"
    predict = ["probe", "predict", "p", "-", "--json"]
    done = run(*predict, cwd=folder, stdin="the ferry\n", check=0)
    assert (json.loads(done.stdout)["spans"], said in done.stderr) == ([], True)
    done = run(*predict, "--threshold", "0.5", cwd=folder, stdin="the ferry\n", check=0)
    assert (len(json.loads(done.stdout)["spans"]), said in done.stderr) == (1, False)
    evaluate = ["probe", "evaluate", "p", "train.conll", "--json"]
    done = run(*evaluate, cwd=folder, check=0)
    assert (json.loads(done.stdout)["span_micro_f1"], said in done.stderr) == (0, True)
    done = run(*evaluate, "--threshold", "0.5", cwd=folder, check=0)
    assert (json.loads(done.stdout)["span_micro_f1"] > 0.5, said in done.stderr) == (True, False)


def test_marked_text_trains_and_a_threshold_says_how_sure(folder, tmp_path):
    lines = ["the [[ferry|boat]] left [[Kiel|city]] at seven", "a [[raft|boat]] in [[New York|city]]",
             "the [[canoe|boat]] from [[Oslo|city]] sank", "[[Oslo|city]] saw a [[yacht|boat]]"]  # fmt: skip
    (tmp_path / "train.txt").write_text("".join(line + "\n" for line in lines))
    done = run("probe", "train", "train.txt", "-o", "p", "--model", folder / "m", cwd=tmp_path, check=0)
    assert done.stdout.split()[-4:] == ["boat", "4", "city", "4"]
    predict = ["probe", "predict", "p", "-", "--json"]
    found = run(*predict, cwd=tmp_path, stdin="the ferry left Kiel\n", check=0)
    assert [(s["text"], s["label"]) for s in json.loads(found.stdout)["spans"]] == [("ferry", "boat"), ("Kiel", "city")]
    strict = run(*predict, "--threshold", "0.9999", cwd=tmp_path, stdin="the ferry left Kiel\n", check=0)
    assert json.loads(strict.stdout)["spans"] == []
    (tmp_path / "t.txt").write_text("the ferry left\n")
    run("probe", "predict", "p", "t.txt", "-o", "s.csv", cwd=tmp_path, check=0)
    assert (tmp_path / "s.csv").read_text().splitlines()[1].startswith("t.txt:1,4,9,ferry,boat,0.")
    (tmp_path / "train.txt").write_text("the [[ferry|boat]] left [[Kiel|city at seven\n")
    wrong = run("probe", "train", "train.txt", "-o", "q", "--model", folder / "m", cwd=tmp_path, check=1)
    assert wrong.stderr.startswith("Error: train.txt:1: double brackets that are opened or closed alone")


@pytest.mark.slow
def test_evaluate_names_its_metrics_and_says_the_scheme(folder):
    done = run("probe", "evaluate", "p", "test.conll", cwd=folder, check=0)
    for line in (
        "token macro-F1, None left out  100.0%",
        "token macro-F1 with None       100.0%",
        "span micro-F1, exact",
    ):
        assert line in done.stdout
    assert "adjacent words of one type are one mention" in done.stdout
    assert "·" not in done.stdout
    with_matrix = run("probe", "evaluate", "p", "test.conll", "--confusion", cwd=folder, check=0).stdout
    assert with_matrix.startswith(done.stdout)
    assert ["2", "city", "·", "·", "3"] in [line.split() for line in with_matrix.splitlines()]
    matrix = run("probe", "evaluate", "p", "test.conll", "--confusion", "--json", cwd=folder, check=0).stdout
    assert json.loads(matrix)["confusion"]["counts"][2] == [0, 0, 3]
    found = json.loads(run("probe", "evaluate", "p", "test.conll", "--json", cwd=folder, check=0).stdout)
    assert found["token_macro_f1"] == found["span_micro_f1"] == 1
    assert (found["sentences"], found["tokens"], "confusion" in found) == (2, 9, False)
    some = json.loads(
        run("probe", "evaluate", "p", "test.conll", "--types", "city", "--json", cwd=folder, check=0).stdout
    )
    assert list(some["per_type"]) == ["city"]


def test_a_thousand_types_are_a_page(capsys):
    """Each that occurs has a line, from the most mentions to the fewest."""
    types = tuple(f"type{i}" for i in range(1000))
    size = len(types) + 1
    confusion, spans = np.zeros((size, size), np.int64), np.zeros(size, np.int64)
    for code, mentions in ((7, 1), (500, 3), (9, 2)):
        confusion[code, code] = spans[code] = mentions
    confusion[7, 30] = 1  # found, and never annotated
    scores = Scores(types, confusion, Counts(spans, spans, spans), 6)
    show_scores(scores, confusion=False)
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines() if line.startswith("type")] == [
        "type", "type499", "type8", "type6", "type29",
    ]  # fmt: skip
    assert "neither annotated nor found: 996 other types" in shown
    assert len(shown) < 3000
    assert len(json.dumps(scores.to_dict(), indent=2)) < 500_000


@pytest.mark.slow
def test_mentions_that_overlap_are_said_in_training_and_evaluation(folder, tmp_path):
    spans = [{"start": 4, "end": 9, "label": "boat"}, {"start": 0, "end": 9, "label": "thing"},
             {"start": 15, "end": 19, "label": "thing"}]  # fmt: skip
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "the ferry from Kiel left", "spans": spans}) + "\n")
    done = run("probe", "train", "c.jsonl", "-o", "p", "--model", folder / "m", cwd=tmp_path, check=0)
    assert "not learnt from: 1 mention, overlapping an earlier one or holding no word" in done.stderr
    assert done.stdout.split()[-4:] == ["boat", "1", "thing", "1"]
    assert (
        "not counted: 1 annotated mention that words" in run("probe", "evaluate", "p", "c.jsonl", cwd=tmp_path).stdout
    )
    found = json.loads(run("probe", "evaluate", "p", "c.jsonl", "--json", cwd=tmp_path, check=0).stdout)
    assert found["lost_mentions"] == 1


def test_conll_has_no_place_for_empty_texts_and_odd_labels(tmp_path):
    texts = [Document("a", "ferry", spans=(Span(0, 5, "boat"),)), Document("b", "  ")]
    with writer(tmp_path / "f.conll", as_json=False) as write:
        write(texts)
    assert (tmp_path / "f.conll").read_text() == "ferry\tB-boat\n\n"
    odd = Document("a", "ferry", spans=(Span(0, 5, "a\tb"),))
    with (
        pytest.raises(CorpusError, match="holds what CoNLL cannot"),
        writer(tmp_path / "g.conll", as_json=False) as write,
    ):
        write([odd])
    assert not (tmp_path / "g.conll").exists()


def test_twice_is_refused_and_force_replaces(folder, tmp_path):
    train = ["probe", "train", "train.conll", "-o", tmp_path / "q", "--model", "m", "--k", "2", "--seed", "3"]
    first = json.loads(run(*train, "--json", cwd=folder, check=0).stdout)
    assert (first["training"]["k"], first["training"]["seed"]) == (2, 3)
    again = run(*train, cwd=folder, check=1)
    assert (
        again.stderr == f"Error: {tmp_path / 'q'} holds a probe; name another directory, or replace it with --force\n"
    )
    assert json.loads(run(*train, "--json", "--force", cwd=folder, check=0).stdout) == first


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train", "train.conll", "-o", "x", "--model", "m", "--k", "9"], 1,
         "train.conll: too few mentions for k = 9: boat has 4 of 9, city has 4 of 9; take a smaller k"),
        (["train", "none.conll", "-o", "x", "--model", "m"], 1, "none.conll: holds no annotated mention"),
        (["train", "empty.conll", "-o", "x", "--model", "m"], 1, "empty.conll: the corpus holds no documents"),
        (["train", "wordless.conll", "-o", "x", "--model", "m"], 1, "wordless.conll:2: expected 2 tab-separated"),
        (["train", "train.conll", "-o", "x", "--model", "m", "--types", "boat,boat"], 2, "is not a list of different"),
        (["train", "train.conll", "-o", "x", "--model", "m", "--types", "river"], 1, "holds no mention of river"),
        (["train", "one.conll", "-o", "x", "--model", "m"], 1, "holds words of one class only"),
        (["train", "gone.conll", "-o", "x"], 1, "gone.conll"),
        (["train", "train.conll", "-o", "test.conll"], 1, "test.conll is a file; name a directory for a probe"),
        (["train", "train.conll", "-o", "x", "--C", "nan"], 2, "Invalid value for '--C'"),
        (["predict", "nowhere", "train.conll"], 1, "nowhere holds no probe (no probe.json); nuner-embed probe train"),
        (["predict", "p", "train.conll", "-o", "found.txt"], 2, "must end in one of .csv, .jsonl, .conll"),
        (["predict", "p", "train.conll", "--model", "gone"], 1, "gone"),
        (["evaluate", "p", "river.conll"], 1, "holds the types river, which the probe does not know; it knows boat"),
        (["evaluate", "p", "none.conll"], 1, "none.conll: holds no annotated mention"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(folder, arguments, code, said):
    (folder / "none.conll").write_text("the\tO\nferry\tO\n")
    (folder / "empty.conll").write_text("")
    (folder / "wordless.conll").write_text("the\tO\n\tB-boat\n")
    (folder / "one.conll").write_text("ferry\tB-boat\nraft\tB-boat\n")
    (folder / "river.conll").write_text("the\tO\nRhine\tB-river\n")
    done = run("probe", *arguments, cwd=folder, check=code)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        *notes, last = done.stderr.strip().splitlines()
        assert last.startswith("Error: ")
        assert all(note.startswith(("fastest here", "names: ")) for note in notes)
    assert not (folder / "x").exists()
    assert not list(folder.glob("found*"))


@pytest.mark.slow
def test_fewshot_on_the_command_line(folder, tmp_path):
    command = [
        "evaluate", "fewshot", "--model", "mine=m", "--set", "boats", "train.conll", "test.conll",
        "--k", "1,2,8", "--draws", "2", "-o", tmp_path / "out",
    ]  # fmt: skip
    done = run(*command, cwd=folder, check=0)
    assert "boats, k = 8: too few mentions: boat has 4 of 8, city has 4 of 8; the cell stays blank" in done.stderr
    assert "Token macro-F1 over the types, None left out" in done.stdout
    found = json.loads(run(*command, "--json", cwd=folder, check=0).stdout)
    assert [(cell["k"], len(cell["scores"])) for cell in found["cells"]] == [(1, 2), (2, 2), (8, 0)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "figure.png", "parts", "results.json", "table.md",
    ]  # fmt: skip
    wrong = run(*command[:4], "--k", "1,1", *command[4:8], "-o", tmp_path / "out2", cwd=folder, check=2)
    assert "'1,1' is not a list of different numbers such as 1,2,4" in wrong.stderr
    assert {cell["model"] for cell in found["cells"]} == {"mine"}
    twice = run(*command, "--model", "mine=m", cwd=folder, check=2)
    assert "each model must have a name of its own" in twice.stderr
    average = run(*command[:5], "average", *command[6:], cwd=folder, check=2)
    assert "a set cannot be called 'average'" in average.stderr
