"""The state of a run: what was measured, the parameters with AdamW's moments, and the number of steps so far.

AdamW and its schedule (section 3.3 of the paper) stand here too. Measurements are written as CSV and drawn as curves.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from nuner_embed.errors import PretrainingError
from nuner_embed.files import atomic_write
from nuner_embed.metadata import Count, Sha256, parse
from nuner_embed.pretraining.settings import PretrainSettings


@dataclass(frozen=True, slots=True)
class Row:
    """The measurements at one step; None for what was not measured.

    Attributes:
        step: optimizer steps so far.
        epoch: passes over the training part so far, with fractions.
        train_loss: mean over the batches since the last row.
        train_top1: share of the labelled tokens whose best concept in the batch is right, over the same batches.
        validation_loss: mean over the batches of the held-out part.
        validation_top1: of the held-out part's labelled tokens.
        probe_f1: token macro-F1 of a quick probe on a typed set, None left out, a fraction of 1.
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
    """Sums of measurements over some batches.

    Attributes:
        loss: sum of the losses.
        correct, labelled: number of labelled tokens whose best concept is right, and of all labelled tokens.
        batches: number of batches.
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
    """All rows as CSV with a header; a cell is empty if nothing was measured."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [one.name for one in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _shown(value) for name, value in asdict(row).items()})
    return text.getvalue().encode()


def _shown(value: float | None) -> str | float | None:
    return f"{value:.6g}" if isinstance(value, float) else value


def curve(rows: Sequence[Row]) -> bytes:
    """A PNG with the losses over epochs above, and the accuracies and the probe below.

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

# AdamW's state of a parameter; its steps differ from the run's steps if a batch had nothing to learn from
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_BEST = "best:"


def make_optimizer(model: nn.Module, settings: PretrainSettings) -> torch.optim.AdamW:
    """AdamW over all trained parameters: weight decay for matrices, and a rate of their own for scale and bias."""
    outermost = {id(one) for one in model.outermost}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    for parameter in trained(model).values():
        if id(parameter) in outermost:
            outer.append(parameter)
        else:
            (decayed if parameter.ndim > 1 else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay, "times": 1.0},
        {"params": plain, "weight_decay": 0.0, "times": 1.0},
        {"params": outer, "weight_decay": 0.0, "times": settings.scale_rate},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )


def rate_at(step: int, steps: int, settings: PretrainSettings) -> float:
    """The learning rate of a step, counted from 0: up over the warm-up, then down to 0."""
    warm = round(settings.warmup_ratio * steps)
    if step < warm:
        return settings.learning_rate * (step + 1) / (warm + 1)
    return settings.learning_rate * (steps - step) / max(1, steps - warm)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the rate of every group of parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["times"]


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


@dataclass(frozen=True, slots=True)
class Progressed:
    """The progress of a run.

    Attributes:
        fingerprint: of the inputs of the run.
        step: optimizer steps so far.
        rows: the measurements.
        sums: the sums since the last row.
    """

    fingerprint: Sha256
    step: Count
    rows: list[Row]
    sums: Sums


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    facts: Progressed,
    best: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Writes everything that a run needs to continue, atomically and with a hash.

    Args:
        path: of the file.
        model, optimizer: in their present state.
        facts: the progress so far.
        best: the trained parameters at the best validation so far, by name, if they are to be kept.
    """
    tensors = {f"{_BEST}{name}": one.cpu().contiguous() for name, one in (best or {}).items()}
    for name, parameter in trained(model).items():
        tensors[name] = parameter.detach().cpu().contiguous()
        for moment in _MOMENTS:
            if parameter in optimizer.state:
                tensors[f"{moment}:{name}"] = optimizer.state[parameter][moment].cpu().contiguous()
    text = json.dumps(asdict(facts))
    with atomic_write(path, follow=False) as stream:
        stream.write(save(tensors, metadata={"facts": text, "sha256": _digest(tensors, text)}))


def _digest(tensors: dict[str, torch.Tensor], facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.numpy().reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, torch.Tensor] | None = None
) -> Progressed:
    """Restores the parameters and moments of a run, and returns its progress.

    Args:
        path: of a file that `save_state` wrote.
        model, optimizer: newly made; they are changed only if the file is sound.
        best: filled with the parameters at the best validation, which the file must then hold; None for none.

    Raises:
        PretrainingError: the file is damaged or of another model.
    """
    try:
        if not path.is_file() or path.is_symlink():
            raise ValueError("it is not a file")
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        facts = parse(about["facts"], Progressed)
        if about.get("sha256", _digest(tensors, about["facts"])) != _digest(tensors, about["facts"]):
            raise ValueError("its bytes are not those that were written")  # earlier versions wrote no hash
        kept = {} if best is None else _best_among(tensors, model)
        _put(tensors, model, optimizer)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise PretrainingError(f"{path}: the state of the run is damaged ({reason}); --force starts over") from None
    if best is not None:
        best.update(kept)
    return facts


def _best_among(tensors: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    best = {}
    for name, parameter in trained(model).items():
        one = tensors[f"{_BEST}{name}"]
        if one.shape != parameter.shape or one.dtype != parameter.dtype:
            raise ValueError(f"the best {name} has shape {tuple(one.shape)}, not {tuple(parameter.shape)}")
        best[name] = one.to(parameter.device)
    return best


def _put(tensors: dict[str, torch.Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    moments: dict[nn.Parameter, dict[str, torch.Tensor]] = {}
    for name, parameter in trained(model).items():
        kept = [f"{moment}:{name}" for moment in _MOMENTS]
        if kept[0] in tensors:
            moments[parameter] = {moment: tensors[key] for moment, key in zip(_MOMENTS, kept, strict=True)}
        for tensor in (tensors[name], *list(moments.get(parameter, {}).values())[1:]):  # the first is a number
            if tensor.shape != parameter.shape or tensor.dtype != parameter.dtype:
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {tuple(parameter.shape)}")
    for name, parameter in trained(model).items():
        with torch.no_grad():
            parameter.copy_(tensors[name])
        if parameter in moments:
            optimizer.state[parameter] = {key: one.to(parameter.device) for key, one in moments[parameter].items()}
