"""Compares `pretrain` with the same recipe written plainly with the HF Trainer, by speed and held-out loss.

    python benchmarks/pretrain.py [--texts 1200] [--seeds 3]

All runs train the two encoders of section 3.2 on the same texts for five epochs, with the same values, precision and
threads: the lower half of each frozen, AdamW, the loss `sigmoid`, the base's dropout. In the plain version the frozen
layers have dropout too, since the Trainer calls `train()` on the whole model; in ours they have none, because their
output is kept. A second Trainer run switches the dropout of the frozen layers off, for the comparison only.

The runs take turns, an epoch each, so that other work on the machine slows all of them alike. After every epoch one
function computes the held-out loss for all of them, outside the measured time. Loading the models and keeping the
output of the frozen layers is inside the measured time. Ours runs with several seeds of order and dropout; their spread
is the noise with which the curves are compared.
"""

import argparse
import math
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from common import WORK, data_file, keep, machine
from torch import nn
from torch.nn import functional as F

from nuner_embed.machine import cores
from nuner_embed.models.resolver import locate
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.pretraining.data import Prepared, prepare, tokenized_names
from nuner_embed.pretraining.examples import Examples, make_batch, plan_epoch, positive_share
from nuner_embed.pretraining.feed import Source, contrastive_feed
from nuner_embed.pretraining.halves import Halves
from nuner_embed.pretraining.objectives import BiEncoder
from nuner_embed.pretraining.parts import Base, Parts, Workplace
from nuner_embed.pretraining.processes import Processes
from nuner_embed.pretraining.settings import PretrainSettings
from nuner_embed.pretraining.trainer import Reporter, Sums

BASE = "minilm-l6"
DATA = "llm-annotated/annotated.jsonl.gz"
NAMES = {
    "ours": "nuner-embed pretrain",
    "plain": "HF Trainer, written plainly",
    "without": "HF Trainer, frozen layers without dropout",
    "grouped": "HF Trainer, written plainly, `group_by_length`",
}


def take_turns(*trainings: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs trainings in processes of their own, a stretch of each in turn, until all have ended.

    In one process they would share the threads of OpenMP, and the training with more small operations would lose more.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for training in trainings:
        mine, theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(training, theirs)))
        pipes.append(mine)
        processes[-1].start()
    found: list[dict[str, Any]] = [{} for _ in trainings]
    waiting = list(range(len(trainings)))
    while waiting:
        for number in list(waiting):
            pipes[number].send("go")
            result = pipes[number].recv()
            if result is not None:
                found[number] = result
                print(result, flush=True)
                waiting.remove(number)
                processes[number].join()
    return found


def _serve(training: Callable[..., dict[str, Any]], pipe: Any) -> None:
    torch.set_num_threads(cores())
    transformers.logging.set_verbosity_error()
    pipe.recv()
    pipe.send(training(partial(_pause, pipe)))


def _pause(pipe: Any) -> float:
    """Lets the other trainings run; returns how many seconds that took."""
    began = time.perf_counter()
    pipe.send(None)
    pipe.recv()
    return time.perf_counter() - began


class HeldOut:
    """The held-out loss of any two networks, over the batches of our own validation."""

    def __init__(self, prepared: Prepared, settings: PretrainSettings) -> None:
        self.model = locate(BASE)
        self.tokenizer = TextTokenizer.from_directory(self.model.directory)
        self.examples, self.settings = prepared.examples, settings
        self.batches = plan_epoch(prepared.examples.lengths, prepared.held_out, settings.batch_size, [settings.seed, 0])

    @torch.no_grad()
    def loss(self, text: Any, concept: Any, scale: float, bias: float) -> float:
        halves = [_uncut(network) for network in (text, concept)]
        ids, bounds, _ = tokenized_names(self.examples.labels, self.tokenizer)
        model = BiEncoder(*halves, self.settings, 0.5)
        model.log_scale.fill_(math.log(scale))
        model.bias.fill_(bias)
        rest = (self.examples.specials, None, self.model.config.pad_id, torch.device("cpu"))
        feed = contrastive_feed(
            Source(halves[0], self.examples.ids, self.examples.bounds, *rest),
            Source(halves[1], ids, bounds, *rest),
        )
        losses = [float(model(*feed(make_batch(self.examples, pieces))).loss) for pieces in self.batches]
        return float(np.mean(losses))


def _uncut(network: Any) -> Halves:
    """A network as it is, with the settings of its parameters unchanged."""
    halves = Halves.__new__(Halves)
    nn.Module.__init__(halves)
    halves.network, halves.cut = network, 0
    return halves


class PlainBiEncoder(nn.Module):
    """Section 3.2 written plainly: dense arrays, whole networks."""

    def __init__(self, settings: PretrainSettings, prior: float, *, frozen_dropout: bool) -> None:
        super().__init__()
        directory = locate(BASE).directory
        self.text, self.concept = (
            transformers.AutoModel.from_pretrained(directory, add_pooling_layer=False) for _ in range(2)
        )
        self.frozen_dropout = frozen_dropout
        for part in self.frozen():
            part.requires_grad_(False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.scale)))
        self.bias = nn.Parameter(torch.tensor(math.log(prior / (1 - prior))))

    def frozen(self) -> list[nn.Module]:
        return [
            part for network in (self.text, self.concept) for part in (network.embeddings, *network.encoder.layer[:3])
        ]

    def train(self, mode: bool = True) -> "PlainBiEncoder":
        super().train(mode)
        if not self.frozen_dropout:
            for part in self.frozen():
                part.eval()
        return self

    def forward(self, texts: Any, concepts: Any, inner: Any, pooled: Any, targets: Any) -> dict[str, torch.Tensor]:
        tokens = F.normalize(self.text(**texts).last_hidden_state, dim=-1)
        names = self.concept(**concepts).last_hidden_state
        vectors = F.normalize((names * pooled[..., None]).sum(1) / pooled.sum(1, keepdim=True), dim=-1)
        logits = torch.einsum("bld,cd->blc", tokens, vectors) * self.log_scale.exp() + self.bias
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(-1)
        return {"loss": (losses * inner).sum() / inner.sum()}


class Collator:
    """Pads the texts of a batch, collects and tokenizes its concepts, and fills the dense array."""

    def __init__(self) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(locate(BASE).directory)

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        texts = self.tokenizer.pad([{"input_ids": item["input_ids"]} for item in items], return_tensors="pt")
        names = sorted({name for item in items for _, _, name in item["mentions"]})
        concepts = self.tokenizer(names, padding=True, return_tensors="pt")
        place = {name: i for i, name in enumerate(names)}
        targets = torch.zeros(*texts["input_ids"].shape, len(names))
        inner = texts["attention_mask"].float()
        for row, item in enumerate(items):
            inner[row, 0] = inner[row, len(item["input_ids"]) - 1] = 0
            for first, last, name in item["mentions"]:
                targets[row, first:last, place[name]] = 1
        pooled = concepts["attention_mask"].float()
        pooled[torch.arange(len(names)), concepts["attention_mask"].sum(1) - 1] = 0
        pooled[:, 0] = 0
        texts, concepts = dict(texts), {key: concepts[key] for key in ("input_ids", "attention_mask")}
        return {"texts": texts, "concepts": concepts, "inner": inner, "pooled": pooled, "targets": targets}


def items(examples: Examples, pieces: Any) -> list[dict[str, Any]]:
    """The training part as a plain list."""
    found = []
    for piece in pieces:
        ranges = examples.ranges_of(int(piece))
        names = [examples.labels[label] for label in examples.label[ranges]]
        mentions = list(zip(examples.first[ranges].tolist(), examples.last[ranges].tolist(), names, strict=True))
        ids = examples.tokens(int(piece)).tolist()
        found.append({"input_ids": ids, "length": len(ids), "mentions": mentions})
    return found


def setup(settings: PretrainSettings) -> tuple[Prepared, HeldOut]:
    """The data; the same for every seed of order and dropout."""
    shared = replace(settings, seed=0)
    tokenizer = TextTokenizer.from_directory(locate(BASE).directory)
    prepared = prepare([data_file(DATA)], {}, tokenizer, shared, 256, lambda *_: None)
    return prepared, HeldOut(prepared, shared)


def run_plain(settings: PretrainSettings, kind: str, pause: Callable[[], float]) -> dict[str, Any]:
    """Trains with the HF Trainer; returns the seconds without measuring held-out losses, and these losses."""
    prepared, held_out = setup(settings)
    epochs = settings.epochs
    begun = time.perf_counter()
    transformers.set_seed(settings.seed)
    lengths, seed = prepared.examples.lengths, [settings.seed, 1, 0]
    first = plan_epoch(lengths, prepared.train, settings.batch_size, seed, by_length=False)
    prior = positive_share(make_batch(prepared.examples, pieces) for pieces in first[:20])
    model = PlainBiEncoder(settings, prior, frozen_dropout=kind != "without")
    loading = time.perf_counter() - begun
    curve: list[float] = []
    measuring = 0.0

    def measure() -> None:
        nonlocal measuring
        began = time.perf_counter()
        model.eval()
        curve.append(held_out.loss(model.text, model.concept, model.log_scale.exp().item(), model.bias.item()))
        model.train()
        pause()
        measuring += time.perf_counter() - began

    class AfterEpochs(transformers.TrainerCallback):
        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            measure()

    measure()
    measuring = 0.0
    dataset = items(prepared.examples, prepared.train)
    steps = -(-len(dataset) // settings.batch_size) * epochs
    changing = [one for one in model.parameters() if one.requires_grad and one.ndim]
    optimizer = torch.optim.AdamW(
        [
            {"params": [one for one in changing if one.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [one for one in changing if one.ndim == 1], "weight_decay": 0.0},
            {
                "params": [model.log_scale, model.bias],
                "weight_decay": 0.0,
                "lr": settings.learning_rate * settings.scale_rate,
            },
        ],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, round(settings.warmup_ratio * steps), steps)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=settings.batch_size,
            num_train_epochs=epochs,
            max_grad_norm=settings.max_grad_norm,
            seed=settings.seed,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_steps=1_000_000,
            remove_unused_columns=False,
            disable_tqdm=True,
            group_by_length=kind == "grouped",
        )
        trainer = transformers.Trainer(
            model, arguments, Collator(), dataset, optimizers=(optimizer, schedule), callbacks=[AfterEpochs()]
        )
        began = time.perf_counter()
        trainer.train()
        seconds = loading + time.perf_counter() - began - measuring
    return {
        "name": kind,
        "seed": settings.seed,
        "seconds": seconds,
        "sentences": len(dataset) * epochs,
        "curve": curve,
        "steps": steps,
    }


def run_ours(settings: PretrainSettings, work: Path, pause: Callable[[], float]) -> dict[str, Any]:
    """Trains as `pretrain` does, on these texts; the seed determines order and dropout only."""
    prepared, held_out = setup(settings)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    began = time.perf_counter()
    parts = Parts(
        Base(held_out.model, held_out.tokenizer),
        prepared,
        settings,
        Workplace(work, Processes(torch.device("cpu")), cache=True),
        Reporter(print, lambda *_: None),
    )
    trainer = parts.trainer("benchmark", None)
    curve: list[float] = []
    measuring = 0.0

    def validate() -> Sums:
        nonlocal measuring
        begun = time.perf_counter()
        model = trainer.model
        model.set_training(False)
        curve.append(held_out.loss(model.text.network, model.concept.network, **model.facts()))
        waited = pause()
        trainer._kept_at += waited  # the pause does not count towards the next saved state
        measuring += time.perf_counter() - begun
        return Sums()

    trainer.validate = validate
    trainer.run()
    seconds = time.perf_counter() - began - measuring
    return {
        "name": "ours",
        "seed": settings.seed,
        "seconds": seconds,
        "sentences": len(prepared.train) * settings.epochs,
        "curve": curve,
        "steps": trainer.steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1200, help="number of texts, drawn at random")
    parser.add_argument("--seeds", type=int, default=3, help="runs of ours with different seeds")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each run")
    options = parser.parse_args()
    settings = PretrainSettings(sample=options.texts, epochs=options.epochs, validate_every=1)
    short = replace(settings, epochs=1)
    work = WORK / "pretraining" / "speed"
    plain = [partial(run_plain, settings, kind) for kind in ("plain", "without")]
    runs = take_turns(partial(run_ours, settings, work), *plain)
    runs += take_turns(partial(run_plain, short, "grouped"))
    more = []
    for seed in range(1, options.seeds):
        more += take_turns(partial(run_ours, replace(settings, seed=seed), work))
    shutil.rmtree(work, ignore_errors=True)
    keep(
        "pretrain",
        {
            "machine": machine("torch", "transformers"),
            "texts": options.texts,
            "settings": settings.to_dict(),
            "runs": runs,
            "other seeds": more,
        },
        table(runs, more, options.epochs),
    )


def table(runs: list[dict[str, Any]], more: list[dict[str, Any]], epochs: int) -> str:
    """The speeds, and the held-out losses after each epoch."""
    speed = {name: _rate([run for run in runs if run["name"] == name]) for name in NAMES}
    lines = [
        f"MiniLM-L6, {runs[0]['sentences'] // epochs:,} sentences, {cores()} threads, f32; the keeping of the frozen "
        "layers' output counted in, validations not.\n",
        "| | sentences/s | nuner-embed's as a multiple |",
        "|---|---|---|",
        *(f"| {NAMES[name]} | {rate:.1f} | {speed['ours'] / rate:.2f}x |" for name, rate in speed.items()),
        "",
        f"The first three took turns, {epochs} epochs long; the last one ran one epoch after them.\n",
        f"| held-out loss | start | {' | '.join(f'epoch {i + 1}' for i in range(epochs))} |",
        "|---" * (epochs + 2) + "|",
    ]
    for run in [*runs, *more]:
        if len(run["curve"]) == epochs + 1:
            name = f"{NAMES[run['name']]}, seed {run['seed']}"
            lines.append(f"| {name} | {' | '.join(f'{loss:.3f}' for loss in run['curve'])} |")
    ours = np.array([run["curve"][1:] for run in [*runs, *more] if run["name"] == "ours"])
    if len(ours) > 1:
        spread = ours.std(axis=0, ddof=1)
        for name in ("plain", "without"):
            (other,) = (np.array(run["curve"][1:]) for run in runs if run["name"] == name)
            away = [f"{a:+.3f} ± {s:.3f}" for a, s in zip(other - ours.mean(axis=0), spread, strict=True)]
            lines.append(f"| {NAMES[name]}, less our mean ± our standard deviation | | {' | '.join(away)} |")
    return "\n".join(lines) + "\n"


def _rate(runs: list[dict[str, Any]]) -> float:
    return float(sum(run["sentences"] for run in runs) / sum(run["seconds"] for run in runs))


if __name__ == "__main__":
    main()
