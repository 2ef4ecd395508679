"""Inputs and output of an exported graph, and whether the graph takes padding; for the runtimes of graphs."""

from collections.abc import Collection
from typing import Any

import numpy as np

from nuner_embed.errors import ModelError
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.resolver import GraphModel
from nuner_embed.runtimes.base import CUDA_BATCH_TOKENS
from nuner_embed.runtimes.padding import NOISE, ONE_LENGTH, Ints, PaddedRuntime, takes_padding

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# The first as this project and sentence-transformers name it, the second as Optimum and transformers.js do.
OUTPUTS = ("token_embeddings", "last_hidden_state")
# Default budgets in tokens, where nothing was measured.
GRAPH_BATCH_TOKENS = {"cpu": 512, "cuda": CUDA_BATCH_TOKENS}


def require_inputs(model: GraphModel, names: Collection[str]) -> None:
    """Raises ModelError if a graph does not take token ids and a mask, or has an unknown input."""
    if not {"input_ids", "attention_mask"} <= set(names) <= set(INPUTS):
        raise ModelError(
            f"{model.graph} takes {', '.join(names)}; a text encoder's graph takes input_ids, attention_mask "
            "and perhaps token_type_ids"
        )


def find_output(model: GraphModel, names: Collection[str]) -> str:
    """The output that holds the token embeddings.

    Raises:
        ModelError: no output has a known name.
    """
    for name in OUTPUTS:
        if name in names:
            return name
    raise ModelError(
        f"{model.graph} gives {', '.join(names)}; a text encoder's graph gives {' or '.join(OUTPUTS)}, one vector per "
        "token"
    )


def require_width(model: GraphModel, shape: Collection[Any]) -> int:
    """The width of the token embeddings, from the output's shape (batch, length, width or a name).

    Raises:
        ModelError: the output has other axes, or a width that does not fit the configuration.
    """
    expected = model.config.hidden_size * len(model.recipe.layers)
    axes = list(shape)
    if len(axes) != 3 or (isinstance(axes[2], int) and axes[2] != expected):
        raise ModelError(f"{model.graph} gives an output of shape {axes}, expected (batch, length, {expected})")
    return expected


def values_of(names: Collection[str], input_ids: Ints, attention_mask: Ints) -> dict[str, Ints]:
    """The values (batch, length) of a graph's inputs; all token types are 0, because a row holds one text."""
    values = {"input_ids": np.ascontiguousarray(input_ids), "attention_mask": np.ascontiguousarray(attention_mask)}
    if "token_type_ids" in names:
        values["token_type_ids"] = np.zeros_like(values["input_ids"])
    return values


def find_out_padding(runtime: PaddedRuntime, model: GraphModel, recipe: Recipe) -> None:
    """Sets whether windows of different lengths share a matrix: as the export says, else as a trial shows.

    Raises:
        ModelError, OutOfMemory: see `takes_padding`.
    """
    padding = model.export.padding
    if padding is None:  # another program made the graph, or an earlier version of this one
        noise = NOISE.get(runtime.precision)
        padding = takes_padding(model, runtime.states, recipe.max_length, runtime.numerics, noise)
    runtime.padding = padding
    if not padding:
        runtime.description += ONE_LENGTH
    runtime.pad_id = model.config.pad_id
