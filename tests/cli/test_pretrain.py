"""`nuner-embed pretrain` and `models save` as people run them."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import transformers
from command import run
from fakes import tiny_model
from filelock import FileLock
from safetensors.torch import load_file

LINE = '{"text": "the ferry number %d left kiel", "spans": [{"start": 4, "end": 9, "label": "boat"}]}\n'
CONLL = "ferry\tB-boat\nleft\tO\nkiel\tB-city\n\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrain")
    tiny_model("bert", folder / "base")
    (folder / "data.jsonl").write_text("".join(LINE % i for i in range(40)))
    (folder / "typed.conll").write_text(CONLL * 4)
    return folder


def pretrain(folder, *arguments, **options):
    return run("pretrain", "data.jsonl", "--base", "base", "--epochs", 1, *arguments, cwd=folder, **options)


@pytest.mark.slow
def test_a_run_with_a_probe(folder):
    done = pretrain(folder, "-o", "m", "--probe-set", "boats", "typed.conll", "typed.conll", "--batch-size", 8, check=0)
    assert "epoch 1: held-out loss" in done.stderr
    assert "probe F1" in done.stderr
    assert "texts" in done.stdout
    assert transformers.AutoModel.from_pretrained(folder / "m").config.num_hidden_layers == 2
    run("export", "m", "-o", "exported", cwd=folder, check=0)  # whatever takes a model takes this one
    again = pretrain(folder, "-o", "m", check=1)
    assert "Error: m holds a finished model" in again.stderr


def test_values_from_a_preset_a_file_and_flags(folder):
    (folder / "values.toml").write_text('preset = "paper"\nlearning_rate = 1e-4\nbatch_size = 16\n')
    done = pretrain(folder, "-o", "v", "--config", "values.toml", "--batch-size", 8, "--json", check=0)
    settings = json.loads(done.stdout)["settings"]
    assert (settings["loss"], settings["learning_rate"], settings["batch_size"]) == ("paper", 1e-4, 8)
    assert (settings["epochs"], settings["frozen_concept_layers"]) == (1, 0)


# the command, its state kept after every step instead of every two minutes
OFTEN = """
import sys, nuner_embed.pretraining.trainer as trainer
from nuner_embed.cli.__main__ import main
trainer._SECONDS_BETWEEN_STATES = -1
sys.argv[0] = "nuner-embed"
main()
"""


@pytest.mark.slow
def test_killed_and_run_again(folder):
    options = ["--batch-size", "2", "--threads", "1", "--learning-rate", "0.01", "--epochs", "6"]
    pretrain(folder, "-o", "whole", *options, check=0)
    command = [sys.executable, "-c", OFTEN, "pretrain", "data.jsonl", "--base", "base", "-o", "killed", *options]
    process = subprocess.Popen(command, cwd=folder, env=dict(os.environ), stderr=subprocess.DEVNULL)
    state = folder / "killed" / "training" / "state.safetensors"
    while not state.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "killed" / "pretrain.json").exists()
    done = pretrain(folder, "-o", "killed", *options, check=0)
    assert "continuing from step" in done.stderr
    whole, killed = (load_file(folder / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert not (folder / "killed" / "training").exists()


def test_one_run_at_a_time(folder):
    (folder / "held" / "training").mkdir(parents=True)
    with FileLock(folder / "held" / "training" / ".lock"):
        done = pretrain(folder, "-o", "held", check=1)
    assert "held is being trained by another process; wait for it or stop it" in done.stderr


@pytest.mark.slow
def test_two_processes_add_up_to_two_batches_a_step(folder):
    options = ["--batch-size", "4", "--validation", "0.2", "--dropout", "0", "--threads", "1", "--device", "cpu"]
    pretrain(folder, "-o", "one", *options, "--accumulate", 2, check=0)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [
        "-m",
        "nuner_embed.cli",
        "pretrain",
        "data.jsonl",
        "--base",
        "base",
        "--epochs",
        "1",
        "-o",
        "two",
        *options,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("held-out loss") == 1
    one, two = (load_file(folder / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    assert not all(torch.equal(one[name], load_file(folder / "base" / "model.safetensors")[name]) for name in one)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "x", "--loss", "cosine"], 2, "'cosine' is not one of 'sigmoid', 'paper'"),
        (["-o", "x", "--warmup", "2"], 2, "warmup_ratio must be between 0 and 1, not 2"),
        (["-o", "x", "--config", "none.toml"], 1, "none.toml: cannot be read: No such file"),
        (["-o", "x", "--config", "wrong.toml"], 1, "wrong.toml: batch_size must be a whole number, not 'many'"),
        (["-o", "x", "--frozen-layers", "9"], 1, "this network has 2 layers; 9 cannot be frozen"),
        (["-o", "x", "--device", "cuda"], 1, "asked for CUDA, but torch finds none"),
        (["-o", "data.jsonl"], 1, "data.jsonl is also an input; name another output"),
        (["-o", "x", "--probe-set", "a", "none.conll", "none.conll"], 1, "none.conll: no such file"),
    ],
)
def test_bad_input_is_one_line(folder, arguments, code, message):
    (folder / "wrong.toml").write_text('batch_size = "many"\n')
    done = pretrain(folder, *arguments, check=code)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_base_and_an_empty_file(folder):
    (folder / "empty.jsonl").write_text("")
    assert "no documents" in run("pretrain", "empty.jsonl", "-o", "x", "--base", "base", cwd=folder, check=1).stderr
    assert "no known model is called" in pretrain(folder, "-o", "x", "--base", "nothing", check=1).stderr


def test_models_save(folder):
    run("models", "save", "minilm-l6", "-o", "mini", cwd=folder, check=0)
    ours = transformers.AutoModel.from_pretrained(folder / "mini")
    assert ours.config.num_hidden_layers == 6
    assert transformers.AutoTokenizer.from_pretrained(folder / "mini")("a")["input_ids"] == [101, 1037, 102]
    assert json.loads((folder / "mini" / "recipe.json").read_text())["max_length"] == 256
    assert (folder / "mini").stat().st_mode & 0o777 == 0o755
    done = run("models", "save", "minilm-l6", "-o", "mini", cwd=folder, check=1)
    assert "holds a saved model; name another directory, or replace it with --force" in done.stderr
    run("models", "save", "base", "-o", "mini", "--force", cwd=folder, check=0)
    assert transformers.AutoModel.from_pretrained(folder / "mini").config.num_hidden_layers == 2
    assert "no known model" in run("models", "save", "minilm", "-o", "other", cwd=folder, check=1).stderr
    assert not (folder / "other").exists()


def test_models_save_takes_nothing_away(folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("mine")
    for cwd, output, message in (
        (folder, "mine", "holds thesis.txt and no nuner-embed-model.json"),
        (folder / "mine", ".", "holds thesis.txt and no nuner-embed-model.json"),
        (folder / "mine", "..", "and no nuner-embed-model.json"),
        (folder, "mine/thesis.txt", "is a file"),
    ):
        assert message in run("models", "save", "minilm-l6", "-o", output, "--force", cwd=cwd, check=1).stderr
    assert (folder / "mine" / "thesis.txt").read_text() == "mine"
