"""AdamW and its schedule (section 3.3), and a run's state in a file: parameters, moments, how far it is."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from nuner_embed.errors import PretrainingError
from nuner_embed.files import atomic_write
from nuner_embed.metadata import Count, Sha256, parse
from nuner_embed.pretraining.history import Row, Sums
from nuner_embed.pretraining.settings import PretrainSettings

# what AdamW keeps of a parameter; its steps are not those of the run where a batch had nothing to learn from
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def make_optimizer(model: nn.Module, settings: PretrainSettings) -> torch.optim.AdamW:
    """AdamW over all that is trained: weight decay for matrices, a rate of their own for scale and bias."""
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
    """The parameters that change, by name."""
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far a run has come.

    Attributes:
        fingerprint: of what the run is made of.
        step: optimizer steps so far.
        rows: what was measured.
        sums: what was measured since the last row: loss, correct, labelled and batches of `Sums`.
    """

    fingerprint: Sha256
    step: Count
    rows: list[Row]
    sums: Sums


def save_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, facts: Progressed) -> None:
    """Writes everything that a run needs to continue, atomically and with a hash."""
    tensors = {}
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


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progressed:
    """Restores the parameters and moments of a run, and returns how far the run had come.

    Args:
        path: of a file that `save_state` wrote.
        model, optimizer: as new; they are changed only if the file is whole.

    Raises:
        PretrainingError: the file is damaged or of another model.
    """
    try:
        if not path.is_file() or path.is_symlink():
            raise ValueError("it is no file")
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        facts = parse(about["facts"], Progressed)
        if about.get("sha256", _digest(tensors, about["facts"])) != _digest(tensors, about["facts"]):
            raise ValueError("its bytes are not those that were written")  # an earlier version wrote no hash
        _put(tensors, model, optimizer)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise PretrainingError(f"{path}: the state of the run is damaged ({reason}); --force starts over") from None
    return facts


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
