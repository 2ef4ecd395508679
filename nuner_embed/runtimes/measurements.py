"""Measurements of runtimes on this machine, and their file in the user's cache folder."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from nuner_embed.cache import cached
from nuner_embed.errors import NunerEmbedError
from nuner_embed.files import hash_of, read_json, write_json
from nuner_embed.metadata import convert
from nuner_embed.runtimes.base import Precision, Runtime
from nuner_embed.runtimes.parity import GATES, Agreement, Reference, compare

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A runtime measured on this machine, and compared with the reference.

    Attributes:
        runtime: its name.
        precision: of the arithmetic.
        description: of the runtime, or the error.
        agreement: with the reference; None if the runtime does not run.
        streams: number of batches that ran at a time.
        tokens_per_second: by batch budget.
        passed: whether the runtime reaches the gate of its precision.
        bytes: size of the files that it runs.
    """

    runtime: str
    precision: Precision
    description: str
    agreement: Agreement | None
    streams: int
    tokens_per_second: dict[int, float]
    passed: bool
    bytes: int

    @property
    def best(self) -> tuple[int, float]:
        """The fastest batch budget, and its speed in tokens per second."""
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

    @classmethod
    def of(
        cls, name: str, runtime: Runtime, precision: Precision, reference: Reference, paces: dict[int, float], size: int
    ) -> Self:
        """Compares a loaded runtime with the reference.

        Args:
            name: of the runtime.
            runtime: as loaded.
            precision: of its arithmetic.
            reference: what the source computes.
            paces: tokens per second, by batch budget.
            size: bytes of the files that it runs.
        """
        agreement = compare(runtime, reference)
        passed = agreement.passes(GATES[precision])
        return cls(name, precision, runtime.description, agreement, runtime.streams, paces, passed, size)


def read_measurements(kind: str, key: dict[str, Any]) -> list[Measurement] | None:
    """What `write_measurements` wrote for this key; None where there is nothing, or the file is damaged."""
    try:
        rows = read_json(_file(kind, key))
        return [Measurement.from_dict(row) for row in rows] if isinstance(rows, list) else None
    except (OSError, NunerEmbedError, ValueError):
        return None


def write_measurements(kind: str, key: dict[str, Any], rows: list[Measurement]) -> None:
    """Keeps measurements in the cache; a line of the log says if they cannot be kept.

    Args:
        kind: of what was measured; a folder of the cache.
        key: all on which the figures depend, as plain JSON values.
        rows: to keep.
    """
    try:
        write_json(_file(kind, key), [row.to_dict() for row in rows])
    except (OSError, NunerEmbedError) as error:
        _LOG.info("these figures cannot be kept, and will be measured again next time: %s", error)


def _file(kind: str, key: dict[str, Any]) -> Path:
    return cached(kind, f"{hash_of(key)}.json")


def announce(rows: list[Measurement], best: Measurement, *, known: bool) -> None:
    """Logs which of several measured candidates is fastest; with less weight where that was known before."""
    if len(rows) > 1:
        others = [f"{row.runtime} {row.precision} {_pace(row)}" for row in rows if row is not best]
        _LOG.log(
            logging.DEBUG if known else logging.INFO,  # once on each machine
            "fastest here: %s %s, %.0f tokens/s in batches of %d%s (%s)",
            best.runtime, best.precision, best.best[1], best.best[0],
            f", {best.streams} at a time" if best.streams > 1 else "", ", ".join(others),
        )  # fmt: skip


def _pace(row: Measurement) -> str:
    if row.agreement is None:
        return "does not run"
    return f"{row.best[1]:,.0f}" if row.passed else "fails its gate"
