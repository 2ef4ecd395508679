"""How far a runtime is from the source, how fast it is, and what is good enough."""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nuner_embed.metadata import convert
from nuner_embed.runtimes.base import Precision, Runtime
from nuner_embed.runtimes.reference import Reference

# Batch budgets in tokens that a CPU's speed is measured with, from small caches to processors with matrix units;
# benchmarks/encode.py has the table.
BUDGETS = (256, 512, 2048)
NEIGHBOURS = 10
_COMPARED_AT_ONCE = 1024  # tokens
# A speed is the best of so many passes, fewer if they have taken so long.
_PASSES, _SECONDS = 3, 0.4


@dataclass(frozen=True, slots=True)
class Gate:
    """What a runtime must reach, on every token of the reference.

    Attributes:
        min_cosine: of the worst token.
        mean_cosine: over all tokens.
        neighbour_overlap: share of each token's ten nearest neighbours that stay, on average.
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
    """Six decimals of a figure that has to reach a gate: one that misses the gate never reads as if it reached it."""
    return f"{np.floor(value * 1e6) / 1e6:.6f}"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two runtimes are apart, over batches of different sizes, lengths and paddings.

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
        """Whether it is good enough; a number that is not finite never is."""
        return (
            self.min_cosine >= gate.min_cosine
            and self.mean_cosine >= gate.mean_cosine
            and self.neighbour_overlap >= gate.neighbour_overlap
            and bool(np.isfinite(self.max_abs))
        )


@dataclass(frozen=True, slots=True)
class Measurement:
    """A runtime on this machine, beside the reference.

    Attributes:
        runtime: its name.
        precision: of its arithmetic.
        description: of the runtime, or what went wrong.
        agreement: None where it does not run.
        tokens_per_second: by batch budget.
        passed: whether it reaches its precision's gate.
        bytes: of the files it runs.
    """

    runtime: str
    precision: Precision
    description: str
    agreement: Agreement | None
    tokens_per_second: dict[int, float]
    passed: bool
    bytes: int

    @property
    def best(self) -> tuple[int, float]:
        """The batch budget with which it is fastest, and its speed with that."""
        return max(self.tokens_per_second.items(), key=lambda pair: pair[1])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Reads what `to_dict` gave, through JSON or not.

        Raises:
            ValueError: the values are no measurement.
        """
        speeds = values.get("tokens_per_second") if isinstance(values, dict) else None
        if not isinstance(speeds, dict) or not all(str(budget).isdecimal() for budget in speeds):
            raise ValueError("a measurement without speeds by batch budget")
        found = convert({**values, "tokens_per_second": {int(budget): speed for budget, speed in speeds.items()}}, cls)
        if found.passed and not (found.agreement and speeds):
            raise ValueError("a runtime that passed without having run")
        return found


def compare(runtime: Runtime, reference: Reference) -> Agreement:
    """Runs the reference's windows alone, sorted by length and badly padded, and compares token by token."""
    expected = reference.states
    if runtime.dim != expected.shape[1]:
        raise ValueError(f"{runtime.dim} dimensions where the source has {expected.shape[1]}")
    by_length = runtime.rows(reference.batch(), _COMPARED_AT_ONCE)
    cosines, worst = [], 0.0
    for states in (reference.alone(runtime), by_length, reference.paired(runtime)):
        cosines.append(np.sum(_unit(states) * _unit(expected), axis=1))
        worst = float(np.maximum(worst, np.abs(states - expected).max()))  # which keeps what is no number
    cosine = np.concatenate(cosines)
    return Agreement(float(cosine.min()), float(cosine.mean()), worst, neighbour_overlap(expected, by_length))


def neighbour_overlap(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The mean share of a token's nearest neighbours, itself left out, that two (n, dim) matrices agree on."""
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


def speeds(runtime: Runtime, reference: Reference, budgets: Iterable[int] | None = None) -> dict[int, float]:
    """Tokens a second by batch budget, by those of `BUDGETS` where none are named."""
    return {budget: speed(runtime, reference, budget) for budget in (BUDGETS if budgets is None else budgets)}


def speed(runtime: Runtime, reference: Reference, batch_tokens: int) -> float:
    """Tokens a second, special ones included, in batches as a job makes them: the best of some passes."""
    batch = reference.batch()
    best, until = np.inf, time.perf_counter() + _SECONDS
    for _ in range(_PASSES):
        began = time.perf_counter()
        runtime.rows(batch, batch_tokens)
        ended = time.perf_counter()
        best = min(best, ended - began)
        if ended > until:
            break
    return float(reference.tokens / best)


def _unit(states: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
    return unit
