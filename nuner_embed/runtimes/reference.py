"""What a source computes for some real text, kept so that any runtime can be measured against it, anywhere."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.errors import ModelError
from nuner_embed.files import atomic_write
from nuner_embed.models import TextTokenizer
from nuner_embed.runtimes.base import Runtime, cut_batches, pad, run_in_order

_TOKENS = 2000


@dataclass(frozen=True, slots=True)
class Reference:
    """Windows of real text with the source's hidden states, each window run alone and without padding.

    Attributes:
        ids: token ids of all windows one after the other, special tokens included, (n,) int32.
        lengths: of the windows, longest first, (w,) int64; they add up to n.
        specials: how many special tokens each window begins and ends with, (2,) int64.
        pad_id: token id used for padding, () int64.
        states: of the windows' other tokens, (t, dim) float32.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    specials: NDArray[np.int64]
    pad_id: NDArray[np.int64]
    states: NDArray[np.float32]

    @classmethod
    def make(
        cls, source: Runtime, tokenizer: TextTokenizer, texts: Sequence[str], max_length: int, pad_id: int
    ) -> Self:
        """Runs the source over about 2,000 tokens of the texts, evenly drawn, a full window among them.

        Raises:
            ModelError: the texts have no tokens.
        """
        windows = cut_windows(tokenizer, texts, max_length)
        if not windows:
            raise ModelError("the texts have no tokens to compare")
        lengths = np.array([len(window) for window in windows], np.int64)
        specials = np.array([len(tokenizer.prefix), len(tokenizer.suffix)], np.int64)
        empty = np.empty((0, source.dim), np.float32)
        reference = cls(np.concatenate(windows), lengths, specials, np.array(pad_id, np.int64), empty)
        states = reference.embed(source, [[window] for window in range(len(windows))])
        return cls(reference.ids, lengths, specials, reference.pad_id, states)

    @property
    def tokens(self) -> int:
        """All tokens, special ones included."""
        return len(self.ids)

    def groupings(self) -> dict[str, list[list[int]]]:
        """Ways to batch the windows, by name: alone, sorted by length, and the longest padded against the shortest."""
        w = len(self.lengths)
        return {
            "alone": [[window] for window in range(w)],
            "sorted": self.sorted_batches(1024),
            "paired": [sorted({window, w - 1 - window}) for window in range((w + 1) // 2)],
        }

    def sorted_batches(self, batch_tokens: int) -> list[list[int]]:
        """Batches of windows of like length, as a job makes them."""
        return [list(range(first, end)) for first, end in cut_batches(self.lengths, 0, batch_tokens)]

    def embed(self, runtime: Runtime, batches: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """The states of all tokens but the special ones, (t, dim), run in these batches of windows."""
        before, after = self.specials
        inner = self.lengths - before - after
        place = np.concatenate([[0], np.cumsum(inner)])
        states = np.empty((int(place[-1]), runtime.dim), np.float32)
        bounds = np.concatenate([[0], np.cumsum(self.lengths)])
        padded = (pad([self.ids[bounds[w] : bounds[w + 1]] for w in batch], int(self.pad_id)) for batch in batches)
        for batch, result in zip(batches, run_in_order(runtime, padded), strict=True):
            for row, w in enumerate(batch):
                states[place[w] : place[w + 1]] = result[row, before : before + inner[w]]
        return states

    def save(self, path: Path) -> None:
        """Writes it as a NumPy archive, atomically."""
        with atomic_write(path) as stream:
            np.savez(stream, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote.

        Raises:
            ModelError: it is missing or damaged.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                reference = cls(**{field.name: archive[field.name] for field in fields(cls)})
            tokens = int((reference.lengths - reference.specials.sum()).sum())
            if reference.lengths.sum() != len(reference.ids) or tokens != len(reference.states):
                raise ValueError("its parts do not fit together")
        except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error):
            raise ModelError(
                f"{path} is missing or damaged; export the model again (nuner-embed verify with --source makes that "
                "file for a graph that another program exported)"
            ) from None
        return reference


def cut_windows(
    tokenizer: TextTokenizer, texts: Sequence[str], max_length: int, tokens: int = _TOKENS
) -> list[NDArray[np.int32]]:
    """About so many tokens of the texts, a window a text, longest first; the first is as long as may be.

    Returns:
        Token ids, special tokens included; empty where the texts have none.
    """
    room = max_length - tokenizer.specials
    encoded = [np.asarray(ids, np.int32) for ids, _ in tokenizer.encode(list(texts)) if len(ids)]
    if not encoded:
        return []
    whole = np.resize(np.concatenate(encoded), room)  # of several texts, repeated where they are too short
    cut = [ids[:room] for ids in encoded]
    drawn = cut[:: max(1, round(sum(map(len, cut)) / max(1, tokens - room)))]
    prefix, suffix = np.array(tokenizer.prefix, np.int32), np.array(tokenizer.suffix, np.int32)
    return [np.concatenate([prefix, ids, suffix]) for ids in sorted([whole, *drawn], key=len, reverse=True)]
