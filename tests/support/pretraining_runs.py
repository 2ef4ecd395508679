"""Short runs of pre-training, and what they leave."""

import csv

import torch
from safetensors.torch import load_file

from nuner_embed import pretrain
from nuner_embed.pretraining import trainer
from nuner_embed.pretraining.settings import PretrainSettings


def run(data, base, output, *, options=None, **values):
    values = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "seed": 5, **values}
    return pretrain([data], output, PretrainSettings(**values), base=str(base), threads=1, **(options or {}))


def weights(output):
    return {
        **load_file(output / "model.safetensors"),
        **{f"concept {name}": one for name, one in load_file(output / "concept_encoder" / "model.safetensors").items()},
    }


def metrics(output):
    """All rows but the speed, which no two runs share."""
    with (output / "metrics.csv").open() as stream:
        return [
            {name: value for name, value in row.items() if "per_second" not in name} for row in csv.DictReader(stream)
        ]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stop_now_and_then(monkeypatch):
    """Lets the second and the fifth step be interrupted by Ctrl-C; a state is written after every step."""
    step, steps = trainer.Trainer._train_step, []

    def interrupted(self, within):
        steps.append(self.step)
        if len(steps) in (2, 5):
            raise KeyboardInterrupt
        step(self, within)

    monkeypatch.setattr(trainer, "_SECONDS_BETWEEN_STATES", -1)
    monkeypatch.setattr(trainer.Trainer, "_train_step", interrupted)
