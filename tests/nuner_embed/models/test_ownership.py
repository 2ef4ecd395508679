"""Whose a directory of a model is, and what is left of it when something goes wrong."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from nuner_embed.errors import ModelError
from nuner_embed.files import copy_file
from nuner_embed.models import snapshot
from nuner_embed.models.directories import MARKER_FILE
from nuner_embed.models.resolver import locate
from nuner_embed.models.snapshot import save_model
from nuner_embed.models.weights import read_shapes, read_tensors, write_tensors

BERT = {
    "model_type": "bert", "vocab_size": 8, "hidden_size": 4, "num_hidden_layers": 1, "max_position_embeddings": 16,
}  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def source(tmp_path):
    """A directory that looks like a model; nothing of it is run."""
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(BERT))
    (directory / "tokenizer.json").write_text("{}")
    (directory / "README.md").write_text("a card")
    (directory / "concept_encoder").mkdir()
    (directory / "concept_encoder" / "concepts.json").write_text("{}")
    save_file({"a": np.zeros((8, 4), np.float32)}, directory / "model.safetensors")
    return directory


def test_what_models_save_wrote_is_replaced_on_demand(source, tmp_path):
    first = save_model(str(source), tmp_path / "saved")
    assert (tmp_path / "saved" / MARKER_FILE).is_file()
    with pytest.raises(ModelError, match="holds a saved model; name another directory, or replace it with --force"):
        save_model(str(source), tmp_path / "saved")
    (source / "README.md").write_text("another card")
    assert save_model(str(source), tmp_path / "saved", force=True).weights_sha256 == first.weights_sha256
    assert (tmp_path / "saved" / "README.md").read_text() == "another card"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved", "source"]


def edited(saved):
    (saved / "README.md").write_text("my own words")


def edited_recipe(saved):
    (saved / "recipe.json").write_text('{"layers": [-1], "pooling": "mean"}')


def own_weights(saved):
    (saved / "more.bin").write_bytes(b"mine")


def own_folder(saved):
    (saved / "notes").mkdir()
    (saved / "notes" / "a.txt").write_text("mine")


def own_in_companion(saved):
    (saved / "concept_encoder" / "mine.txt").write_text("mine")


def linked(saved):
    (saved / "README.md").unlink()
    (saved / "README.md").symlink_to(saved.parent / "source" / "README.md")


def without_marker(saved):
    (saved / MARKER_FILE).unlink()


def another_schema(saved):
    (saved / MARKER_FILE).write_text('{"schema_version": 2, "purpose": "saved", "files": {}}')


def damaged_marker(saved):
    (saved / MARKER_FILE).write_text("{")


@pytest.mark.parametrize(
    "change",
    [edited, edited_recipe, own_weights, own_folder, own_in_companion, linked, without_marker, another_schema,
     damaged_marker],
)  # fmt: skip
def test_what_is_somebody_elses_is_never_replaced(source, tmp_path, change):
    save_model(str(source), tmp_path / "saved")
    change(tmp_path / "saved")
    before = content(tmp_path)
    with pytest.raises(ModelError) as caught:
        save_model(str(source), tmp_path / "saved", force=True)
    assert "\n" not in str(caught.value)
    assert content(tmp_path) == before


@pytest.mark.parametrize("files", [{"a.bin": b"mine"}, {"model.safetensors": b"mine", "config.json": b"{}"}])
def test_a_folder_that_looks_like_a_model_is_not_ours(source, tmp_path, files):
    (tmp_path / "mine").mkdir()
    for name, data in files.items():
        (tmp_path / "mine" / name).write_bytes(data)
    with pytest.raises(ModelError, match=f"and no {MARKER_FILE}: it is not a saved model; name another directory"):
        save_model(str(source), tmp_path / "mine", force=True)
    assert content(tmp_path / "mine") == files


def test_a_saved_model_of_before_the_marker_loads(source, tmp_path):
    saved = save_model(str(source), tmp_path / "saved")
    without_marker(tmp_path / "saved")
    assert locate(str(tmp_path / "saved")) == saved


def test_a_full_disk_leaves_what_was_there_and_names_the_place(source, tmp_path, monkeypatch):
    save_model(str(source), tmp_path / "saved")
    before = content(tmp_path)

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source)  # as shutil.copyfile has it

    monkeypatch.setattr(shutil, "copyfile", full)
    for name in ("saved", "other"):
        with pytest.raises(ModelError, match=rf"{name} cannot be written: No space left on device; nothing"):
            save_model(str(source), tmp_path / name, force=True)
    assert content(tmp_path) == before


def test_a_killed_saving_is_swept_by_the_next(source, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "mark", lambda *_: os._exit(9))
    if not (child := os.fork()):
        save_model(str(source), tmp_path / "saved")
    os.waitpid(child, 0)
    monkeypatch.undo()
    assert [path.suffix for path in tmp_path.iterdir() if path.is_dir() and path.name.startswith(".")] == [".new"]
    save_model(str(source), tmp_path / "saved")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved", "source"]


def test_who_may_read_what_is_written_the_umask_says(tmp_path):
    former = os.umask(0o027)
    try:
        write_tensors({"a": np.zeros(3, np.float32)}, tmp_path / "a.safetensors")
    finally:
        os.umask(former)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o640


def test_weights_that_cannot_be_written_name_their_file(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    def full(*_args, **_options):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("nuner_embed.models.weights.save_file", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_tensors({"a": np.zeros(3, np.float32)}, tmp_path / "a.safetensors")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 7, b"\xff" * 8, (10).to_bytes(8, "little") + b"{", (2).to_bytes(8, "little") + b"[]",
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}     ',
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}     ',
        (1 << 40).to_bytes(8, "little") + b"{}",
    ],
)  # fmt: skip
def test_damaged_weights_are_one_line(tmp_path, data):
    (tmp_path / "a.safetensors").write_bytes(data)
    for read in (read_shapes, read_tensors):
        with pytest.raises(ModelError, match=r"a\.safetensors cannot be read as weights: [^\n]+$"):
            read(tmp_path / "a.safetensors")


def test_a_copy_is_never_written_through_a_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="it is a symbolic link"):
        copy_file(tmp_path / "mine", tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is not a regular file"):
        copy_file(tmp_path / "pipe", tmp_path / "copy")
