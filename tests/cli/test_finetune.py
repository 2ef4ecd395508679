"""`nuner-embed finetune` as people run it."""

import json

import pytest
from command import run
from fakes import tiny_model

LINE = '{"text": "the ferry number %d left kiel", "spans": [{"start": 4, "end": 9, "label": "boat"}]}\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune")
    tiny_model("bert", folder / "base")
    (folder / "data.jsonl").write_text("".join(LINE % i for i in range(40)))
    (folder / "plain.txt").write_text("the ferry left\n")
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("mine")
    return folder


def finetune(folder, *arguments, data="data.jsonl", **options):
    options = {"cwd": folder, **options}
    return run("finetune", data, "--base", "base", "--epochs", 2, "--learning-rate", 0.01, *arguments, **options)


def test_one_type_and_what_takes_the_model(folder):
    done = finetune(folder, "-o", "m", "--k", 8, "--epochs", 12, "--validation", 0, check=0)
    assert "boat" in done.stdout
    assert "nuner-embed probe predict m CORPUS" in done.stderr
    found = run("probe", "predict", "m", "data.jsonl", "--json", cwd=folder, check=0)
    assert json.loads(found.stdout.splitlines()[0])["spans"][0]["text"] == "ferry"
    scores = run("probe", "evaluate", "m/head", "data.jsonl", "--json", cwd=folder, check=0)
    assert json.loads(scores.stdout)["span_micro_f1"] == 1.0
    again = finetune(folder, "-o", "m", check=1)
    assert "Error: m holds a finished model" in again.stderr
    # the encoder has changed, and has neither a concept encoder nor a detector
    assert "m has no mention detector" in run("tag", "plain.txt", "--types", "boat", "--model", "m", cwd=folder).stderr
    done = run("probe", "train", "--concepts", "boat", "-o", "p", "--model", "m", cwd=folder, check=1)
    assert "m has no concept encoder" in done.stderr


@pytest.mark.slow
def test_the_head_in_a_graph_and_a_saved_model(folder):
    finetune(folder, "-o", "whole", check=0)
    run("export", "whole", "-o", "graph", "--head", "whole/head", cwd=folder, check=0)
    assert json.loads((folder / "graph" / "head.json").read_text())
    run("models", "save", "whole", "-o", "saved", cwd=folder, check=0)
    texts = [
        run("probe", "predict", place, "data.jsonl", "--threads", 1, cwd=folder, check=0).stdout
        for place in ("whole", "graph", "saved")
    ]
    assert texts[0] == texts[1] == texts[2]
    assert "[ferry|boat]" in texts[0]
    run("export", "whole", "-o", "graph", "--force", cwd=folder, check=0)
    refused = run("finetune", "data.jsonl", "--base", "graph", "-o", "x", cwd=folder, check=1)
    assert "graph is an exported graph; training needs the model it was made from" in refused.stderr
    finetune(folder, "-o", "whole", "--force", check=0)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "x", "--types", "train"], 1, "data.jsonl holds no mention of train; its types are boat"),
        (["-o", "x", "--k", "99"], 1, "data.jsonl: too few mentions for k = 99: boat has 40 of 99"),
        (["-o", "x", "--validation", "1"], 2, "validation must be between 0 and 0.9, not 1"),
        (["-o", "x", "--patience", "0"], 2, "patience must be between 1 and 10000, not 0"),
        (["-o", "data.jsonl"], 1, "data.jsonl is also an input; name another output"),
        (["-o", "mine", "--force"], 1, "mine holds thesis.txt and no pretrain.json"),
        (["-o", "x", "--base", "nothing"], 1, "no known model is called 'nothing'"),
        (["-o", "x", "--device", "cuda"], 1, "asked for CUDA, but torch finds none"),
    ],
)
def test_bad_input_is_one_line(folder, arguments, code, message):
    done = finetune(folder, *arguments, check=code)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "x" / "pretrain.json").exists()


def test_data_without_a_mention(folder):
    done = finetune(folder, "-o", "x", data="plain.txt", check=1)
    assert "plain.txt: holds no annotated mention" in done.stderr
    (folder / "only-o.conll").write_text("ferry\tO\n\n")
    assert "holds no annotated mention" in finetune(folder, "-o", "x", data="only-o.conll", check=1).stderr
