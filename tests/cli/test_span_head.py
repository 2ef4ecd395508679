"""`nuner-embed pretrain --objective spans`, and what `tag` does with the span head that it makes."""

import contextlib
import gzip
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from command import run

import nuner_embed
from nuner_embed.bundled import SENTENCES
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.errors import PretrainingError, ProbeError
from nuner_embed.heads.spans import SpanHead, load_span_head
from nuner_embed.heads.zero_shot import named_tagger
from nuner_embed.models.resolver import locate
from nuner_embed.pretraining.facts import read_model
from nuner_embed.pretraining.settings import PretrainSettings
from nuner_embed.pretraining.span_data import AnnotatedCorpus
from nuner_embed.pretraining.span_run import SpanJob
from nuner_embed.runtimes import weights_selection

TRAIN = ("--objective", "spans", "--epochs", "2", "--batch-size", "16", "--threads", "1")
COMMAND = ("pretrain", "c.jsonl", *TRAIN)
SOME = 60
TEXT = "Ines Varga flew from Lisbon to Oslo."


@pytest.fixture(scope="module")
def place(default_model, tmp_path_factory):
    """Some of our sentences, a thesaurus, the model `made` of both; and `m`, nuner-mini exported."""
    folder = tmp_path_factory.mktemp("spans")
    (folder / "m").symlink_to(default_model)
    (folder / "c.jsonl").write_text("".join(SENTENCES.read_text().splitlines(keepends=True)[:SOME]))
    (folder / "t.tsv").write_text("city\ttown|municipality|burg\tpopulated place|location\nperson\t-\t-\n\n")
    run(*COMMAND, "-o", "made", "--thesaurus", "t.tsv", cwd=folder, check=0)
    return folder


def test_the_model_has_a_span_head_and_all_that_its_base_has(place):
    facts = read_model(place / "made")
    assert (facts.settings["objective"], facts.data.kind, facts.data.labels > 20) == ("spans", "concepts", True)
    assert facts.thesaurus is not None
    assert facts.validation_top1 is not None
    head = load_span_head(str(place / "made"))
    assert isinstance(head, SpanHead)
    assert head.types == ()
    for name in ("model.safetensors", "concept_encoder/concepts.json", "detector/probe.json"):
        assert (place / "made" / name).read_bytes() == (locate("nuner-mini").directory / name).read_bytes()
    (document,) = nuner_embed.extract(TEXT, ["city", "person"], model=str(place / "made"), threshold=0.001)
    assert {s.label for s in document.spans} <= {"city", "person"}


def found(place, *arguments):
    """The mentions that `tag` finds in the text."""
    (place / "notes.txt").write_text(f"{TEXT}\n")
    lines = run("tag", "notes.txt", "--types", "city,person", "--model", "m", *arguments, cwd=place, check=0).stdout
    spans = [span for line in lines.splitlines() for span in json.loads(line)["spans"]]
    return [(span["text"], span["label"], round(span["score"], 3)) for span in spans]


def test_tag_takes_the_span_head_unless_asked_otherwise(place):
    ways = {way: found(place, "--decode", way) for way in ("auto", "spans", "words")}
    ways["detector"] = found(place, "--detector", "m/detector")
    assert ways["auto"] == ways["spans"]
    assert len({str(way) for way in ways.values()}) == 3
    for way in ways.values():
        assert {(text, label) for text, label, _ in way} >= {("Lisbon", "city"), ("Oslo", "city")}


@pytest.mark.slow
def test_nested_mentions_and_a_saved_head_of_named_types(place):
    flat, nested = found(place, "--threshold", "0.001"), found(place, "--threshold", "0.001", "--nested")
    assert len(nested) > len(flat)
    named = ["--concepts", "city,person", "--decode", "spans", "--model", "m"]
    run("probe", "train", "-o", "p", *named, cwd=place, check=0)
    done = run("probe", "predict", "p", "notes.txt", "--json", cwd=place, check=0)
    spans = json.loads(done.stdout.splitlines()[0])["spans"]
    assert [(s["text"], s["label"], round(s["score"], 3)) for s in spans] == found(place)
    assert all(set(s["scores"]) == {"city", "person"} for s in spans)


@pytest.mark.slow
def test_killed_it_goes_on_and_ends_alike(place, tmp_path):
    for name in ("c.jsonl", "t.tsv"):
        (tmp_path / name).symlink_to(place / name)
    command = [*COMMAND, "-o", "again", "--thesaurus", "t.tsv"]
    for seconds in (4, 7, 9):
        with contextlib.suppress(subprocess.TimeoutExpired):  # the end of the time kills the process
            subprocess.run(
                [sys.executable, "-m", "nuner_embed.cli", *command], cwd=tmp_path, capture_output=True, timeout=seconds
            )
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0 or "holds a finished model" in done.stderr
    heads = [next((folder / "span_head").glob("weights-*")) for folder in (place / "made", tmp_path / "again")]
    assert heads[0].read_bytes() == heads[1].read_bytes()


def test_words_are_embedded_in_one_precision_on_every_processor(monkeypatch):
    monkeypatch.setattr(weights_selection, "has_bf16", lambda: True)
    monkeypatch.setattr(weights_selection, "_measure", lambda *given: pytest.fail("a precision is chosen by its speed"))
    settings = PretrainSettings.preset("spans")
    job = SpanJob("nuner-mini", AnnotatedCorpus([], {}, None, Path()), settings, "cpu", 1)
    assert job._encoder.runtime.precision == "f32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base", "minilm-l6"], "has no concept encoder"),
        (["--thesaurus", "bad.tsv"], "bad.tsv, line 2: expected concept, synonyms and broader types"),
        (["--thesaurus", "none.tsv"], "none.tsv: the thesaurus cannot be read"),
        (["--thesaurus", "bad.gz"], "bad.gz: the thesaurus cannot be read"),
        (["--thesaurus", "nothing.tsv"], "nothing.tsv: the thesaurus holds no concept"),
        (["--thesaurus", "unnamed.tsv"], "unnamed.tsv, line 2: the concept is empty"),
        (["--probe-set", "sea", "c.jsonl", "c.jsonl"], "a probe set measures a text encoder"),
        (["--objective", "token-classification", "--thesaurus", "t.tsv"], "a thesaurus goes with"),
    ],
)
def test_what_cannot_be_is_one_line(place, arguments, message):
    (place / "bad.tsv").write_text("city\ttown\t-\ncity town\n")
    damaged = bytearray(gzip.compress(b"city\ttown\t-\n"))
    damaged[10] = 0xFF  # no kind of block that there is
    (place / "bad.gz").write_bytes(damaged)
    (place / "nothing.tsv").write_text("\n")
    (place / "unnamed.tsv").write_text("city\ttown\t-\n \ttown\t-\n")
    done = run("pretrain", "c.jsonl", "-o", "refused", *TRAIN, *arguments, cwd=place)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "refused" / "pretrain.json").exists()


def test_nested_mentions_take_a_span_head(place):
    (place / "notes.txt").write_text(f"{TEXT}\n")
    command = ["tag", "notes.txt", "--types", "city", "--model", "m", "--nested"]
    for arguments, code, message in (
        (["--decode", "words"], 2, "--nested takes a span head, and does not go with --decode words"),
        (["--detector", "m/detector"], 2, "--detector does not go with --nested"),
    ):
        done = run(*command, *arguments, cwd=place)
        assert (done.returncode, message in done.stderr) == (code, True), done.stderr


@pytest.mark.slow
def test_labels_that_are_no_names_are_left_out(place, tmp_path):
    lines = [json.loads(line) for line in (place / "c.jsonl").read_text().splitlines()]
    nameless = "\u200b", " ", "very " * 700 + "long"
    for line, label in zip(lines, nameless, strict=False):
        line["spans"][0]["label"] = label
    (tmp_path / "n.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    whole = sum(len(line["spans"]) for line in lines)
    done = run("pretrain", "n.jsonl", *TRAIN, "-o", "n", "--json", cwd=tmp_path, check=0)
    data = json.loads(done.stdout)["data"]
    assert data["mentions"] + data["mentions_lost"] == whole
    assert data["mentions_lost"] >= len(nameless)
    assert "a label that is no name" in done.stderr


def test_a_span_head_that_cannot_be_used_is_not_passed_over(place, tmp_path):
    """The model's detector would find mentions, too, and nobody would notice."""
    model = tmp_path / "model"
    shutil.copytree(place / "m", model)
    facts = model / "span_head" / "probe.json"
    facts.unlink()
    with pytest.raises(ProbeError, match="span_head holds no probe"):
        load_span_head(str(model))
    shutil.copyfile(model / "detector" / "probe.json", facts)
    with pytest.raises(ProbeError, match="span_head"):
        load_span_head(str(model))
    shutil.rmtree(model / "span_head")
    assert load_span_head(str(model)) is None


def test_the_head_of_another_model_is_named(place):
    head = load_span_head(str(place / "m"))
    other = replace(head, facts=replace(head.facts, semantic_hash="0" * 64, model="elsewhere"))
    with pytest.raises(ProbeError, match=r"the span head was made for another model.* elsewhere \(000000000000\)"):
        other.named({"city": "city"}, ConceptEncoder.open(str(place / "m")))


def test_numbers_too_large_for_16_bits_are_one_line(monkeypatch, place, tmp_path):
    torch = pytest.importorskip("torch")
    from nuner_embed.pretraining.run import pretrain
    from nuner_embed.pretraining.settings import PretrainSettings
    from nuner_embed.pretraining.span_network import SpanNetwork

    score = SpanNetwork.score
    monkeypatch.setattr(SpanNetwork, "score", lambda self, batch: tuple(1e6 * one for one in score(self, batch)))
    settings = PretrainSettings.preset("spans", objective="spans", epochs=1)
    before = torch.get_num_threads()
    with pytest.raises(PretrainingError, match="cannot be written in 16 bits .* smaller --learning-rate"):
        pretrain(place / "c.jsonl", tmp_path / "large", settings, base=str(place / "made"), threads=1)
    assert torch.get_num_threads() == before


def test_a_head_without_types_scores_none(place):
    (place / "notes.txt").write_text(f"{TEXT}\n")
    done = run("probe", "predict", "m/span_head", "notes.txt", "--json", cwd=place, check=0)
    spans = json.loads(done.stdout.splitlines()[0])["spans"]
    assert "Oslo" in {span["text"] for span in spans}
    assert not any(span.get("label") or span.get("scores") for span in spans)


def test_an_unknown_way_to_decode_is_refused(place):
    with pytest.raises(ValueError, match="decode is one of auto, spans, words, not 'span'"):
        named_tagger(["city"], model=str(place / "m"), decode="span")
