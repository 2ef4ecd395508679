"""AdamW and its schedule (section 3.3), and a run's state in a file: parameters, moments, how far it is."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from nuner_embed.errors import PretrainingError
from nuner_embed.files import atomic_write
from nuner_embed.pretraining.settings import Settings

# what AdamW keeps of a parameter; its steps are not those of the run where a batch had nothing to learn from
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.AdamW:
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


def rate_at(step: int, steps: int, settings: Settings) -> float:
    """The learning rate of a step, counted from 0: up over the warm-up, then down to 0."""
    warm = round(settings.warmup * steps)
    if step < warm:
        return settings.learning_rate * (step + 1) / (warm + 1)
    return settings.learning_rate * (steps - step) / max(1, steps - warm)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every group its rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["times"]


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that change, by name."""
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


def save_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, facts: dict[str, Any]) -> None:
    """Writes what a run needs to go on, atomically."""
    tensors = {}
    for name, parameter in trained(model).items():
        tensors[name] = parameter.detach().cpu().contiguous()
        for moment in _MOMENTS:
            if parameter in optimizer.state:
                tensors[f"{moment}:{name}"] = optimizer.state[parameter][moment].cpu().contiguous()
    with atomic_write(path) as stream:
        stream.write(save(tensors, metadata={"facts": json.dumps(facts)}))


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Puts a run where it was and returns its facts.

    Args:
        path: of a file that `save_state` wrote.
        model, optimizer: as new.

    Raises:
        PretrainingError: the file is damaged or of another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["facts"])
            kept = set(file.keys())
            for name, parameter in trained(model).items():
                with torch.no_grad():
                    parameter.copy_(file.get_tensor(name))
                if f"{_MOMENTS[0]}:{name}" in kept:
                    optimizer.state[parameter] = {
                        moment: file.get_tensor(f"{moment}:{name}").to(parameter.device) for moment in _MOMENTS
                    }
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise PretrainingError(f"{path}: the state of the run is damaged ({error}); --force starts over") from None
    return facts
