"""What a source computes, kept as a reference; how far a runtime is from it, how fast it is, and what is enough."""

import time
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import prod
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.errors import ModelError
from nuner_embed.files import atomic_write, opened_at_once
from nuner_embed.limits import REFERENCE_BYTES
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.runtimes.base import Runtime, WindowBatch

_TOKENS = 2000
# Batch budgets in tokens that are tried on a CPU: small ones suit small caches, large ones processors with matrix
# units, see benchmarks/encode.py.
SMALLEST_BUDGET, FIRST_BUDGET, LARGEST_BUDGET = 128, 512, 8192
NEIGHBOURS = 10
_COMPARED_AT_ONCE = 1024  # tokens
# A speed is the best of this many passes, or of fewer once they have taken this many seconds.
_PASSES, _SECONDS = 3, 0.4
# Batches for each stream when a speed is measured: with one batch the other streams would wait, and much be padded.
_BATCHES_A_STREAM = 2


@dataclass(frozen=True, slots=True)
class Reference:
    """Windows of real text with the source's hidden states, each window run alone and without padding.

    Attributes:
        ids: token ids of all windows one after the other, special tokens included, (n,) int32.
        lengths: of the windows, longest first, (w,) int64; they add up to n.
        specials: number of special tokens at the beginning and the end of each window, (2,) int64.
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
        """Runs the source over about 2,000 tokens, drawn evenly from the texts, with one full window among them.

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
        return replace(reference, states=reference.alone(source))

    @property
    def tokens(self) -> int:
        """The number of all tokens, special tokens included."""
        return len(self.ids)

    def batch(self, some: Sequence[int] | None = None) -> WindowBatch:
        """Some windows in the order given, or all for None; every token except the special tokens is a row."""
        chosen = np.arange(len(self.lengths)) if some is None else np.asarray(some, np.int64)
        bounds = np.concatenate([[0], np.cumsum(self.lengths)])
        lengths = self.lengths[chosen]
        before, inner = self.specials[0], lengths - self.specials.sum()
        first = np.arange(int(inner.sum())) - np.repeat(np.cumsum(inner) - inner, inner) + before
        return WindowBatch(
            ids=np.concatenate([self.ids[bounds[w] : bounds[w + 1]] for w in chosen]),
            bounds=np.concatenate([[0], np.cumsum(lengths)]),
            window=np.repeat(np.arange(len(chosen)), inner),
            first=first,
            last=first + 1,
        )

    def alone(self, runtime: Runtime) -> NDArray[np.float32]:
        """The states of a runtime for all tokens except the special tokens, (t, dim), each window run alone."""
        return runtime.rows(self.batch(), 1)

    def paired(self, runtime: Runtime) -> NDArray[np.float32]:
        """As `alone`, but the longest window runs with the shortest and so on, with much padding."""
        w = len(self.lengths)
        tokens = self.lengths - self.specials.sum()
        place = np.concatenate([[0], np.cumsum(tokens)])
        states = np.empty((int(place[-1]), runtime.dim), np.float32)
        for pair in (sorted({window, w - 1 - window}) for window in range((w + 1) // 2)):
            found = runtime.rows(self.batch(pair), 2 * int(self.lengths[pair[0]]))
            states[np.concatenate([np.arange(place[i], place[i + 1]) for i in pair])] = found
        return states

    def save(self, path: Path) -> None:
        """Writes the reference as a NumPy archive, atomically."""
        with atomic_write(path) as stream:
            np.savez(stream, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path, vocabulary: int) -> Self:
        """Reads what `save` wrote.

        Args:
            path: of the archive.
            vocabulary: number of tokens that the model knows.

        Raises:
            ModelError: the archive is missing or damaged.
        """
        try:
            with open(path, "rb", opener=opened_at_once) as stream:
                reference = cls(**_read_arrays(stream))
            reference._require_sound(vocabulary)
        except (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile):
            raise ModelError(
                f"{path} is missing or damaged; export the model again (nuner-embed verify with --source makes that "
                "file for a graph that another program exported)"
            ) from None
        return reference

    def _require_sound(self, vocabulary: int) -> None:
        tokens = int((self.lengths - self.specials.sum()).sum())
        if int(self.lengths.sum()) != len(self.ids) or tokens != len(self.states) or not len(self.lengths):
            raise ValueError("its parts do not fit together")
        if self.specials.min() < 0 or (self.lengths <= self.specials.sum()).any() or (np.diff(self.lengths) > 0).any():
            raise ValueError("windows of impossible lengths")
        if not all(0 <= value < vocabulary for value in (self.ids.min(), self.ids.max(), self.pad_id)):
            raise ValueError("tokens that the model does not know")


# The type and the number of axes of each array.
_ARRAYS: dict[str, tuple[type[Any], int]] = {
    "ids": (np.int32, 1), "lengths": (np.int64, 1), "specials": (np.int64, 1), "pad_id": (np.int64, 0),
    "states": (np.float32, 2),
}  # fmt: skip


def _read_arrays(stream: IO[bytes]) -> dict[str, NDArray[Any]]:
    """Reads the arrays of an archive; each must be stored uncompressed and have the length that its header says."""
    found: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(stream) as archive:
        for name, (dtype, axes) in _ARRAYS.items():
            entry = archive.getinfo(f"{name}.npy")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > REFERENCE_BYTES:
                raise ValueError("an array that is compressed or too large")
            with archive.open(entry) as part:
                if np.lib.format.read_magic(part) != (1, 0):
                    raise ValueError("an array of another version")
                shape, fortran, given = np.lib.format.read_array_header_1_0(part)
                data = part.read()
            if given != dtype or fortran or len(shape) != axes or prod(shape) * given.itemsize != len(data):
                raise ValueError(f"{name} is not an array of the right kind")
            found[name] = np.frombuffer(data, dtype).reshape(shape)
    if found["specials"].shape != (2,):
        raise ValueError("specials are two numbers")
    return found


def cut_windows(
    tokenizer: TextTokenizer, texts: Sequence[str], max_length: int, tokens: int = _TOKENS
) -> list[NDArray[np.int32]]:
    """Cuts about `tokens` tokens of the texts into windows, one for each text, longest first; the first is full.

    Returns:
        Token ids, special tokens included; empty if the texts have no tokens.
    """
    room = max_length - tokenizer.specials
    encoded = [np.asarray(ids, np.int32) for ids, _ in tokenizer.encode(list(texts)) if len(ids)]
    if not encoded:
        return []
    whole = np.resize(np.concatenate(encoded), room)  # of several texts, repeated if they are too short
    cut = [ids[:room] for ids in encoded]
    drawn = cut[:: max(1, round(sum(map(len, cut)) / max(1, tokens - room)))]
    prefix, suffix = np.array(tokenizer.prefix, np.int32), np.array(tokenizer.suffix, np.int32)
    return [np.concatenate([prefix, ids, suffix]) for ids in sorted([whole, *drawn], key=len, reverse=True)]


@dataclass(frozen=True, slots=True)
class Gate:
    """The agreement with the reference that a runtime must reach.

    Attributes:
        min_cosine: least cosine of a token.
        mean_cosine: mean over all tokens.
        neighbour_overlap: mean share of each token's ten nearest neighbours that stay.
    """

    min_cosine: float = -1.0
    mean_cosine: float = -1.0
    neighbour_overlap: float = 0.0

    def __str__(self) -> str:
        parts = [(name.replace("_", " "), value) for name, value in asdict(self).items() if value > 0]
        return ", ".join(f"{name} {value:g}" for name, value in parts)


GATES = {
    "f32": Gate(min_cosine=0.9999),
    "bf16": Gate(min_cosine=0.999),
    "fp16": Gate(min_cosine=0.999),
    "int8": Gate(mean_cosine=0.995, neighbour_overlap=0.95),
}


def rounded_down(value: float) -> str:
    """A figure with six decimals, rounded down, so that a figure below its gate never reads as if it passed."""
    return f"{np.floor(value * 1e6) / 1e6:.6f}"


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement of two runtimes, over batches of different sizes, lengths and paddings.

    Attributes:
        min_cosine: of the two vectors of one token.
        mean_cosine: over all tokens.
        max_abs: largest difference of one number.
        neighbour_overlap: share of each token's ten nearest neighbours that stay, on average.
    """

    min_cosine: float
    mean_cosine: float
    max_abs: float
    neighbour_overlap: float

    def __str__(self) -> str:
        return (
            f"minimum cosine {rounded_down(self.min_cosine)}, mean cosine {rounded_down(self.mean_cosine)}, "
            f"neighbour overlap {rounded_down(self.neighbour_overlap)}"
        )

    def passes(self, gate: Gate) -> bool:
        """Whether the agreement reaches a gate; numbers that are not finite never do."""
        return (
            self.min_cosine >= gate.min_cosine
            and self.mean_cosine >= gate.mean_cosine
            and self.neighbour_overlap >= gate.neighbour_overlap
            and bool(np.isfinite(self.max_abs))
        )


def compare(runtime: Runtime, reference: Reference) -> Agreement:
    """Runs the reference's windows alone, sorted by length, and with much padding; compares all tokens."""
    expected = reference.states
    if runtime.dim != expected.shape[1]:
        raise ValueError(f"{runtime.dim} dimensions where the source has {expected.shape[1]}")
    by_length = runtime.rows(reference.batch(), _COMPARED_AT_ONCE)
    cosines, worst = [], 0.0
    for states in (reference.alone(runtime), by_length, reference.paired(runtime)):
        cosines.append(np.sum(_unit(states) * _unit(expected), axis=1))
        worst = float(np.maximum(worst, np.abs(states - expected).max()))  # maximum keeps NaN
    cosine = np.concatenate(cosines)
    return Agreement(float(cosine.min()), float(cosine.mean()), worst, neighbour_overlap(expected, by_length))


def neighbour_overlap(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The mean share of a token's nearest neighbours, without the token, on which two (n, dim) matrices agree."""
    k = min(NEIGHBOURS, len(expected) - 1)
    if k < 1:
        return 1.0
    nearest = []
    for states in (expected, found):
        unit = _unit(states)
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, -2)
        nearest.append(np.sort(np.argpartition(-cosines, k - 1, axis=1)[:, :k], axis=1))
    shared = [len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(*nearest, strict=True)]
    return float(np.mean(shared) / k)


def speeds(runtime: Runtime, reference: Reference, budgets: Iterable[int] = (FIRST_BUDGET,)) -> dict[int, float]:
    """Tokens per second, special tokens included, by batch budget."""
    return {budget: speed(runtime, reference, budget) for budget in budgets}


def tuned_speeds(runtime: Runtime, reference: Reference) -> dict[int, float]:
    """As `speeds`: from `FIRST_BUDGET` the budget is doubled as long as that is faster, else halved likewise."""
    found = speeds(runtime, reference)
    best = FIRST_BUDGET
    for factor in (2.0, 0.5):
        while SMALLEST_BUDGET <= (budget := int(best * factor)) <= LARGEST_BUDGET and budget not in found:
            found[budget] = speed(runtime, reference, budget)
            if found[budget] <= found[best]:
                break
            best = budget
    return found


def speed(runtime: Runtime, reference: Reference, batch_tokens: int) -> float:
    """Tokens per second, special tokens included, in batches like those of a job; the best of some passes."""
    wanted = _BATCHES_A_STREAM * runtime.streams * batch_tokens
    windows = np.arange(len(reference.lengths))
    repeats = max(1, round(wanted / reference.tokens))
    batch = reference.batch(np.tile(windows, repeats).tolist())
    best, until = np.inf, time.perf_counter() + _SECONDS
    for _ in range(_PASSES):
        began = time.perf_counter()
        runtime.rows(batch, batch_tokens)
        ended = time.perf_counter()
        best = min(best, ended - began)
        if ended > until:
            break
    return float(repeats * reference.tokens / best)


def _unit(states: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
    return unit
