"""Layers of the BERT family, and of MPNet, over concatenated tokens, without padding.

A batch consists of runs of pieces of one length each. Operations on single tokens, nine tenths of the arithmetic, run
on all tokens at once. Attention runs on groups of runs of similar length, whose pieces are padded for it alone: one
call for each run would be many small operations, dominated by the cost of the calls. The last layer computes only the
tokens that are asked for: half of the tokens of a concept's name are special ones.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nuner_embed.runtimes.packed import has_bert_layers

# What relative positions, key minus query, (...), add to the logits of each head: (..., heads).
Relative = Callable[[torch.Tensor], torch.Tensor]
_MPNET = "MPNetLayer"
# The longest piece of a group is at most this many times as long as the shortest.
_ALIKE = 1.5


@dataclass(frozen=True)
class Run:
    """Pieces of one length.

    Attributes:
        rows: number of pieces.
        length: tokens of each piece.
        first, last: the tokens of each piece that are asked for: the first, and one past the last.
    """

    rows: int
    length: int
    first: int
    last: int

    @property
    def asked(self) -> int:
        """Number of tokens of each piece that are asked for."""
        return self.last - self.first


def can_run(layers: Sequence[Any]) -> bool:
    """Whether `run_layers` knows these layers."""
    return has_bert_layers(layers) or all(type(layer).__name__ == _MPNET for layer in layers)


def relative_of(network: Any) -> Relative | None:
    """The relative positions of a text encoder that `can_run`; None where it has absolute positions alone."""
    encoder = network.encoder
    if type(encoder.layer[0]).__name__ != _MPNET:
        return None
    return lambda positions: encoder.relative_attention_bias(encoder.relative_position_bucket(positions))


def run_layers(
    layers: Sequence[Any], states: torch.Tensor, runs: Sequence[Run], relative: Relative | None = None
) -> torch.Tensor:
    """The last layer's states of the tokens that are asked for, (m, dim), from the first one's input, (n, dim)."""
    whole = _Rectangles(runs, [run.length for run in runs], states.device)
    asked = _Rectangles(runs, [run.asked for run in runs], states.device)
    added = whole.masks
    if relative is not None and len(layers) > 1:
        added = _with_positions(whole, [0] * len(runs), whole, relative, runs)
    for layer in layers[:-1]:
        states = _layer(layer, states, states, whole, whole, added)
    if relative is not None:
        added = _with_positions(asked, [run.first for run in runs], whole, relative, runs)
    return _layer(layers[-1], states, states.index_select(0, _asked(runs, states.device)), whole, asked, added)


def _with_positions(
    wanted: "_Rectangles", first: Sequence[int], there: "_Rectangles", relative: Relative, runs: Sequence[Run]
) -> list[torch.Tensor]:
    """The masks of all groups with the part of the relative positions, (pieces, heads, queries, keys) for each.

    Args:
        wanted: the layout of the queries.
        first: the place in its piece of the first query, for each run.
        there: the layout of the keys.
        relative: see `Relative`.
        runs: of pieces.
    """
    added = []
    for group, (_, queries), (_, keys), mask in zip(
        _groups(runs), wanted.shapes, there.shapes, there.masks, strict=True
    ):
        starts = torch.tensor([first[i] for i in group])
        rows = starts.repeat_interleave(torch.tensor([runs[i].rows for i in group]))
        if len(starts.unique()) == 1:  # as nearly always: one table serves all pieces
            rows = starts[:1]
        places = rows[:, None] + torch.arange(queries)
        positions = torch.arange(keys) - places[:, :, None]
        added.append(mask + relative(positions.to(mask.device)).permute(0, 3, 1, 2))
    return added


def _asked(runs: Sequence[Run], device: torch.device) -> torch.Tensor:
    """The places of the tokens that are asked for, (m,)."""
    places, begin = [], 0
    for run in runs:
        rows = begin + run.length * torch.arange(run.rows, device=device)
        places.append((rows[:, None] + torch.arange(run.first, run.last, device=device)).reshape(-1))
        begin += run.rows * run.length
    return torch.cat(places)


class _Rectangles:
    """The layout of all tokens for attention: a padded rectangle for each group of runs.

    Args:
        runs: shortest first.
        lengths: tokens of each of their pieces that are laid out.
        device: of the tokens.

    Attributes:
        shapes: pieces and tokens of each group.
        masks: for each group, what is added to the logits of each of its tokens as a key, (pieces, 1, 1, tokens): 0, or
            minus infinity for padding.
        places: of the tokens in the rectangles, which lie one after the other, (n,).
        tokens: the token at each place of the rectangles; at padding, any token.
    """

    def __init__(self, runs: Sequence[Run], lengths: Sequence[int], device: torch.device) -> None:
        self.shapes: list[tuple[int, int]] = []
        self.masks: list[torch.Tensor] = []
        there, tokens, begin = [], [], 0
        for group in _groups(runs):
            rows = torch.cat([torch.full((runs[i].rows,), lengths[i]) for i in group])
            shape = (len(rows), int(rows.max()))
            inside = torch.arange(shape[1]) < rows[:, None]
            first = begin + rows.cumsum(0) - rows
            begin = int(first[-1] + rows[-1])
            self.shapes.append(shape)
            self.masks.append(torch.where(inside, 0.0, -math.inf)[:, None, None].to(device))
            there.append(inside.reshape(-1))
            tokens.append(torch.where(inside, first[:, None] + torch.arange(shape[1]), 0).reshape(-1))
        self.places = torch.cat(there).nonzero().squeeze(1).to(device)
        self.tokens = torch.cat(tokens).to(device)

    def spread(self, values: torch.Tensor, heads: int) -> list[torch.Tensor]:
        """Values of tokens, (n, dim), as (pieces, heads, tokens, dim / heads) for each group."""
        spread = _Spread.apply(values, self.tokens, self.places)
        parts = spread.split([rows * length for rows, length in self.shapes])
        return [
            part.view(rows, length, heads, values.shape[1] // heads).transpose(1, 2)
            for part, (rows, length) in zip(parts, self.shapes, strict=True)
        ]

    def collect(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The inverse of `spread`: values of tokens, (n, dim)."""
        flat = [part.transpose(1, 2).reshape(-1, part.shape[1] * part.shape[3]) for part in parts]
        collected: torch.Tensor = _Collect.apply(torch.cat(flat), self.places)
        return collected


def _groups(runs: Sequence[Run]) -> list[list[int]]:
    """Groups of runs of similar length, as numbers of the runs."""
    groups: list[list[int]] = []
    for i, run in enumerate(runs):
        if groups and run.length <= _ALIKE * runs[groups[-1][0]].length:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


class _Spread(torch.autograd.Function):  # type: ignore[misc]
    """Copies rows to their places; the gradient is gathered from there, without the sums of torch's own backward."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(places)
        return rows.index_select(0, tokens)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return gradient.index_select(0, places), None, None


class _Collect(torch.autograd.Function):  # type: ignore[misc]
    """Gathers rows from their places; the gradient of every other row is 0."""

    @staticmethod
    def forward(ctx: Any, spread: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(places)
        ctx.rows = len(spread)
        return spread.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (places,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.rows, gradient.shape[1]).index_copy_(0, places, gradient), None


def _layer(
    layer: Any,
    states: torch.Tensor,
    asked: torch.Tensor,
    there: _Rectangles,
    wanted: _Rectangles,
    added: Sequence[torch.Tensor],
) -> torch.Tensor:
    """One layer; `added` is what the logits of each group get: the mask, perhaps with relative positions."""
    mpnet = type(layer).__name__ == _MPNET
    attention = layer.attention.attn if mpnet else layer.attention.self
    projections = ("q", "k", "v") if mpnet else ("query", "key", "value")
    to_query, to_key, to_value = (getattr(attention, name) for name in projections)
    heads, scale = attention.num_attention_heads, 1 / math.sqrt(attention.attention_head_size)
    queries = wanted.spread(to_query(asked) * scale, heads)
    keys, values = (there.spread(one(states), heads) for one in (to_key, to_value))
    contexts = []
    for query, key, value, more in zip(queries, keys, values, added, strict=True):
        weights = torch.softmax(query @ key.transpose(2, 3) + more, dim=-1)
        contexts.append(attention.dropout(weights) @ value)
    collected = wanted.collect(contexts)
    if mpnet:
        attended = layer.attention.LayerNorm(layer.attention.dropout(attention.o(collected)) + asked)
    else:
        attended = layer.attention.output(collected, asked)
    done: torch.Tensor = layer.output(layer.intermediate(attended), attended)
    return done
