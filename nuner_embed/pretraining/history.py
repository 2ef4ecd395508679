"""How a run went: a row a measurement, as CSV for programs and as curves for people."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from nuner_embed.metadata import Count


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured at one step; None where it was not.

    Attributes:
        step: optimizer steps so far.
        epoch: passes over the training part so far, with fractions.
        train_loss: mean over the batches since the last row.
        train_top1: share of the labelled tokens whose best concept in the batch is right, over the same batches.
        validation_loss: mean over the batches of the held-out part.
        validation_top1: of the held-out part's labelled tokens.
        probe_f1: of a quick probe on a typed set, token macro-F1 with None left out, a fraction of 1.
        learning_rate: at this step.
        scale, bias: of the loss `sigmoid`.
        sentences_per_second: of training since the last row, validation left out; of several processes, this and the
            training's loss and accuracy are the first one's.
    """

    step: Count
    epoch: float
    train_loss: float | None = None
    train_top1: float | None = None
    validation_loss: float | None = None
    validation_top1: float | None = None
    probe_f1: float | None = None
    learning_rate: float | None = None
    scale: float | None = None
    bias: float | None = None
    sentences_per_second: float | None = None


@dataclass
class Sums:
    """What was measured over some batches.

    Attributes:
        loss: summed.
        correct, labelled: how many labelled tokens have a right concept as their best one, and how many are labelled.
        batches: how many.
    """

    loss: float = 0.0
    correct: Count = 0
    labelled: Count = 0
    batches: Count = 0

    @property
    def mean_loss(self) -> float:
        """The mean loss over the batches."""
        return self.loss / max(1, self.batches)

    @property
    def top_1(self) -> float:
        """Share of the labelled tokens, a fraction of 1."""
        return self.correct / max(1, self.labelled)


def to_csv(rows: Sequence[Row]) -> bytes:
    """All rows, below a line of names; a cell is empty where nothing was measured."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [one.name for one in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _shown(value) for name, value in asdict(row).items()})
    return text.getvalue().encode()


def _shown(value: float | None) -> str | float | None:
    return f"{value:.6g}" if isinstance(value, float) else value


def curve(rows: Sequence[Row]) -> bytes:
    """Losses above, accuracies and probe below, over epochs; PNG.

    Raises:
        ImportError: matplotlib, of the extra `plots`, is not installed.
    """
    from matplotlib.figure import Figure  # and not pyplot, which has a backend and figures for the whole process

    drawn = Figure(figsize=(6.4, 6.4), layout="constrained")
    above, below = drawn.subplots(2, 1, sharex=True)
    for axes, names, factor in (
        (above, ("train_loss", "validation_loss"), 1),
        (below, ("train_top1", "validation_top1", "probe_f1"), 100),
    ):
        for name in names:
            points = [(row.epoch, factor * value) for row in rows if (value := getattr(row, name)) is not None]
            if points:
                marker = None if name.startswith("train") else "o"
                axes.plot(*zip(*points, strict=True), label=_CURVES[name], marker=marker, markersize=4)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    above.set_ylabel("loss")
    above.set_yscale("log")
    below.set_ylabel("percent")
    below.set_xlabel("epochs")
    content = io.BytesIO()
    drawn.savefig(content, format="png", dpi=120)
    return content.getvalue()


_CURVES = {
    "train_loss": "training loss",
    "validation_loss": "held-out loss",
    "train_top1": "top-1 concept in the batch, training",
    "validation_top1": "top-1 concept in the batch, held out",
    "probe_f1": "quick probe, token macro-F1, None left out",
}
