"""From annotated texts to a probe on disk and back to mentions."""

import errno
import hashlib
import json
import os
import random
import re
from dataclasses import replace

import numpy as np
import pytest
from fakes import HashRuntime, hash_encoder
from safetensors.numpy import load_file, save_file

from nuner_embed import files, score_tagger, train_probe
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.documents import Document, Span
from nuner_embed.errors import CorpusError, ProbeError
from nuner_embed.evaluation.metrics import Scores
from nuner_embed.heads import io
from nuner_embed.heads import tagger as module
from nuner_embed.heads.io import PROBE_FILE, open_head
from nuner_embed.heads.labelled_words import SCHEME
from nuner_embed.heads.tagger import Tagger

TIMES = ("seven", "Vol kova")
BOATS = ("ferry",)


def annotated(text, number=0):
    """Times and boats, wherever they stand."""
    spans = [
        Span(found.start(), found.end(), label)
        for label, names in (("time", TIMES), ("boat", BOATS))
        for name in names
        for found in re.finditer(name, text)
    ]
    return Document(f"d{number}", text, spans=tuple(sorted(spans, key=lambda span: span.start)))


def wide_encoder():
    """Words are points of a space in which few of them can be told apart whichever way they are labelled."""
    return hash_encoder(runtime=HashRuntime(dim=32))


TRAINING = [
    annotated(text, i)
    for i, text in enumerate(
        ["the ferry left at seven", "at seven the ferry", "Vol kova left in the ferry", "left in an ferry"]
    )
]


@pytest.fixture
def tagger(tmp_path):
    return train_probe(TRAINING, wide_encoder(), C=10.0, cache=tmp_path)


def test_it_finds_what_it_learnt_where_it_stands(tagger):
    text = "😀 seven\r\nthe ferry, Vol kova!"
    (found,) = tagger.tag([Document("x", text)])
    assert [(text[span.start : span.end], span.label) for span in found.spans] == [
        ("seven", "time"),
        ("ferry", "boat"),
        ("Vol kova", "time"),
    ]
    assert all(0 < span.score <= 1 for span in found.spans)
    assert (found.id, found.text) == ("x", text)


def test_a_threshold_is_how_probable_a_type_must_be(tagger):
    text = "the ferry left at seven, at an Zürich"
    (default,) = tagger.tag([Document("x", text)])
    assert tagger.tag([Document("x", text)], threshold=0.5)[0].spans == default.spans
    found = {t: tagger.tag([Document("x", text)], threshold=t)[0].spans for t in (1e-6, 0.999999)}
    assert len(found[1e-6]) == 1 or len(found[1e-6]) > len(default.spans)
    assert sum(span.end - span.start for span in found[1e-6]) > sum(span.end - span.start for span in default.spans)
    assert found[0.999999] == ()
    for wrong in (0, 1, float("nan")):
        with pytest.raises(ValueError, match="threshold must be between 0 and 1"):
            tagger.tag([Document("x", text)], threshold=wrong)


def test_documents_keep_their_order_and_old_spans_go(tagger):
    given = [annotated("the ferry"), Document("empty", ""), Document("plain", "the the", spans=(Span(0, 3, "x"),))]
    assert [len(document.spans) for document in tagger.tag(given)] == [1, 0, 0]
    assert tagger.tag([Document("empty", "")])[0].spans == ()


def test_scores_of_the_training_texts_are_perfect(tagger, tmp_path):
    scores = score_tagger(tagger, TRAINING, cache=tmp_path)
    assert isinstance(scores, Scores)
    assert scores.token_macro_f1 == scores.span_micro_f1 == 1
    assert scores.to_dict()["scheme"] == SCHEME
    assert score_tagger(tagger, TRAINING, types=["boat"], cache=tmp_path).types == ("boat",)


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
    with pytest.raises(ProbeError, match="holds notes.txt, which is no part of a probe"):
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


def test_another_encoder_is_refused_naming_both(tagger, tmp_path, monkeypatch):
    tagger.save(tmp_path / "probe")
    other = hash_encoder(pooling="mean")
    monkeypatch.setattr(module, "load_encoder", lambda name, threads, **recipe: other)
    with pytest.raises(ProbeError) as caught:
        Tagger.open(tmp_path / "probe", model="elsewhere")
    assert tagger.encoder.semantic_hash[:12] in str(caught.value)
    assert other.semantic_hash[:12] in str(caught.value)


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
        (damage(lambda values: values.update(recipe={"foo": 1})), "recipe: a recipe knows no foo"),
        (damage(lambda values: values.update(types=["boat"])), "are not those that were written .sha256 differs"),
        (damage(lambda values: values.pop("parameters")), "missing required field parameters"),
        (damage(lambda values: values["parameters"].update(threshold=1)), "the threshold is no number between 0 and 1"),
        (damage(lambda values: values["training"].update(words=0)), "words in mentions, and 0 in all"),
        (damage(lambda values: values["training"].update(seed=7)), "are not those that were written"),
        (damage(lambda values: values["weights"].update(file="../../etc/passwd")), "weights.file: "),
        (damage(lambda values: values["weights"].update(sha256="0" * 64)), "are not those that were written"),
        (damage(lambda values: (reshape(values), values.pop("sha256"))), "weights of shape .* and probe.json says"),
        (damage(lambda values: values.update(kind="tree")), "kind: expected linear or mentions, found 'tree'"),
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


def test_weights_for_vectors_of_another_length(tagger):
    narrow = replace(tagger.head.weights, coef=tagger.head.weights.coef[:, :5])
    with pytest.raises(ProbeError, match="are for vectors of 5 numbers, the encoder's have 32; train the probe again"):
        replace(tagger, head=replace(tagger.head, weights=narrow)).tag("the ferry")


def test_more_types_than_can_be_read_again(tagger, tmp_path):
    facts = replace(tagger.head.facts, types=tuple(map(str, range(10_001))))
    with pytest.raises(ProbeError, match="a probe has at most 10,000 types, not 10,001; name some with --types"):
        replace(tagger, head=replace(tagger.head, facts=facts)).save(tmp_path / "probe")
    assert not (tmp_path / "probe").exists()


def test_weights_of_wrong_shapes_or_without_numbers_are_refused(tagger, tmp_path):
    for coef in (tagger.head.weights.coef[:1], tagger.head.weights.coef * float("nan")):
        with pytest.raises(ValueError, match="shapes|finite"):
            replace(tagger.head.weights, coef=coef)


def test_k_draws_a_support_set(tmp_path):
    many = [annotated("the ferry left at seven", i) for i in range(20)]
    facts = train_probe(many, hash_encoder(), k=3, seed=1, cache=tmp_path).head.facts.training
    assert (facts.k, facts.seed) == (3, 1)
    assert all(3 <= count <= 6 for count in facts.mentions.values())
    assert facts.sentences < 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"types": ["river"]}, "the data holds no mention of river; its types are boat, time"),
        ({"k": 4}, "too few mentions for k = 4: time has 3 of 4; take a smaller k, or --short-types drop"),
        ({"k": 9, "short_types": "drop"}, "no type has 9 mentions; take a smaller k"),
    ],
)
def test_what_cannot_be_learnt_is_one_line(tmp_path, arguments, said):
    with pytest.raises(ProbeError, match=said):
        train_probe(TRAINING, hash_encoder(), cache=tmp_path, **arguments)


def test_short_types_are_dropped_or_kept(tmp_path):
    dropped = train_probe(TRAINING, wide_encoder(), C=10.0, k=4, short_types="drop", cache=tmp_path)
    assert dropped.types == ("boat",)
    assert dropped.head.facts.training.left_out == {"time": 3}
    assert score_tagger(dropped, TRAINING, cache=tmp_path).token_macro_f1 == 1  # times count as none
    kept = train_probe(TRAINING, hash_encoder(), k=4, short_types="keep", cache=tmp_path)
    assert kept.head.facts.training.mentions == {"boat": 4, "time": 3}


def test_a_type_of_which_no_word_can_be_learnt_is_left_out_and_said(tmp_path):
    text = "the ferry \u200b left"
    spans = (Span(4, 9, "boat"), Span(10, 11, "nothing"), Span(0, 9, "shadowed"))
    documents = [Document("d", text, spans=spans)]
    tagger = train_probe(documents, wide_encoder(), C=10.0, cache=tmp_path)
    assert tagger.types == ("boat",)
    assert tagger.head.facts.training.left_out == {"nothing": 1, "shadowed": 1}
    assert score_tagger(tagger, documents, cache=tmp_path).token_macro_f1 == 1
    with pytest.raises(ProbeError, match="words of one class only"):
        train_probe([Document("d", text, spans=spans[1:2])], wide_encoder(), cache=tmp_path)


def test_words_of_one_class_only(tmp_path):
    with pytest.raises(ProbeError, match="holds words of one class only"):
        train_probe([Document("d", "ferry", spans=(Span(0, 5, "boat"),))], hash_encoder(), cache=tmp_path)


def test_types_that_the_probe_does_not_know(tagger, tmp_path):
    with pytest.raises(ProbeError, match="holds the types river, which the probe does not know; it knows boat, time"):
        score_tagger(tagger, [Document("d", "the", spans=(Span(0, 3, "river"),))], cache=tmp_path)


def test_corpora_without_mentions(tmp_path):
    (tmp_path / "a.txt").write_text("O\tthe\nB-boat\tferry\n")
    with pytest.raises(CorpusError, match="holds no annotated mention; .* --format conll reads it as words and tags"):
        read_annotated([tmp_path / "a.txt"])
    documents, _ = read_annotated([tmp_path / "a.txt"], "conll")
    assert [span.label for document in documents for span in document.spans] == ["boat"]
    (tmp_path / "b.conll").write_text("the\tO\nferry\tO\n")
    with pytest.raises(CorpusError, match="needed here$"):
        read_annotated([tmp_path / "b.conll"])


def test_a_probe_whose_data_never_showed_a_word_of_none(tmp_path):
    texts = [Document(str(i), "ferry seven", spans=(Span(0, 5, "boat"), Span(6, 11, "time"))) for i in range(2)]
    tagger = train_probe(texts, hash_encoder(), cache=tmp_path)
    assert tagger.head.weights.classes.tolist() == [1, 2]
    (found,) = tagger.tag([Document("x", "seven ferry")])
    assert [span.label for span in found.spans] == ["time", "boat"]


def test_a_type_may_be_called_none_and_one_span_of_o_is_no_mention(tmp_path):
    named = [
        replace(
            one, spans=tuple(replace(span, label={"boat": "None", "time": "time"}[span.label]) for span in one.spans)
        )
        for one in TRAINING
    ]
    named[0] = replace(named[0], spans=(*named[0].spans, Span(0, 3, "O")))  # "the"
    tagger = train_probe(named, wide_encoder(), C=10.0, cache=tmp_path)
    assert (tagger.types, tagger.head.facts.training.left_out) == (("None", "time"), {"O": 1})
    (found,) = tagger.tag("the ferry at seven")
    assert [(span.start, span.end, span.label) for span in found.spans] == [(4, 9, "None"), (13, 18, "time")]
    scores = score_tagger(tagger, named, cache=tmp_path)
    assert scores.span_micro_f1 == 1
    assert scores.to_dict()["per_type"]["None"]["spans"] == 4
    assert scores.to_dict(confusion=True)["confusion"]["classes"] == [
        "None",
        "None",
        "time",
    ]  # the first are words in no mention
    with pytest.raises(ProbeError, match="holds no annotated mention"):
        train_probe([Document("x", "the ferry", spans=(Span(0, 3, "O"),))], wide_encoder(), cache=tmp_path)
    with pytest.raises(ProbeError, match="holds no mention of O; its types are None, time"):
        train_probe(named, wide_encoder(), types=["O"], cache=tmp_path)
