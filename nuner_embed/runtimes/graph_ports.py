"""The inputs and the output of an exported graph, whoever exported it."""

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuner_embed.errors import ModelError
from nuner_embed.models.resolver import Model

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Ours and that of sentence-transformers, then that of Optimum and transformers.js.
OUTPUTS = ("token_embeddings", "last_hidden_state")


def require_inputs(model: Model, names: Collection[str]) -> None:
    """Raises ModelError if a graph does not take token ids and a mask, or takes what we have no value for."""
    if not {"input_ids", "attention_mask"} <= set(names) <= set(INPUTS):
        raise ModelError(
            f"{model.graph} takes {', '.join(names)}; a text encoder's graph takes input_ids, attention_mask "
            "and perhaps token_type_ids"
        )


def find_output(model: Model, names: Collection[str]) -> str:
    """The output that holds the token embeddings.

    Raises:
        ModelError: there is none of a name that is known.
    """
    for name in OUTPUTS:
        if name in names:
            return name
    raise ModelError(
        f"{model.graph} gives {', '.join(names)}; a text encoder's graph gives {' or '.join(OUTPUTS)}, a vector a token"
    )


def require_width(model: Model, shape: Collection[Any]) -> int:
    """The width of the token embeddings, of the output's shape (batch, length, width or a name).

    Raises:
        ModelError: the output has other axes, or a width that does not go with the configuration.
    """
    expected = model.config.hidden_size * len(model.recipe.layers)
    axes = list(shape)
    if len(axes) != 3 or (isinstance(axes[2], int) and axes[2] != expected):
        raise ModelError(f"{model.graph} gives an output of shape {axes}, expected (batch, length, {expected})")
    return expected


def values_of(
    names: Collection[str], input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """The values (batch, length) of a graph's inputs; there is one text a row, so all token types are 0."""
    values = {"input_ids": np.ascontiguousarray(input_ids), "attention_mask": np.ascontiguousarray(attention_mask)}
    if "token_type_ids" in names:
        values["token_type_ids"] = np.zeros_like(values["input_ids"])
    return values
