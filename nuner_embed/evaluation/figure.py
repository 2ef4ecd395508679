"""The curves of a few-shot run, as in the paper's Figures 7 and 13."""

import io
from collections.abc import Sequence

import numpy as np

from nuner_embed.evaluation.comparison import AVERAGE, Grid
from nuner_embed.evaluation.fewshot import Cell

_COLUMNS = 3


def figure(cells: Sequence[Cell]) -> bytes:
    """A panel for the average and one for each set, bands one standard deviation wide to either side, as PNG.

    Raises:
        ImportError: matplotlib, of the extra `plots`, is not installed.
    """
    from matplotlib.figure import Figure  # and not pyplot, which has a backend and figures for the whole process

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
