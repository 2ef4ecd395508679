"""Averages over sets and paired differences between models, draw by draw."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nuner_embed.evaluation.fewshot import Cell

AVERAGE = "average"
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more one model reaches than another from the same support sets.

    Attributes:
        model: the one.
        over: the other.
        set: the set, or "average".
        k: size of the support sets.
        mean: of the differences of token macro-F1, draw by draw.
        low, high: ends of its 95% interval (Student's t); None with a single draw.
    """

    model: str
    over: str
    set: str
    k: int
    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """In percent: +1.2 [+0.4, +2.0]."""
        interval = "" if self.low is None or self.high is None else f" [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"
        return f"{100 * self.mean:+.1f}{interval}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class Grid:
    """All cells of a run, by model, set and k.

    Attributes:
        models, sets, k: in the order in which they were asked for.
        averaged: the sets of which no cell is blank: averages are over them.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.models = list(dict.fromkeys(cell.model for cell in cells))
        self.sets = list(dict.fromkeys(cell.set for cell in cells))
        self.k = list(dict.fromkeys(cell.k for cell in cells))
        self._cells = {(cell.model, cell.set, cell.k): cell for cell in cells}
        blank = {cell.set for cell in cells if not cell.scores}
        self.averaged = [name for name in self.sets if name not in blank]

    def cell(self, model: str, set_: str, k: int) -> Cell:
        """One of the cells."""
        return self._cells[model, set_, k]

    def scores(self, model: str, set_: str, k: int) -> NDArray[np.float64]:
        """Token macro-F1 of each draw, (draws,); of "average" the mean over `averaged`; empty where there is none."""
        if set_ != AVERAGE:
            return np.array(self._cells[model, set_, k].scores)
        several = [self._cells[model, name, k].scores for name in self.averaged]
        return np.mean(several, axis=0) if several else np.empty(0)

    def difference(self, model: str, over: str, set_: str, k: int) -> Difference | None:
        """The paired difference of two models in a cell; None where the cell is blank."""
        differences = self.scores(model, set_, k) - self.scores(over, set_, k)
        if not len(differences):
            return None
        mean = float(differences.mean())
        if len(differences) == 1:
            return Difference(model, over, set_, k, mean, None, None)
        half = float(stats.sem(differences) * stats.t.ppf((1 + _CONFIDENCE) / 2, len(differences) - 1))
        return Difference(model, over, set_, k, mean, mean - half, mean + half)

    def differences(self) -> list[Difference]:
        """Of every model over the first one, in every cell and on average."""
        pairs = [(model, self.models[0]) for model in self.models[1:]]
        found = [self.difference(*pair, set_, k) for pair in pairs for set_ in [*self.sets, AVERAGE] for k in self.k]
        return [one for one in found if one is not None]
