"""What a few-shot run found, as JSON and as a table like the paper's Table 3."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nuner_embed.evaluation.comparison import AVERAGE, Grid
from nuner_embed.evaluation.fewshot import Cell
from nuner_embed.evaluation.protocol import Protocol
from nuner_embed.heads.labelled_words import SCHEME, shortened


@dataclass(frozen=True, slots=True)
class SetFacts:
    """What a reader must know of a set.

    Attributes:
        name: of the set.
        train, test: sentences of both parts.
        types: how many.
        repeated: test texts that also stand in the training part.
        lost: annotated mentions of the test part that words cannot show: they overlap an earlier one or have no word.
    """

    name: str
    train: int
    test: int
    types: int
    repeated: int
    lost: int


def results(cells: Sequence[Cell], sets: Sequence[SetFacts], protocol: Protocol) -> dict[str, Any]:
    """Everything, for `results.json`."""
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


def table(cells: Sequence[Cell], sets: Sequence[SetFacts], protocol: Protocol) -> str:
    """The tables, for `table.md`."""
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
