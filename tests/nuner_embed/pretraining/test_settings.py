"""Values of a run: what they may be, the presets, files of them."""

import os
import re
from dataclasses import fields
from pathlib import Path

import pytest

from nuner_embed.errors import PretrainingError
from nuner_embed.limits import SETTINGS_BYTES
from nuner_embed.pretraining import settings as settings_module
from nuner_embed.pretraining.settings import PretrainSettings, read_settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be at least|epochs must be between"),
        ({"epochs": 1.5}, "epochs must be a whole number, not 1.5"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number"),
        ({"loss": "cosine"}, "loss must be sigmoid or paper, not 'cosine'"),
        ({"validation": 0.95}, "validation must be between 0 and 0.9"),
        ({"dropout": "0.1"}, "dropout must be a number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"seed": 2**64}, "seed must be at least 0|seed must be between"),
        ({"seed": 10**400}, "seed must be"),
        ({"learning_rate": float("inf")}, "learning_rate must be between"),
        ({"objective": "token-classification", "top_concepts": 3}, "top_concepts goes with"),
    ],
)
def test_values_that_make_no_sense(values, message):
    with pytest.raises(ValueError, match=message):
        PretrainSettings(**values)


def test_the_papers_values():
    paper = PretrainSettings.preset("paper")
    assert (paper.epochs, paper.batch_size, paper.learning_rate, paper.temperature) == (10, 48, 3e-5, 5.0)
    assert (paper.beta1, paper.beta2, paper.epsilon, paper.weight_decay) == (0.9, 0.999, 1e-6, 0.01)
    assert (paper.warmup_ratio, paper.validation, paper.loss, paper.frozen_layers) == (0.1, 0.1, "paper", None)


def test_what_is_no_file_of_settings(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PretrainingError, match="pipe: not a settings file: it is not a regular file"):
        read_settings(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b"#" * (SETTINGS_BYTES + 1))
    with pytest.raises(PretrainingError, match="long: not a settings file: it has 1 MiB, at most 1 are read"):
        read_settings(tmp_path / "long")
    (tmp_path / "deep").write_text("a = " + "[" * 100_000)
    with pytest.raises(PretrainingError, match="deep: not valid TOML"):
        read_settings(tmp_path / "deep")


def test_settings_in_a_file(tmp_path):
    (tmp_path / "a.toml").write_text('preset = "paper"\nlearning-rate = 1e-4\nconcept_pooling = "first"\n')
    assert read_settings(tmp_path / "a.toml") == {"preset": "paper", "learning_rate": 1e-4, "concept_pooling": "first"}
    (tmp_path / "a.toml").write_text("clip = 0.5\nwarmup-ratio = 0.2\n")  # by its earlier name, and by its present one
    assert read_settings(tmp_path / "a.toml") == {"max_grad_norm": 0.5, "warmup_ratio": 0.2}
    (tmp_path / "a.toml").write_text("warmup = 0.1\nwarmup_ratio = 0.2\n")
    with pytest.raises(PretrainingError, match="a setting occurs twice, under two names: warmup, warmup_ratio"):
        read_settings(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text("lerning_rate = 1\n")
    with pytest.raises(PretrainingError, match=r"a\.toml: no setting is called lerning_rate; there are"):
        read_settings(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text("batch_size = 1\nbatch-size = 2\n")
    with pytest.raises(PretrainingError, match="a setting occurs twice"):
        read_settings(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text("= 1\n")
    with pytest.raises(PretrainingError, match="not valid TOML"):
        read_settings(tmp_path / "a.toml")


def test_runs_keep_the_names_that_their_files_have():
    """What an earlier version wrote down of a run is what this one does: the run is continued."""
    stored = PretrainSettings(warmup_ratio=0.2, max_grad_norm=0.5).to_dict()
    assert (stored["warmup"], stored["clip"]) == (0.2, 0.5)
    assert not {"warmup_ratio", "max_grad_norm"} & set(stored)


def test_every_setting_decides_the_run():
    """What `--help` offers is used: a field that nobody reads would be a lie."""
    source = "".join(
        path.read_text() for path in Path(settings_module.__file__).parent.glob("*.py") if path.name != "settings.py"
    )
    for one in fields(PretrainSettings):
        assert re.search(rf"settings\.{one.name}\b", source), one.name
