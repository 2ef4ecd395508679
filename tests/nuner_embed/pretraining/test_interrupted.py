"""Runs that were stopped, and runs that cannot go on: what is kept, what is refused, and what the message says."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from pretraining_runs import run, same, weights
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from nuner_embed.errors import PretrainingError
from nuner_embed.pretraining import parts as parts_module
from nuner_embed.pretraining import trainer as trainer_module


@pytest.fixture
def interrupted(data, base, tmp_path, monkeypatch):
    """A run that was stopped after a step or two."""
    step = trainer_module.Trainer._train_step

    def stop(self, within):
        step(self, within)
        self.keep()
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer_module.Trainer, "_train_step", stop)
    with pytest.raises(KeyboardInterrupt):
        run(data, base, tmp_path / "m")
    monkeypatch.undo()
    return tmp_path / "m"


def test_another_run_is_refused(interrupted, data, base):
    with pytest.raises(PretrainingError, match=r"begun with another learning_rate \(0.001 there, 0.01 here\); --force"):
        run(data, base, interrupted, learning_rate=0.01)
    run(data, base, interrupted, learning_rate=0.01, epochs=1, options={"force": True})
    with pytest.raises(PretrainingError, match="holds a finished model; name another directory, or replace it"):
        run(data, base, interrupted)
    run(data, base, interrupted, epochs=1, options={"force": True})


def test_replacing_a_finished_model_can_be_interrupted_too(trained, data, base, tmp_path, monkeypatch):
    shutil.copytree(trained[0], tmp_path / "m")
    finished = weights(tmp_path / "m")
    step = trainer_module.Trainer._train_step

    def stop(self, within):
        step(self, within)
        self.keep()
        raise KeyboardInterrupt

    values = {"seed": 9, "objective": "token-classification"}
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.Trainer, "_train_step", stop)
        with pytest.raises(KeyboardInterrupt):
            run(data, base, tmp_path / "m", **values, options={"force": True})
    assert same(weights(tmp_path / "m"), finished)  # until there is a new one
    notes = []
    run(data, base, tmp_path / "m", **values, options={"note": notes.append})
    assert notes[0].startswith("continuing from step 1")
    assert not (tmp_path / "m" / "concept_encoder").exists()  # the old one's would not belong to it


KILLED_WHILE_WRITING = """
import resource, signal, sys
from nuner_embed.cli.__main__ import main
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # the configuration is smaller, the weights are larger
main()
"""


@pytest.mark.slow
def test_killed_while_the_weights_are_written(data, base, tmp_path):
    """The kernel kills the process in the middle of the file, which the library writes under a name of its own."""
    options = ["--epochs", "1", "--device", "cpu", "--threads", "1", "--frozen-layers", "0"]
    options += ["--frozen-concept-layers", "0"]
    arguments = ["pretrain", str(data), "-o", str(tmp_path / "m"), "--base", str(base), *options]
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, *arguments], check=False)
    assert killed.returncode == -signal.SIGXFSZ
    result = tmp_path / "m" / "training" / "result"
    assert {path.name for path in result.iterdir()} > {"config.json"}  # what is larger has no name of ours yet
    assert not (result / "model.safetensors").exists()
    subprocess.run([sys.executable, "-m", "nuner_embed.cli", *arguments], check=True)
    assert not (tmp_path / "m" / "training").exists()
    assert (tmp_path / "m" / "pretrain.json").exists()


def test_a_damaged_state_is_told(interrupted, data, base):
    state = interrupted / "training" / "state.safetensors"
    whole = state.read_bytes()
    for content in (whole[:-100], b"", b"x" * 50, whole[:-1] + bytes([whole[-1] ^ 1])):
        state.write_bytes(content)
        with pytest.raises(PretrainingError, match=r"state\.safetensors: the state of the run is damaged .*--force"):
            run(data, base, interrupted)
    state.write_bytes(whole)
    run(data, base, interrupted)


def test_a_state_of_an_earlier_version_without_a_hash_goes_on(interrupted, trained, data, base):
    state = interrupted / "training" / "state.safetensors"
    with safe_open(state, framework="pt") as file:
        facts = file.metadata()["facts"]
    save_file(load_file(state), state, metadata={"facts": facts})
    begun = json.loads((interrupted / "training" / "run.json").read_text())["begun"]
    (interrupted / "training" / "run.json").write_text(json.dumps(begun))  # it marked its runs with nothing more
    run(data, base, interrupted)
    assert same(weights(interrupted), weights(trained[0]))


def test_what_the_frozen_layers_made_is_computed_again_where_it_is_damaged(interrupted, trained, data, base):
    work = interrupted / "training"
    (work / "texts.npy").write_bytes((work / "texts.npy").read_bytes()[:500])
    mark = json.loads((work / "concepts.json").read_text())
    (work / "concepts.json").write_text(json.dumps({**mark, "pieces": 10**6}))
    run(data, base, interrupted)
    assert same(weights(interrupted), weights(trained[0]))


def test_a_full_disk_while_the_model_is_written_loses_nothing(data, base, trained, tmp_path, monkeypatch):
    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(parts_module, "save_network", full)
        with pytest.raises(PretrainingError, match=r"training/result cannot be written: .* the same command continues"):
            run(data, base, tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["training"]
    notes = []
    run(data, base, tmp_path / "m", options={"note": notes.append})
    assert notes[0].startswith("continuing from step")
    assert same(weights(tmp_path / "m"), weights(trained[0]))


def test_no_room_for_what_the_frozen_layers_make(data, base, tmp_path, monkeypatch):
    def full(descriptor, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(PretrainingError, match=r"texts\.npy cannot be written: No space left .* use --no-cache"):
        run(data, base, tmp_path / "m")
    assert not (tmp_path / "m" / "training" / "texts.npy").exists()
    run(data, base, tmp_path / "m", epochs=1, options={"cache": False})
