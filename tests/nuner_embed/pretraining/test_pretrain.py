"""The whole job on tiny networks: it goes on exactly, it equals a plain loop, and what it writes is what it says."""

import csv
import json
import math
import shutil

import numpy as np
import pytest
import torch
import transformers
from fakes import SHARED_DATA
from pretraining_runs import metrics, run, same, weights
from safetensors.torch import load_file, save_file

import nuner_embed
from nuner_embed import pretrain
from nuner_embed.documents import Document
from nuner_embed.errors import PretrainingError
from nuner_embed.evaluation.fewshot import TypedSet
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.pretraining import trainer as trainer_module
from nuner_embed.pretraining.data import hold_out
from nuner_embed.pretraining.examples import make_batch, make_examples, plan_epoch
from nuner_embed.pretraining.run_state import rate_at
from nuner_embed.pretraining.settings import PretrainSettings

# such a small network learns something new in a few epochs only if all of it may change
WHOLE = {"epochs": 4, "batch_size": 4, "learning_rate": 1e-2, "frozen_layers": 0, "frozen_concept_layers": 0}


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_it_learns(data, base, tmp_path, precision):
    facts = run(data, base, tmp_path / "m", precision=precision, **WHOLE)
    validated = [row for row in metrics(tmp_path / "m") if row["validation_loss"]]
    assert float(validated[-1]["validation_loss"]) < 0.02 * float(validated[0]["validation_loss"])
    assert facts["validation_top1"] > 0.9
    assert facts["validation_loss"] == pytest.approx(float(validated[-1]["validation_loss"]), rel=1e-4)
    assert [float(row["epoch"]) for row in validated] == pytest.approx(np.arange(0, 4.1, 0.5), abs=0.05)
    ours, theirs = (transformers.AutoModel.from_pretrained(place) for place in (tmp_path / "m", base))
    changed = {name for name, one in theirs.named_parameters() if not torch.equal(one, ours.get_parameter(name))}
    assert "embeddings.word_embeddings.weight" in changed
    assert {one.dtype for one in load_file(tmp_path / "m" / "model.safetensors").values()} == {torch.float32}


def test_what_it_writes_is_a_drop_in_for_its_base(trained, base):
    output, _ = trained
    ours = transformers.AutoModel.from_pretrained(output)
    theirs = transformers.AutoModel.from_pretrained(base)
    assert type(ours) is type(theirs)
    assert {n: p.shape for n, p in ours.named_parameters()} == {n: p.shape for n, p in theirs.named_parameters()}
    changed = {n for n, p in theirs.named_parameters() if not torch.equal(p, ours.get_parameter(n))}
    assert changed
    assert all(".layer.1." in name for name in changed)  # the upper of two layers
    assert (output / "config.json").read_bytes() == (base / "config.json").read_bytes()
    assert (output / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    encoder = nuner_embed.load_encoder(str(output))
    (embedded,) = encoder.encode([Document("1", "the ferry left kiel")])
    ids = torch.tensor([[*encoder.tokenizer.prefix, *encoder.tokenizer.encode(["the ferry left kiel"])[0][0]]])
    ids = torch.cat([ids, torch.tensor([encoder.tokenizer.suffix])], 1)
    with torch.no_grad():
        expected = ours.eval()(ids).last_hidden_state[0, 1:-1].numpy()
    assert np.allclose(embedded.vectors, expected, atol=1e-5)


def test_the_rest_of_what_it_writes(trained, base, data):
    output, facts = trained
    names = {path.name for path in output.iterdir()}
    assert names == {
        "README.md", "concept_encoder", "config.json", "curve.png", "metrics.csv", "model.safetensors", "pretrain.json",
        "recipe.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert json.loads((output / "pretrain.json").read_text()) == facts
    assert facts["data"]["texts"] == 60
    assert facts["data"]["labels"] == 2
    assert facts["data"]["files"] == [data.name]
    assert set(facts["similarity"]) == {"scale", "bias"}
    assert (output / "curve.png").read_bytes().startswith(b"\x89PNG")
    for card in (output / "README.md", output / "concept_encoder" / "README.md"):
        assert card.read_text().startswith(f'---\nbase_model: "{base.name}"')
    assert transformers.AutoModel.from_pretrained(output / "concept_encoder").config.num_hidden_layers == 2


def test_twice_is_the_same_and_another_seed_is_not(trained, data, base, tmp_path):
    run(data, base, tmp_path / "again")
    assert same(weights(tmp_path / "again"), weights(trained[0]))
    run(data, base, tmp_path / "other", seed=6)
    assert not same(weights(tmp_path / "other"), weights(trained[0]))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_interrupted_it_ends_in_the_same_weights(data, base, tmp_path, monkeypatch, accumulate):
    """Stopped within a training step several times, its state kept at some earlier step."""
    run(data, base, tmp_path / "whole", accumulate=accumulate)
    step, keep = trainer_module.Trainer._train_step, trainer_module.Trainer.keep
    steps = []

    def stop_now_and_then(self, within):
        steps.append(self.step)
        if len(steps) in (2, 6, 7):
            raise KeyboardInterrupt
        step(self, within)

    def keep_every_other(self):
        if self.step % 2 == 0 or self.step == self.steps:
            keep(self)

    monkeypatch.setattr(trainer_module, "_SECONDS_BETWEEN_STATES", -1)
    monkeypatch.setattr(trainer_module.Trainer, "_train_step", stop_now_and_then)
    monkeypatch.setattr(trainer_module.Trainer, "keep", keep_every_other)
    notes = []
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(data, base, tmp_path / "halting", accumulate=accumulate, options={"note": notes.append})
        assert not (tmp_path / "halting" / "config.json").exists()
    run(data, base, tmp_path / "halting", accumulate=accumulate, options={"note": notes.append})
    assert any("continuing from step" in text for text in notes)
    assert len(steps) > len(set(steps))
    assert same(weights(tmp_path / "halting"), weights(tmp_path / "whole"))
    assert metrics(tmp_path / "halting") == metrics(tmp_path / "whole")


def test_the_cache_changes_nothing_but_rounding(data, base, tmp_path):
    for cache in (True, False):
        run(data, base, tmp_path / str(cache), epochs=1, dropout=0.0, options={"cache": cache})
    kept, computed = (weights(tmp_path / name) for name in ("True", "False"))
    for name in kept:
        assert torch.allclose(kept[name], computed[name], atol=3e-3), name


def plainly(data, base, settings):
    """Section 3.2 as one would write it down: dense arrays, whole networks, torch's own loss and optimizer."""
    tokenizer = TextTokenizer.from_directory(base)
    with nuner_embed.Corpus([data]) as corpus:
        examples = make_examples(corpus, tokenizer, 40)
    train, _ = hold_out(examples, settings.validation, settings.seed)
    text, concept = (transformers.AutoModel.from_pretrained(base, add_pooling_layer=False).eval() for _ in range(2))
    for network in (text, concept):
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(".layer.1." in name)
    first = plan_epoch(examples.lengths, train, settings.batch_size, [settings.seed, 1, 0], by_length=False)
    total = positive = 0
    for pieces in first[:20]:
        batch = make_batch(examples, pieces)
        positive, total = positive + len(batch.token), total + batch.tokens * len(batch.labels)
    prior = positive / total
    scale = torch.nn.Parameter(torch.tensor(math.log(settings.scale)))
    bias = torch.nn.Parameter(torch.tensor(math.log(prior / (1 - prior))))
    changing = [p for network in (text, concept) for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in changing if p.ndim > 1], "weight_decay": settings.weight_decay, "times": 1},
        {"params": [p for p in changing if p.ndim == 1], "weight_decay": 0.0, "times": 1},
        {"params": [scale, bias], "weight_decay": 0.0, "times": settings.scale_rate},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-6)
    pad = transformers.PreTrainedTokenizerFast(tokenizer_file=str(base / "tokenizer.json"), pad_token="[PAD]")
    steps = len(first)
    for step, pieces in enumerate(first):
        ids = [examples.tokens(i).tolist() for i in pieces]
        batch = pad.pad({"input_ids": ids}, return_tensors="pt")
        names = sorted({int(examples.label[j]) for i in pieces for j in range(*_bounds(examples, i))})
        targets = torch.zeros(len(pieces), batch["input_ids"].shape[1], len(names))
        counts = torch.zeros(targets.shape[:2], dtype=torch.bool)
        for row, i in enumerate(pieces):
            counts[row, 1 : len(ids[row]) - 1] = True
            for j in range(*_bounds(examples, i)):
                targets[row, examples.first[j] : examples.last[j], names.index(examples.label[j])] = 1
        tokens = text(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        vectors = []
        for name in names:
            inner = tokenizer.encode([examples.labels[name]])[0][0]
            one = torch.tensor([[*tokenizer.prefix, *inner, *tokenizer.suffix]])
            vectors.append(concept(one).last_hidden_state[0, 1:-1].mean(0))
        cosines = (
            torch.nn.functional.normalize(tokens, dim=-1)
            @ torch.nn.functional.normalize(torch.stack(vectors), dim=-1).T
        )
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            (scale.exp() * cosines + bias)[counts], targets[counts], reduction="none"
        )
        loss.sum(1).mean().backward()
        torch.nn.utils.clip_grad_norm_([*changing, scale, bias], settings.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps, settings) * group["times"]
        optimizer.step()
        optimizer.zero_grad()
    return text, concept


def _bounds(examples, piece):
    ranges = examples.ranges_of(int(piece))
    return ranges.start, ranges.stop


def test_it_equals_a_plain_loop(data, base, tmp_path):
    settings = PretrainSettings(epochs=1, batch_size=8, learning_rate=1e-3, dropout=0.0, seed=5)
    pretrain([data], tmp_path / "ours", settings, base=str(base), threads=1, cache=False)
    text, concept = plainly(data, base, settings)
    ours = weights(tmp_path / "ours")
    for prefix, network in (("", text), ("concept ", concept)):
        for name, parameter in network.named_parameters():
            assert torch.allclose(ours[prefix + name], parameter, atol=2e-5), name


def test_the_schedule_is_the_librarys():
    settings = PretrainSettings(learning_rate=1.0, warmup_ratio=0.1)
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 10, 100)
    for step in range(100):
        if step >= 10:  # while it rises, ours begins above 0: a first step at rate 0 learns nothing
            assert rate_at(step, 100, settings) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rate_at(0, 100, settings) == pytest.approx(1 / 11)


def test_the_papers_loss(data, base, tmp_path):
    facts = run(data, base, tmp_path / "paper", loss="paper", **WHOLE)
    assert facts["similarity"] == {"temperature": 5.0}
    assert facts["validation_top1"] > 0.9


def test_nothing_but_tags(data, base, tmp_path):
    facts = run(data, base, tmp_path / "tags", objective="token-classification", **WHOLE)
    assert facts["data"]["kind"] == "tags"
    assert facts["data"]["labels"] == 3  # O, B-boat, B-baltic city
    assert facts["validation_top1"] > 0.95
    assert not (tmp_path / "tags" / "concept_encoder").exists()
    assert transformers.AutoModel.from_pretrained(tmp_path / "tags") is not None


def test_top_concepts_and_samples(data, base, tmp_path):
    facts = run(data, base, tmp_path / "few", epochs=1, top_concepts=1, sample=20)
    assert (facts["data"]["texts"], facts["data"]["labels"]) == (20, 1)


def test_a_quick_probe(data, base, tmp_path):
    with nuner_embed.Corpus([data]) as corpus:
        documents = tuple(corpus)
    typed = TypedSet("x", documents, documents, "y")
    facts = run(data, base, tmp_path / "p", epochs=1, options={"probe_set": typed})
    with (tmp_path / "p" / "metrics.csv").open() as stream:
        found = [float(row["probe_f1"]) for row in csv.DictReader(stream) if row["probe_f1"]]
    assert len(found) == 3
    assert 0.5 < facts["probe_f1"] <= 1
    facts = run(data, base, tmp_path / "q", epochs=1, validation=0, options={"probe_set": typed})
    assert facts["validation_loss"] is None
    assert 0.5 < facts["probe_f1"] <= 1


def test_what_cannot_be_trained(data, base, tmp_path):
    (tmp_path / "none.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(PretrainingError, match=r"none\.jsonl holds no annotated mention; nuner-embed annotate"):
        run(tmp_path / "none.jsonl", base, tmp_path / "m")
    (tmp_path / "unnamed.jsonl").write_text('{"text": "a", "spans": [{"start": 0, "end": 1}]}\n')
    with pytest.raises(PretrainingError, match="no mention with a concept in its training part"):
        run(tmp_path / "unnamed.jsonl", base, tmp_path / "m")
    with pytest.raises(PretrainingError, match="takes at most 40 tokens, not 512"):
        run(data, base, tmp_path / "m", max_length=512)
    with pytest.raises(PretrainingError, match="has 2 layers; 2 cannot be frozen"):
        run(data, base, tmp_path / "m", frozen_layers=2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    with pytest.raises(PretrainingError, match="full holds x and no pretrain.json: it is not a finished model"):
        run(data, base, tmp_path / "full", options={"force": True})
    assert (tmp_path / "full" / "x").read_text() == "mine"
    run(data, base, tmp_path / "m", epochs=1)  # what was refused left no trace


def test_a_loss_that_is_no_number_ends_the_run(data, base, tmp_path):
    shutil.copytree(base, tmp_path / "broken")
    weights = load_file(base / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][:] = math.inf
    save_file(weights, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PretrainingError, match="the loss is not finite at step"):
        run(data, tmp_path / "broken", tmp_path / "m", frozen_layers=0, frozen_concept_layers=0)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_DATA.exists(), reason=f"{SHARED_DATA} is not there")
def test_real_annotations(base, tmp_path):
    path = SHARED_DATA / "llm-annotated" / "annotated.jsonl.gz"
    facts = run(path, base, tmp_path / "m", epochs=1, sample=300)
    assert facts["data"]["texts"] == 300
    assert facts["data"]["mentions"] > 1000
