"""Probes on disk: written whole or not at all, and read only as they were written."""

import errno
import hashlib
import json
import os
import random
from dataclasses import replace

import numpy as np
import pytest
from fakes import hash_encoder
from ferries import TRAINING, wide_encoder
from safetensors.numpy import load_file, save_file

from nuner_embed import files, train_probe
from nuner_embed.documents import Document
from nuner_embed.errors import ProbeError
from nuner_embed.heads import io
from nuner_embed.heads import tagger as module
from nuner_embed.heads.io import PROBE_FILE, open_head
from nuner_embed.heads.tagger import Tagger


@pytest.fixture
def tagger(tmp_path):
    return train_probe(TRAINING, wide_encoder(), C=10.0, cache=tmp_path)


def test_what_is_saved_is_what_is_read(tagger, tmp_path, monkeypatch):
    tagger.save(tmp_path / "probe")
    monkeypatch.setattr(module, "load_named_encoder", lambda name, recipe, semantic_hash, threads: wide_encoder())
    again = Tagger.open(tmp_path / "probe")
    texts = [Document("x", "the ferry left at seven in Zürich")]
    assert again.tag(texts) == tagger.tag(texts)
    assert again.head.facts == tagger.head.facts
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "probe").iterdir()) == ["probe.json", "weights"]


def test_saving_over_a_probe_leaves_nothing_of_it(tagger, tmp_path):
    tagger.save(tmp_path / "probe")
    train_probe(TRAINING[:2], hash_encoder(), C=9.0, cache=tmp_path).save(tmp_path / "probe", force=True)
    assert len(list((tmp_path / "probe").iterdir())) == 2
    assert open_head(tmp_path / "probe").facts.parameters["C"] == 9.0


@pytest.mark.parametrize("name", ["weights-final.safetensors", "probe.json", "weights-0123456789abcdef.safetensors"])
def test_saving_leaves_other_folders_alone(tagger, tmp_path, name):
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / name).write_text("somebody else's")
    with pytest.raises(ProbeError, match="is not a probe; name another|is not known to be a probe"):
        tagger.save(tmp_path / "probe", force=True)
    assert [path.name for path in (tmp_path / "probe").iterdir()] == [name]
    assert (tmp_path / "probe" / name).read_text() == "somebody else's"


def test_saving_over_a_probe_with_something_beside_it_is_refused(tagger, tmp_path):
    tagger.save(tmp_path / "probe")
    (tmp_path / "probe" / "notes.txt").write_text("mine")
    with pytest.raises(ProbeError, match="holds notes.txt, which is not part of a probe"):
        tagger.save(tmp_path / "probe", force=True)
    assert len(list((tmp_path / "probe").iterdir())) == 3


def test_a_reader_never_sees_half_of_two_probes(tagger, tmp_path, monkeypatch):
    """The probe is replaced between the reading of its facts and that of its weights."""
    tagger.save(tmp_path / "probe")
    other = train_probe(TRAINING[:2], wide_encoder(), C=9.0, cache=tmp_path)
    read, replaced = io._read_file, []

    def replace_then(directory):
        found = read(directory)
        if not replaced:
            replaced.append(True)
            other.save(tmp_path / "probe", force=True)
        return found

    monkeypatch.setattr(io, "_read_file", replace_then)
    head = open_head(tmp_path / "probe")
    assert head.facts.parameters["C"] == 9.0
    assert np.array_equal(head.weights.coef, other.head.weights.coef)


def test_a_full_disk_leaves_the_old_probe(tagger, tmp_path, monkeypatch):
    tagger.save(tmp_path / "probe")
    before = {path.name: path.read_bytes() for path in (tmp_path / "probe").iterdir()}

    def full(stream):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*weights-"):
        train_probe(TRAINING[:2], wide_encoder(), C=9.0, cache=tmp_path).save(tmp_path / "probe", force=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "probe").iterdir()} == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def damage(change):
    def apply(folder):
        values = json.loads((folder / PROBE_FILE).read_text())
        change(values)
        (folder / PROBE_FILE).write_text(json.dumps(values))

    return apply


def harmed_weights(change):
    """Weights that were changed together with the hashes that are to guard them."""

    def apply(folder):
        values = json.loads((folder / PROBE_FILE).read_text())
        path = folder / values["weights"]["file"]
        arrays = load_file(path)
        change(arrays)
        save_file(arrays, path)
        values["weights"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        del values["sha256"]
        (folder / PROBE_FILE).write_text(json.dumps(values))

    return apply


def reshape(values):
    values["weights"]["shape"][0] += 1


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / PROBE_FILE).unlink(), "holds no probe .no probe.json.; nuner-embed probe train"),
        (lambda folder: next(folder.glob("weights*")).unlink(), "holds no probe .no weights-"),
        (lambda folder: next(folder.glob("weights*")).write_bytes(b"x"), "is not what was written"),
        (lambda folder: (folder / PROBE_FILE).write_text("{"), "cannot be read as the facts of a probe"),
        (lambda folder: (folder / PROBE_FILE).write_text("[]"), "is not the facts of a probe"),
        (lambda folder: (folder / PROBE_FILE).write_text("[" * 10**6), "nested more than 100 levels deep"),
        (damage(lambda values: values.pop("types")), "missing required field types"),
        (damage(lambda values: values.update(types=["time", "time"])), "types: one is named twice"),
        (damage(lambda values: values.update(types=["time", ""])), "types: a name that is empty"),
        (damage(lambda values: values.update(types=["time", "\ud800"])), "types: a name that is empty, or no text"),
        (damage(lambda values: values.update(types=list(map(str, range(10_001))))), "types: .*length <= 10000"),
        (damage(lambda values: values.update(recipe={"foo": 1})), "recipe: a recipe has no field foo"),
        (damage(lambda values: values.update(types=["boat"])), "are not those that were written .sha256 differs"),
        (damage(lambda values: values.pop("parameters")), "missing required field parameters"),
        (damage(lambda values: values["parameters"].update(threshold=1)), "the threshold is no number between 0 and 1"),
        (damage(lambda values: values["training"].update(words=0)), "words in mentions, and 0 in all"),
        (damage(lambda values: values["training"].update(seed=7)), "are not those that were written"),
        (damage(lambda values: values["weights"].update(file="../../etc/passwd")), "weights.file: "),
        (damage(lambda values: values["weights"].update(sha256="0" * 64)), "are not those that were written"),
        (damage(lambda values: (reshape(values), values.pop("sha256"))), "weights of shape .* and probe.json says"),
        (damage(lambda values: values.update(kind="tree")), "kind: expected linear or mentions or spans, found 'tree'"),
        (damage(lambda values: values.update(kind="mentions")), "probe.json: object missing required field finder"),
        (damage(lambda values: values.update(schema_version=9)), "has schema version 9, this program reads 1"),
        (harmed_weights(lambda arrays: arrays.update(classes=arrays["classes"] + 1)), "classes .* for 2 types"),
        (harmed_weights(lambda arrays: arrays.update(classes=arrays["classes"] * 0)), "classes .* for 2 types"),
        (harmed_weights(lambda arrays: arrays.update(coef=arrays["coef"][:1])), "weights of shape"),
        (harmed_weights(lambda arrays: arrays.update(coef=arrays["coef"].astype(np.int8))), "weights are int8"),
        (harmed_weights(lambda arrays: arrays.update(coef=arrays["coef"] * np.inf)), "not finite"),
        (harmed_weights(lambda arrays: arrays.update(more=arrays["coef"])), "it holds classes, coef, intercept, more"),
        (harmed_weights(lambda arrays: arrays.pop("intercept")), "it holds classes, coef"),
    ],
)
def test_a_damaged_probe_is_one_line(tagger, tmp_path, harm, said):
    tagger.save(tmp_path / "probe")
    harm(tmp_path / "probe")
    with pytest.raises(ProbeError, match=said) as caught:
        open_head(tmp_path / "probe")
    assert "\n" not in str(caught.value)


def test_any_byte_of_a_probe_may_be_another(tagger, tmp_path):
    """No byte changes what a probe says without being noticed, and nothing but a line is raised."""
    tagger.save(tmp_path / "probe")
    chance, kept = random.Random(0), open_head(tmp_path / "probe")
    for path in sorted((tmp_path / "probe").iterdir()):
        whole = path.read_bytes()
        for number in range(300):
            place = chance.randrange(len(whole))
            rest = bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :] if number % 4 else b""
            path.write_bytes(whole[:place] + rest)
            read_or_refused(tmp_path / "probe", kept)
        if path.name == PROBE_FILE:
            values = json.loads(whole)
            for key in values:
                for other in (None, -1, 1e300, 2**70, "x", [], {}, True, [[]]):
                    path.write_text(json.dumps({**values, key: other}))
                    read_or_refused(tmp_path / "probe", kept)
        for put in (os.mkfifo, os.mkdir, lambda where: where.symlink_to("/dev/zero")):
            path.unlink()
            put(path)
            with pytest.raises(ProbeError):
                open_head(tmp_path / "probe")
            path.rmdir() if path.is_dir() else path.unlink()
            path.write_bytes(whole)


def read_or_refused(folder, kept):
    try:
        head = open_head(folder)
    except ProbeError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert head.facts == kept.facts
    assert np.array_equal(head.weights.coef, kept.weights.coef)


def test_a_probe_of_an_earlier_version_is_read(tagger, tmp_path):
    tagger.save(tmp_path / "probe")
    damage(lambda values: (values.pop("sha256"), values.pop("kind"), values["weights"].pop("shape")))(
        tmp_path / "probe"
    )
    assert open_head(tmp_path / "probe").facts == tagger.head.facts
    tagger.save(tmp_path / "probe", force=True)  # and replaced


def test_more_types_than_can_be_read_again(tagger, tmp_path):
    facts = replace(tagger.head.facts, types=tuple(map(str, range(10_001))))
    with pytest.raises(ProbeError, match="a probe has at most 10,000 types, not 10,001; name some with --types"):
        replace(tagger, head=replace(tagger.head, facts=facts)).save(tmp_path / "probe")
    assert not (tmp_path / "probe").exists()


def test_weights_of_wrong_shapes_or_without_numbers_are_refused(tagger, tmp_path):
    for coef in (tagger.head.weights.coef[:1], tagger.head.weights.coef * float("nan")):
        with pytest.raises(ValueError, match="shapes|finite"):
            replace(tagger.head.weights, coef=coef)
