"""Stores of made-up words whose vectors depend on the position too, so that no two are alike."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fakes import HashSpec

from nuner_embed.corpora.corpus import Corpus
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.jobs.encoding import run_job
from nuner_embed.jobs.options import JobOptions
from nuner_embed.store.reader import Store

_SYLLABLES = [f"{a}{b}" for a in "bcdfghklmnprstvwz" for b in "aeiouy"]


@dataclass(frozen=True)
class ContextSpec(HashSpec):
    """A hash encoder that sees a token's place and its neighbour."""

    def load(self, workers: int = 1) -> TextEncoder:
        encoder = super().load(workers)
        plain = encoder.runtime.states

        def states(ids: Any, mask: Any) -> Any:
            position = np.arange(ids.shape[1])[None, :, None]
            wave = np.arange(1, self.dim + 1) * (ids[:, :, None] % 97 + 1.7 * np.roll(ids, 1, axis=1)[:, :, None])
            return plain(ids, mask) + 0.7 * np.sin(wave + position).astype(np.float32)

        encoder.runtime.states = states  # type: ignore[method-assign]
        return encoder


def make_store(
    path: Path, seed: int, documents: int = 30, rows: Any = "token", dtype: Any = "float16", **spec: Any
) -> Store:
    """A store of documents of forty made-up words each, in shards of 2,000 rows."""
    chance = random.Random(seed)
    corpus = path.with_suffix(".txt")
    lines = [" ".join("".join(chance.choices(_SYLLABLES, k=3)) for _ in range(40)) for _ in range(documents)]
    corpus.write_text("\n".join(lines) + "\n")
    run_job(
        Corpus([corpus]), path, JobOptions(ContextSpec(dim=16, **spec), granularity=rows, shard_rows=2000, dtype=dtype)
    )
    return Store.open(path)
