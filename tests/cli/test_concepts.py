"""Pre-trained, calibrated, searched by the names of types: as people run it, with a tiny model."""

import json
import shutil

import pytest
from command import run
from fakes import tiny_model

LINES = [
    ("the %s left kiel", [("%s", "boat"), ("kiel", "city")]),
    ("kiel has an old %s", [("kiel", "city"), ("%s", "boat")]),
    ("in lund the %s is red", [("lund", "city"), ("%s", "boat")]),
]
WORDS = ["ferry", "barge", "yacht"]


def corpus():
    for i in range(60):
        text, spans = LINES[i % 3]
        word = WORDS[i // 3 % 3]
        made = (text + " %d") % (word, i)
        found = [(name % word if "%" in name else name, label) for name, label in spans]
        places = [(made.index(name), made.index(name) + len(name), label) for name, label in found]
        yield {"text": made, "spans": [{"start": start, "end": end, "label": label} for start, end, label in places]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("concepts")
    tiny_model("bert", folder / "base")
    lines = list(corpus())
    (folder / "data.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    wrong = json.loads(json.dumps(lines[:6]).replace("boat", "?").replace("city", "boat").replace("?", "city"))
    (folder / "typed.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [*lines, *wrong]))
    (folder / "wrong.jsonl").write_text("".join(json.dumps(one) + "\n" for one in wrong * 4))
    options = ["--epochs", 15, "--batch-size", 8, "--learning-rate", "0.01", "--dropout", "0", "--threads", 1]
    run("pretrain", "data.jsonl", "-o", "m", "--base", "base", *options, cwd=folder, check=0)
    run("encode", "data.jsonl", "-o", "store", "--model", "m", "--rows", "mention", cwd=folder, check=0)
    run("index", "build", "store", "-o", "index", cwd=folder, check=0)
    return folder


def search(folder, *arguments, index="index", check=0):
    done = run("search", index, *arguments, "--json", cwd=folder, check=check)
    return json.loads(done.stdout) if check == 0 else done


def test_search_by_concept(folder):
    found = search(folder, "--concept", "boat", "-k", 20)
    assert found["query"] == "boat"
    assert len(found["hits"]) == 20
    assert {hit["text"] for hit in found["hits"]} <= set(WORDS)
    both = search(folder, "--concept", "city", "--not", "boat", "-k", 20)
    assert both["query"] == "city, not boat"
    assert {hit["text"] for hit in both["hits"]} <= {"kiel", "lund"}


def test_calibrated_a_threshold_means_something(folder):
    shutil.copytree(folder / "m", folder / "c")
    done = run("search", "index", "--concept", "boat", "--model", "c", cwd=folder, check=0)
    assert "c is not calibrated: scores are cosines, not probabilities" in done.stderr
    command = ["concepts", "calibrate", "c", "typed.jsonl"]
    dry = json.loads(run(*command, "--dry-run", "--json", cwd=folder, check=0).stdout)
    done = run(*command, cwd=folder, check=0)
    assert "132 mentions of 2 types in typed.jsonl" in done.stdout
    kept = json.loads((folder / "c" / "concept_encoder" / "concepts.json").read_text())["calibration"]
    assert kept == {name: dry[name] for name in ("slope", "intercept", "data")}
    assert sum(one["pairs"] for one in dry["bins"]) == 264
    assert 0 < kept["slope"] < 1000
    assert set(dry["types"]) == {"boat", "city"}
    found = search(folder, "--concept", "boat", "--model", "c", "--min-score", "0.5", "-k", 200)
    assert {hit["text"] for hit in found["hits"]} == set(WORDS)
    assert len(found["hits"]) == 60  # all boats, and nothing else
    assert all(0.5 <= hit["score"] <= 1 for hit in found["hits"])
    run("search", "index", "--concept", "boat", "--model", "c", "-o", "hits.parquet", cwd=folder, check=0)
    assert (folder / "hits.parquet").stat().st_size


@pytest.mark.slow
def test_exported_and_saved_it_keeps_its_concept_encoder(folder):
    run("export", "m", "-o", "e", cwd=folder, check=0)
    run("models", "save", "m", "-o", "saved", cwd=folder, check=0)
    expected = search(folder, "--concept", "boat")["hits"]
    for model in ("e", "saved"):
        hits = search(folder, "--concept", "boat", "--model", model)["hits"]
        assert [hit["id"] for hit in hits] == [hit["id"] for hit in expected]
        assert [hit["score"] for hit in hits] == pytest.approx([hit["score"] for hit in expected], abs=2e-3)  # bf16


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--concept", "boat", "a query"], 2, "give one of QUERY, --like FILE, --concept NAME and --queries FILE"),
        (["--not", "boat", "a query"], 2, "--not goes with --concept"),
        (["--concept", "boat", "--exclude-document"], 2, "--exclude-document goes with queries that come from a text"),
        (["--concept", " "], 2, "a concept is the name of an entity type"),
        (
            ["--concept", "boat", "--model", "base"],
            1,
            "base has no concept encoder. nuner-mini has one, and so have models of nuner-embed pretrain",
        ),
        (["--concept", "boat", "--model", "other"], 1, "to which the concept encoder of other does not belong"),
        (["--concept", "boat", "--model", "swapped"], 1, "belongs to another text encoder"),
    ],
)
def test_bad_input_is_one_line(folder, arguments, code, message):
    if not (folder / "other").exists():
        run("pretrain", "data.jsonl", "-o", "other", "--base", "base", "--epochs", 1, cwd=folder, check=0)
        shutil.copytree(folder / "m", folder / "swapped")
        shutil.rmtree(folder / "swapped" / "concept_encoder")
        shutil.copytree(folder / "other" / "concept_encoder", folder / "swapped" / "concept_encoder")
    done = run("search", "index", *arguments, cwd=folder, check=code)
    assert message in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "data.jsonl"], "nothing is not a directory; a calibration is written into a model directory"),
        (["base", "data.jsonl"], "base has no concept encoder"),
        (["m", "few.jsonl"], "no type has 10 mentions in the data"),
        (["m", "plain.txt"], "holds no annotated mention"),
        (
            ["m", "data.jsonl"],
            "the best slope is infinite and every probability 0 or 1; calibrate on",
        ),
        (["m", "wrong.jsonl"], "mentions are no nearer to their own types (mean cosine -"),
    ],
)
def test_what_cannot_be_calibrated(folder, arguments, message):
    (folder / "few.jsonl").write_text((folder / "data.jsonl").read_text().splitlines()[0] + "\n")
    (folder / "plain.txt").write_text("no mention\n")
    done = run("concepts", "calibrate", *arguments, cwd=folder, check=1)
    assert message in " ".join(done.stderr.split())
    assert '"calibration": null' in (folder / "m" / "concept_encoder" / "concepts.json").read_text()


def test_mentions_of_plain_text(folder):
    """A probe that tells mentions from other words, and the store that it makes of a text without spans."""
    (folder / "plain.txt").write_text("the ferry left kiel 7\nin lund the barge is red\n")
    spans = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    for one in spans:
        for span in one["spans"]:
            del span["label"]
    (folder / "unlabelled.jsonl").write_text("".join(json.dumps(one) + "\n" for one in spans))
    run("probe", "train", "unlabelled.jsonl", "-o", "finder", "--model", "m", cwd=folder, check=0)
    encode = ["encode", "plain.txt", "--model", "m", "--rows", "mention"]
    done = run(*encode, "-o", "plain", "--detector", "finder", "--json", cwd=folder, check=0)
    assert "mentions: found by the detector of finder, with the threshold 0.5" in done.stderr
    assert json.loads(done.stdout)["rows"] == 4
    run("index", "build", "plain", "-o", "plain-index", cwd=folder, check=0)
    hits = search(folder, "--concept", "boat", "-k", 2, index="plain-index")["hits"]
    assert {hit["text"] for hit in hits} == {"ferry", "barge"}
    shutil.copytree(folder / "m", folder / "with")
    shutil.copytree(folder / "finder", folder / "with" / "detector")
    own = run("encode", "plain.txt", "--model", "with", "--rows", "mention", "-o", "own", "--json", cwd=folder, check=0)
    assert json.loads(own.stdout)["rows"] == 4
    given = run("encode", "data.jsonl", "--model", "m", "--rows", "mention", "-o", "g", "--json", cwd=folder, check=0)
    assert json.loads(given.stdout)["rows"] == 120  # spans, where there are some, need no detector
    asked = ["encode", "data.jsonl", "--model", "m", "--rows", "mention", "-o", "asked", "--detector", "finder"]
    assert "found by the detector of finder" in run(*asked, cwd=folder, check=0).stderr  # though there are spans
    every = [*encode, "-o", "every", "--mentions", "detect", "--detector", "finder", "--threshold", "0.001", "--json"]
    assert json.loads(run(*every, cwd=folder, check=0).stdout)["rows"] >= 2
    for arguments, code, message in (
        ([*encode, "-o", "x"], 1, "m has no mention detector (nuner-mini has one); name a probe as one"),
        ([*encode, "-o", "x", "--mentions", "given"], 1, "--mentions detect finds some"),
        ([*encode, "-o", "x", "--mentions", "given", "--detector", "finder"], 2, "do not go with --mentions given"),
        (["encode", "plain.txt", "-o", "x", "--mentions", "detect"], 2, "go with --rows mention"),
        ([*encode, "-o", "x", "--detector", "finder", "--normalize"], 1, "words of another model or recipe"),
    ):
        assert message in " ".join(run(*arguments, cwd=folder, check=code).stderr.split())


def test_a_probe_made_of_names(folder):
    shutil.copytree(folder / "m", folder / "z")
    refused = run("probe", "train", "--concepts", "boat,city", "-o", "named", "--model", "z", cwd=folder, check=1)
    assert "z is not calibrated; nuner-embed concepts calibrate z DATA" in refused.stderr
    run("concepts", "calibrate", "z", "typed.jsonl", cwd=folder, check=0)
    named = [
        "probe",
        "train",
        "--concepts",
        "boat, city",
        "-o",
        "named",
        "--model",
        "z",
        "--threshold",
        "0.5",
        "--json",
    ]
    facts = json.loads(run(*named, cwd=folder, check=0).stdout)
    assert facts["types"] == ["boat", "city"]
    assert facts["training"]["sentences"] == 0
    scores = json.loads(run("probe", "evaluate", "named", "data.jsonl", "--json", cwd=folder, check=0).stdout)
    assert scores["token_macro_f1"] > 0.8
    (folder / "text.txt").write_text("the ferry left kiel 7\n")
    found = json.loads(run("probe", "predict", "named", "text.txt", "--json", cwd=folder, check=0).stdout)
    assert {span["label"] for span in found["spans"]} <= {"boat", "city"}
    renamed = ["probe", "train", "--concepts", "SHIP=boat", "-o", "renamed", "--model", "z", "--threshold", "0.9"]
    assert run(*renamed, cwd=folder, check=0).stdout.split() == ["SHIP", "boat"]
    for arguments, code, message in (
        ([], 2, "give DATA to learn from, or --concepts, or both"),
        (["data.jsonl", "--threshold", "0.5"], 2, "--threshold goes with names alone"),
        (["--concepts", "a=boat,a=boat"], 2, "is not a list of different names"),
        (["--concepts", "a=boat,b=Boat"], 2, "a and b have one name, boat"),
        (["--concepts", "a=boat", "--describe", "a=a thing that swims"], 2, "a is named by --concepts and described"),
        (["--describe", "boat"], 2, "expected LABEL=TEXT"),
        (["--describe", "a=" + "very " * 300 + "long"], 2, "a concept is the name of an entity type of 1 to"),
        (["data.jsonl", "--describe", "boat=" + "very " * 300 + "long"], 2, "a concept is the name of an entity type"),
        (["data.jsonl", "--concepts", "river"], 1, "river is named, and data.jsonl holds no mention of it"),
        (["data.jsonl", "--concepts", "boat", "--no-names"], 2, "--no-names goes with neither --concepts nor"),
        (["data.jsonl", "--concepts", "boat", "--model", "base"], 1, "base has no concept encoder"),
        (["--concepts", "boat", "--model", "base"], 1, "base has no concept encoder"),
        (["--concepts", "boat", "-o", "named"], 1, "named holds a probe"),
        (["--concepts", "boat", "--k", "3"], 2, "--k goes with DATA, not with --concepts"),
        (["--concepts", "boat", "--C", "1"], 2, "--C goes with DATA, not with --concepts"),
    ):
        done = run("probe", "train", "-o", "x", "--model", "z", *arguments, cwd=folder, check=code)
        assert message in " ".join(done.stderr.split())


def test_names_beside_examples(folder):
    """Names are made of labels and shown; others are taken, or none."""
    shutil.copytree(folder / "m", folder / "n")
    train = ["probe", "train", "data.jsonl", "--model", "n", "--json", "-o"]
    done = run(*train, "without", cwd=folder, check=0)
    assert "names: not used, since n is not calibrated" in done.stderr
    assert "names" not in json.loads(done.stdout)["parameters"]
    run("concepts", "calibrate", "n", "typed.jsonl", cwd=folder, check=0)
    done = run(*train, "made", cwd=folder, check=0)
    assert "names: boat = boat, city = city; --concepts LABEL=NAME for others, --no-names for none" in done.stderr
    parameters = json.loads(done.stdout)["parameters"]
    assert parameters["names"] == {"boat": ["boat"], "city": ["city"]}
    assert (parameters["C"], parameters["offset_weight"] > 0) == (0.01, True)
    given = ["--concepts", "boat=boat,boat=ferry", "--describe", "city=a place, with streets", "--C", "0.1"]
    done = run(*train, "given", *given, cwd=folder, check=0)
    assert "names: boat = boat / ferry, city = a place, with streets;" in done.stderr
    parameters = json.loads(done.stdout)["parameters"]
    assert parameters["names"] == {"boat": ["boat", "ferry"], "city": ["a place, with streets"]}
    assert parameters["C"] == 0.1
    done = run(*train, "none", "--no-names", cwd=folder, check=0)
    assert "names:" not in done.stderr
    assert "names" not in json.loads(done.stdout)["parameters"]
    for name in ("made", "given", "none"):
        scores = json.loads(run("probe", "evaluate", name, "data.jsonl", "--json", cwd=folder, check=0).stdout)
        assert scores["token_macro_f1"] > 0.8
    both = ["probe", "train", "--concepts", "boat=boat,boat=ferry,city", "-o", "alone", "--model", "n"]
    assert "boat  boat / ferry" in run(*both, cwd=folder, check=0).stdout
