"""Fine-tuning on tiny networks: the head that is written gives the labels of the trained network, and a run goes on."""

import json
import shutil

import numpy as np
import pytest
import torch
from fakes import FAMILIES, UNFUSED_FAMILIES, tiny_model
from safetensors.torch import load_file, save_file

from nuner_embed import Corpus, Document, Span, Tagger, export_onnx, load_encoder, open_head
from nuner_embed.errors import PretrainingError, ProbeError
from nuner_embed.heads.features import embed_words
from nuner_embed.heads.support_set import choose_support
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.pretraining import finetuning as finetuning_module
from nuner_embed.pretraining import trainer as trainer_module
from nuner_embed.pretraining.examples import make_batch
from nuner_embed.pretraining.finetune_settings import FinetuneSettings
from nuner_embed.pretraining.finetuning import finetune, learnable


def tune(data, base, output, *, options=None, **values):
    values = {"epochs": 3, "learning_rate": 1e-2, "seed": 5, "validation": 0.2, **values}
    return finetune([data], output, FinetuneSettings(**values), base=str(base), threads=1, **(options or {}))


def everything(output):
    """All trained numbers of a model."""
    (head,) = (output / "head").glob("*.safetensors")
    return {**load_file(output / "model.safetensors"), **load_file(head)}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def tuned(data, base, tmp_path_factory):
    output = tmp_path_factory.mktemp("tuned") / "model"
    return output, tune(data, base, output)


def test_what_is_written(tuned):
    output, facts = tuned
    assert {path.name for path in output.iterdir()} == {
        "README.md", "config.json", "curve.png", "head", "metrics.csv", "model.safetensors", "pretrain.json",
        "recipe.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert json.loads((output / "pretrain.json").read_text()) == facts
    assert facts["support"] == {"types": ["baltic city", "boat"], "k": None, "short_types": None}
    assert (facts["data"]["kind"], facts["data"]["labels"], facts["data"]["mentions"]) == ("types", 2, 80)
    assert "`nuner-embed probe predict DIRECTORY`" in (output / "README.md").read_text()
    head = open_head(output / "head")
    assert head.types == ("baltic city", "boat")
    training = head.facts.training
    assert (training.sentences, training.k, training.seed) == (60, None, None)
    assert training.mentions == {"baltic city": 20, "boat": 60}
    assert training.iterations == facts["best_step"]
    assert 0 < training.gradient_norm < 0.1


@pytest.mark.parametrize(
    "family",
    ["bert", *(pytest.param(name, marks=pytest.mark.slow) for name in (*FAMILIES[1:], *UNFUSED_FAMILIES))],
)
def test_the_head_gives_the_labels_of_the_trained_network(family, data, tmp_path, monkeypatch):
    """Of every word of every sentence, whatever the number of its pieces."""
    base = tiny_model(family, tmp_path / "base")
    kept = []
    save = finetuning_module.FinetunedParts._save_rest

    def keep(self, *arguments):
        kept.append(self)
        save(self, *arguments)

    monkeypatch.setattr(finetuning_module.FinetunedParts, "_save_rest", keep)
    tune(data, base, tmp_path / "m", epochs=1)  # it has not learnt everything yet: labels differ within a type
    (parts,) = kept
    examples = parts._prepared.examples
    parts._network.set_training(False)
    expected = []
    for piece in range(len(examples)):
        texts, token, _ = parts._feed(make_batch(examples, np.array([piece])))
        with torch.no_grad():
            logits = parts._network.head(parts._text.tokens(texts).index_select(0, token))
        expected += [examples.labels[i] for i in logits.argmax(1).tolist()]
    tagger = Tagger.open(tmp_path / "m")
    with Corpus([data]) as corpus:
        documents = list(corpus)
    codes = tagger.head.label(embed_words(tagger.encoder, documents))
    assert [["O", *tagger.types][code] for code in codes.tolist()] == expected
    assert len(set(expected)) > 1


def test_words_of_no_type_are_learnt_as_such(data, base):
    documents = [
        Document("0", "the ferry left kiel", spans=(Span(4, 9, "boat"), Span(15, 19, "city"))),
        Document("1", "nobody left"),
    ]
    support = choose_support(documents, types=["boat"])
    tokenizer = TextTokenizer.from_directory(base)
    learnt = learnable(support, tokenizer, FinetuneSettings(validation=0.0), 40)
    examples = learnt.prepared.examples
    assert [examples.labels[i] for i in examples.label] == ["O", "boat", "O", "O", "O", "O"]
    assert (examples.last - examples.first).tolist() == [1] * 6  # of each word the first piece alone
    assert learnt.training.left_out == {"city": 1}
    assert learnt.training.mention_words == 1


def test_interrupted_it_ends_in_the_same_weights(tuned, data, base, tmp_path, monkeypatch):
    step = trainer_module.Trainer._train_step
    steps = []

    def stop_now_and_then(self, within):
        steps.append(self.step)
        if len(steps) in (2, 12, 19):
            raise KeyboardInterrupt
        step(self, within)

    monkeypatch.setattr(trainer_module, "_SECONDS_BETWEEN_STATES", -1)
    monkeypatch.setattr(trainer_module.Trainer, "_train_step", stop_now_and_then)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            tune(data, base, tmp_path / "m")
    with pytest.raises(PretrainingError, match=r"begun with another batch_size \(8 there, 4 here\); --force"):
        tune(data, base, tmp_path / "m", batch_size=4)
    with pytest.raises(PretrainingError, match="begun with another .*support"):
        tune(data, base, tmp_path / "m", options={"types": "boat"})
    tune(data, base, tmp_path / "m")
    assert same(everything(tmp_path / "m"), everything(tuned[0]))
    assert not (tmp_path / "m" / "training").exists()


def test_it_stops_early_and_takes_the_best(data, base, tmp_path, monkeypatch):
    measured_losses = iter([(0, 9.0), (5, 0.5), (8, 1.0), (8, 2.0), (7, 0.1), (9, 0.1)])
    validate, best = trainer_module.Trainer.validate, {}

    def measured(self):
        sums = validate(self)
        sums.correct, loss = next(measured_losses)
        sums.loss = loss * sums.batches
        if loss == 1.0:
            best.update({name: one.detach().clone() for name, one in self.model.named_parameters()})
        return sums

    monkeypatch.setattr(trainer_module.Trainer, "validate", measured)
    facts = tune(data, base, tmp_path / "m", epochs=20, patience=2)
    assert (facts["steps"], facts["best_step"], facts["validation_loss"]) == (4 * 7, 2 * 7, 1.0)
    head = open_head(tmp_path / "m")
    assert np.array_equal(np.sort(head.weights.intercept), np.sort(best["head.bias"].numpy()))
    found = load_file(tmp_path / "m" / "model.safetensors")
    word = "embeddings.word_embeddings.weight"
    assert torch.equal(found[word], best[f"text.network.{word}"])


@pytest.mark.parametrize("precision", ["f32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_it_learns_with_nothing_held_out(data, base, tmp_path, precision):
    facts = tune(data, base, tmp_path / "m", epochs=6, validation=0.0, precision=precision)
    assert (facts["data"]["held_out"], facts["validation_loss"], facts["steps"], facts["best_step"]) == (
        0,
        None,
        48,
        48,
    )
    (found,) = Tagger.open(tmp_path / "m").tag("the raft number 7 left oslo")
    assert [(span.start, span.label) for span in found.spans] == [(4, "boat"), (23, "baltic city")]


def test_a_drawn_support_set(data, base, tmp_path):
    facts = tune(data, base, tmp_path / "m", epochs=1, options={"k": 4})
    assert facts["data"]["texts"] < 20
    assert facts["support"] == {"types": ["baltic city", "boat"], "k": 4, "short_types": "fail"}
    training = open_head(tmp_path / "m").facts.training
    assert (training.k, training.seed) == (4, 5)
    assert all(4 <= count <= 8 for count in training.mentions.values())


def test_a_moved_model_keeps_its_head(tuned, tmp_path):
    shutil.copytree(tuned[0], tmp_path / "moved")
    tagger = Tagger.open(tmp_path / "moved")
    assert tagger.encoder.source == str(tmp_path / "moved")
    weights = load_file(tmp_path / "moved" / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] += 1
    save_file(weights, tmp_path / "moved" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ProbeError, match="this head was made for"):
        Tagger.open(tmp_path / "moved")


def test_what_a_killed_process_left_of_its_folder_is_removed(tuned, data, base, tmp_path):
    shutil.copytree(tuned[0], tmp_path / "m")
    (tmp_path / "m" / "training" / "placing").mkdir(parents=True)
    with pytest.raises(PretrainingError, match="holds a finished model; name another directory"):
        tune(data, base, tmp_path / "m")
    assert not (tmp_path / "m" / "training").exists()
    (tmp_path / "m" / "training").mkdir()
    (tmp_path / "m" / "training" / "thesis.txt").write_text("mine")
    with pytest.raises(PretrainingError, match="holds training/thesis.txt"):
        tune(data, base, tmp_path / "m")
    assert (tmp_path / "m" / "training" / "thesis.txt").exists()


@pytest.mark.slow
def test_an_export_carries_the_head_that_it_can_read(tuned, tmp_path):
    export_onnx(str(tuned[0]), tmp_path / "exported")
    text = "the raft number 7 left oslo"
    assert (
        Tagger.open(tmp_path / "exported").tag(text)[0].spans[0].label
        == Tagger.open(tuned[0]).tag(text)[0].spans[0].label
    )
    assert load_encoder(str(tmp_path / "exported")).semantic_hash == open_head(tuned[0]).semantic_hash
    export_onnx(str(tuned[0]), tmp_path / "other", layers=(-2,))
    assert not (tmp_path / "other" / "head").exists()


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({}, {"types": "train"}, "holds no mention of train; its types are baltic city, boat"),
        ({}, {"k": 50}, "too few mentions for k = 50: baltic city has 20 of 50"),
        ({"max_length": 99}, {}, "takes at most 40 tokens, not 99"),
    ],
)
def test_what_cannot_be_learnt(data, base, tmp_path, values, options, message):
    with pytest.raises((PretrainingError, ProbeError), match=message):
        tune(data, base, tmp_path / "m", **values, options=options)
    assert not (tmp_path / "m" / "pretrain.json").exists()


def test_a_type_in_held_out_sentences_alone(base, tmp_path):
    lines = [f'{{"text": "ferry {i}", "spans": [{{"start": 0, "end": 5, "label": "t{i}"}}]}}' for i in range(4)]
    (tmp_path / "few.jsonl").write_text("\n".join(lines))
    with pytest.raises(PretrainingError, match=r"all words of t\d are in held-out sentences; hold out none \(--valid"):
        tune(tmp_path / "few.jsonl", base, tmp_path / "m")
    (tmp_path / "one.jsonl").write_text('{"text": "ferry", "spans": [{"start": 0, "end": 5, "label": "boat"}]}')
    with pytest.raises(PretrainingError, match="one.jsonl holds words of one class only"):
        tune(tmp_path / "one.jsonl", base, tmp_path / "m")
