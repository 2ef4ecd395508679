"""Short runs of pre-training, and what they leave."""

import csv

import torch
from safetensors.torch import load_file

from nuner_embed import pretrain
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
