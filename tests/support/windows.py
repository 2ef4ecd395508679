"""Windows of made-up tokens for runtimes."""

import numpy as np

from nuner_embed.runtimes.base import WindowBatch


def batch_of(lengths, rows):
    """Windows of made-up tokens, and rows given as window, first token and one past the last."""
    ids = np.random.default_rng(len(lengths)).integers(5, 300, sum(lengths)).astype(np.int32)
    window, first, last = np.array(rows, np.int64).reshape(-1, 3).T
    return WindowBatch(ids, np.cumsum([0, *lengths]), window, first, last)


def some_rows(lengths, seed=0):
    """Rows of every length in no order, nested ones and equal ones among them."""
    chance, rows = np.random.default_rng(seed), []
    for window, length in enumerate(lengths):
        for _ in range(4):
            first, last = sorted(chance.choice(length + 1, 2, replace=False).tolist())
            rows.append((window, first, last))
        rows.append((window, 0, length))
    return [rows[i] for i in chance.permutation(len(rows))]
