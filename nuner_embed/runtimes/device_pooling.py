"""Rows made on the device where torch has computed the hidden states: gathered, averaged, scaled and cast there."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nuner_embed.runtimes.base import RowFormat
from nuner_embed.runtimes.transfer import upload

_DTYPES = {"float16": torch.float16, "float32": torch.float32}


def pool_on_device(
    states: Sequence[torch.Tensor], first: NDArray[np.integer[Any]], last: NDArray[np.integer[Any]]
) -> torch.Tensor:
    """The mean of each row's tokens, (m, dim) float32 on the device of the states.

    Tokens are added one after the other: the second tokens of all rows at once, then the third tokens, and so on. So
    the result is the same in every run, unlike with the atomic additions of `index_add_`, and only the rows take memory
    besides the states.

    Args:
        states: of all tokens, (t, width) each; the rows hold them side by side.
        first: the first token of each row, (m,).
        last: one past its last token, greater than `first`, (m,).
    """

    def tokens(places: torch.Tensor) -> torch.Tensor:
        taken = [part.index_select(0, places).float() for part in states]
        return taken[0] if len(taken) == 1 else torch.cat(taken, dim=1)

    device, sizes = states[0].device, last - first
    if sizes.max(initial=1) == 1:
        (places,) = upload([first], device)
        return tokens(places)
    order = np.argsort(-sizes, kind="stable")  # so that the rows that have an nth token come first
    sizes = sizes[order]
    places, counts, back = upload([first[order], sizes, np.argsort(order)], device)
    sums = tokens(places)
    for step in range(1, int(sizes[0])):
        longer = int(np.searchsorted(-sizes, -step, side="left"))  # rows of more than `step` tokens
        sums[:longer] += tokens(places[:longer] + step)
    return (sums / counts[:, None]).index_select(0, back)


def finished(rows: torch.Tensor, form: RowFormat) -> torch.Tensor:
    """As `RowFormat.apply`, on the device of the rows (m, dim) float32."""
    if form.normalize:
        rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(form.SHORTEST)
    if form.dtype == "float32":
        return rows
    return rows.masked_fill(rows.isinf(), torch.nan).to(_DTYPES[form.dtype])
