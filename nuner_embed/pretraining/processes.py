"""The processes that train together: a single one, or those that torchrun started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn

from nuner_embed.errors import PretrainingError


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among the processes that train together.

    Attributes:
        device: where this process computes.
        rank: number of this process, from 0.
        number: number of processes.
    """

    device: torch.device
    rank: int = 0
    number: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and reports the progress."""
        return self.rank == 0

    def wait(self) -> None:
        """Waits until every process has called this method."""
        if self.number > 1:
            distributed.barrier()

    def wrapped(self, model: nn.Module) -> Any:
        """The model, or with several processes a wrapper that averages gradients over all of them."""
        if self.number == 1:
            return model
        places = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=places)


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Joins the processes that torchrun started; without torchrun, this process is the only one.

    Args:
        device: "auto", "cpu" or "cuda".

    Raises:
        PretrainingError: CUDA was asked for, and torch finds no GPU.
    """
    rank, number, local = (int(os.environ.get(name, least)) for name, least in _VARIABLES.items())
    cuda = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise PretrainingError("asked for CUDA, but torch finds none; install a CUDA build, or use --device cpu")
    place = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(place)
    begun = number > 1 and not distributed.is_initialized()
    if begun:
        distributed.init_process_group("nccl" if cuda else "gloo")
    yield Processes(place, rank, number)
    if begun:  # not after an error, since other processes may never reach this point
        distributed.destroy_process_group()


_VARIABLES = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
