"""What a few-shot run found: averages over sets, paired differences between models draw by draw, as JSON, as a table
like the paper's Table 3, and as curves like those of its Figures 7 and 13.
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nuner_embed.evaluation.fewshot import Cell, FewShotProtocol
from nuner_embed.heads.labelled_words import SCHEME, shortened

AVERAGE = "average"
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between the scores of two models that were given the same support sets.

    Attributes:
        model: the first model.
        over: the model whose scores are subtracted.
        set: the set, or "average".
        k: size of the support sets.
        mean: mean of the differences of token macro-F1, draw by draw.
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
        averaged: the sets without blank cells, over which averages are taken.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.models = list(dict.fromkeys(cell.model for cell in cells))
        self.sets = list(dict.fromkeys(cell.set for cell in cells))
        self.k = list(dict.fromkeys(cell.k for cell in cells))
        self._cells = {(cell.model, cell.set, cell.k): cell for cell in cells}
        blank = {cell.set for cell in cells if not cell.scores}
        self.averaged = [name for name in self.sets if name not in blank]

    def cell(self, model: str, set_: str, k: int) -> Cell:
        """The cell of a model, a set and a k."""
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
        """The paired differences of every model from the first one, in every cell and on average."""
        pairs = [(model, self.models[0]) for model in self.models[1:]]
        found = [self.difference(*pair, set_, k) for pair in pairs for set_ in [*self.sets, AVERAGE] for k in self.k]
        return [one for one in found if one is not None]


_COLUMNS = 3


def figure(cells: Sequence[Cell]) -> bytes:
    """A panel for the average and one for each set, bands one standard deviation wide to either side, as PNG.

    Raises:
        ImportError: matplotlib, of the extra `plots`, is not installed.
    """
    from matplotlib.figure import Figure  # not pyplot, whose backend and figures are global

    grid = Grid(cells)
    names = [AVERAGE, *grid.sets] if len(grid.averaged) > 1 else grid.sets
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    drawn = Figure(figsize=(4.2 * columns, 3.4 * rows), layout="constrained")
    panels = drawn.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, name in zip(panels.ravel(), names, strict=False):
        for model in grid.models:
            scores = [(k, grid.scores(model, name, k)) for k in grid.k]
            filled = [(k, 100 * found) for k, found in scores if len(found)]
            if not filled:
                continue
            at = [k for k, _ in filled]
            mean = np.array([found.mean() for _, found in filled])
            spread = np.array([found.std(ddof=1) if len(found) > 1 else 0.0 for _, found in filled])
            (line,) = axes.plot(at, mean, marker="o", markersize=3.5, label=model)
            axes.fill_between(at, mean - spread, mean + spread, color=line.get_color(), alpha=0.18, linewidth=0)
        axes.set_xscale("log", base=2)
        axes.set_xlim(grid.k[0] * 0.85, grid.k[-1] * 1.18)
        axes.set_xticks(grid.k, [str(k) for k in grid.k])
        axes.set_title(f"average of {len(grid.averaged)} sets" if name == AVERAGE else name, fontsize=10)
        axes.grid(alpha=0.25)
    for axes in panels.ravel()[len(names) :]:
        axes.axis("off")
    panels[0, 0].legend(fontsize=8, loc="lower right")
    drawn.supxlabel("k", fontsize=10)
    drawn.supylabel("token macro-F1, None left out, percent", fontsize=10)
    content = io.BytesIO()
    drawn.savefig(content, format="png", dpi=120)
    return content.getvalue()


@dataclass(frozen=True, slots=True)
class SetFacts:
    """Facts about a set for readers of the tables.

    Attributes:
        name: of the set.
        train, test: sentences of both parts.
        types: number of types.
        repeated: number of test texts that also occur in the training part.
        lost: annotated mentions of the test part that overlap an earlier one or hold no word.
    """

    name: str
    train: int
    test: int
    types: int
    repeated: int
    lost: int


def results(cells: Sequence[Cell], sets: Sequence[SetFacts], protocol: FewShotProtocol) -> dict[str, Any]:
    """The contents of `results.json`."""
    grid = Grid(cells)
    return {
        "metric": "token_macro_f1",
        "scheme": SCHEME,
        "k": list(protocol.k),
        "protocol": {**asdict(protocol), "k": list(protocol.k)},
        "sets": [asdict(facts) for facts in sets],
        "averaged": grid.averaged,
        "cells": [cell.to_dict() for cell in cells],
        "differences": [one.to_dict() for one in grid.differences()],
    }


def table(cells: Sequence[Cell], sets: Sequence[SetFacts], protocol: FewShotProtocol) -> str:
    """The contents of `table.md`."""
    grid = Grid(cells)
    unit = f"{protocol.unit}, exactly k" if protocol.unit == "words" else "mentions, between k and 2k"
    weights = protocol.class_weight or "none"
    lines = [
        "Token macro-F1 over the types, None left out, in percent: mean and standard deviation over "
        f"{protocol.draws} support sets of each size, the same for every model. Frozen features, one linear layer "
        f"(C = {protocol.C:g}, class weights: {weights}). Labels: {SCHEME}. A support set holds {unit} of each type.",
        "",
    ]
    for name in [AVERAGE, *grid.sets] if len(grid.sets) > 1 else grid.sets:
        lines += [f"## {_title(name, grid)}", "", *_block(grid, name), ""]
        lines += _differences(grid, name)
    lines += ["## the sets", "", "| set | train | test | types | test texts also in train |", "|---|---|---|---|---|"]
    lines += [f"| {s.name} | {s.train:,} | {s.test:,} | {s.types} | {s.repeated} |" for s in sets]
    lines += ["", *_remarks(grid, sets)]
    return "\n".join(lines) + "\n"


def _title(name: str, grid: Grid) -> str:
    if name != AVERAGE:
        return name
    missing = [one for one in grid.sets if one not in grid.averaged]
    left_out = f" (without {shortened(missing)}: cells are blank)" if missing else ""
    return f"average of {', '.join(grid.averaged) or 'no set'}{left_out}"


def _block(grid: Grid, name: str) -> list[str]:
    lines = ["| k | " + " | ".join(grid.models) + " |", "|---" * (1 + len(grid.models)) + "|"]
    for k in grid.k:
        lines.append(f"| {k} | " + " | ".join(_shown(grid.scores(model, name, k)) for model in grid.models) + " |")
    return lines


def _shown(scores: Any) -> str:
    if not len(scores):
        return ""
    spread = f" ± {100 * np.std(scores, ddof=1):.1f}" if len(scores) > 1 else ""
    return f"{100 * np.mean(scores):.1f}{spread}"


def _differences(grid: Grid, name: str) -> list[str]:
    others = grid.models[1:]
    if not others:
        return []
    lines = [
        f"Over {grid.models[0]}, from the same support sets, with 95% intervals of the paired difference:",
        "",
        "| k | " + " | ".join(others) + " |",
        "|---" * (1 + len(others)) + "|",
    ]
    for k in grid.k:
        found = [grid.difference(model, grid.models[0], name, k) for model in others]
        lines.append(f"| {k} | " + " | ".join(str(one) if one else "" for one in found) + " |")
    return [*lines, ""]


def _remarks(grid: Grid, sets: Sequence[SetFacts]) -> list[str]:
    first = grid.models[0]
    remarks = []
    for name in grid.sets:
        for k in grid.k:
            cell = grid.cell(first, name, k)
            if cell.blank:
                remarks.append(f"- {name}, k = {k}: blank, {cell.blank}.")
            elif cell.left_out:
                remarks.append(f"- {name}, k = {k}: without {', '.join(cell.left_out)}.")
    remarks += [
        f"- {s.name}: {s.lost} annotated mentions of the test part cannot be shown by words." for s in sets if s.lost
    ]
    return remarks
