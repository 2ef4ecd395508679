"""Layers of the BERT family over tokens that lie one after the other, without any padding.

A batch is runs of pieces of one length each. What looks at single tokens, nine tenths of the arithmetic, is done for
all runs at once; only attention goes run by run, and needs no mask. In the last layer only the tokens that are asked
for are computed: of a concept's name, its two special tokens are half.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_LAYERS = ("BertLayer", "RobertaLayer", "XLMRobertaLayer", "CamembertLayer")


@dataclass(frozen=True)
class Run:
    """Pieces of one length.

    Attributes:
        rows: how many.
        length: tokens of each.
        first, last: the tokens of each that are asked for: the first, and one past the last.
    """

    rows: int
    length: int
    first: int
    last: int


def is_supported(layers: Sequence[nn.Module]) -> bool:
    """Whether the layers are of the kind that is known here."""
    return all(
        type(layer).__name__ in _LAYERS
        and getattr(layer.attention.self, "position_embedding_type", "absolute") == "absolute"
        for layer in layers
    )


def run_layers(layers: Sequence[Any], states: torch.Tensor, runs: Sequence[Run]) -> torch.Tensor:
    """The last layer's states of the tokens that are asked for, (m, dim), from the first one's input, (n, dim)."""
    whole = [Run(run.rows, run.length, 0, run.length) for run in runs]
    for layer in layers[:-1]:
        states = _layer(layer, states, states, whole)
    return _layer(layers[-1], states, states.index_select(0, _asked(runs, states.device)), runs)


def _asked(runs: Sequence[Run], device: torch.device) -> torch.Tensor:
    """Places of the tokens that are asked for, (m,)."""
    places, begin = [], 0
    for run in runs:
        rows = begin + run.length * torch.arange(run.rows, device=device)
        places.append((rows[:, None] + torch.arange(run.first, run.last, device=device)).reshape(-1))
        begin += run.rows * run.length
    return torch.cat(places)


def _layer(layer: Any, states: torch.Tensor, asked: torch.Tensor, runs: Sequence[Run]) -> torch.Tensor:
    attention = layer.attention.self
    context = _attend(attention, attention.query(asked), attention.key(states), attention.value(states), runs)
    attended = layer.attention.output(context, asked)
    done: torch.Tensor = layer.output(layer.intermediate(attended), attended)
    return done


def _attend(
    attention: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, runs: Sequence[Run]
) -> torch.Tensor:
    heads, dim = attention.num_attention_heads, attention.attention_head_size
    scale = 1 / math.sqrt(dim)
    rows = [(run.rows, run.last - run.first) for run in runs]
    queries = query.split([count * length for count, length in rows])
    keys, values = (one.split([run.rows * run.length for run in runs]) for one in (key, value))
    contexts = []
    for run, (count, length), q, k, v in zip(runs, rows, queries, keys, values, strict=True):
        q = q.view(count, length, heads, dim).transpose(1, 2)
        k, v = (one.view(run.rows, run.length, heads, dim).transpose(1, 2) for one in (k, v))
        weights = attention.dropout(torch.softmax(q @ k.transpose(2, 3) * scale, dim=-1))
        contexts.append((weights @ v).transpose(1, 2).reshape(count * length, heads * dim))
    return torch.cat(contexts)
