"""The processes that train together: one alone, or those that torchrun started."""

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
    """This process and how many others train with it.

    Attributes:
        device: where this process computes.
        rank: its number, from 0.
        number: how many processes there are.
    """

    device: torch.device
    rank: int = 0
    number: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and says how the run goes."""
        return self.rank == 0

    def wait(self) -> None:
        """Waits until every process has come here."""
        if self.number > 1:
            distributed.barrier()

    def wrapped(self, model: nn.Module) -> Any:
        """The model; with several processes, one whose gradients are the means over all of them."""
        if self.number == 1:
            return model
        places = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=places)


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Joins the processes that torchrun started, or is the only process where it started none.

    Args:
        device: "auto", "cpu" or "cuda".

    Raises:
        PretrainingError: CUDA was asked for, and torch finds none.
    """
    rank, number, local = (int(os.environ.get(name, least)) for name, least in _VARIABLES.items())
    cuda = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise PretrainingError("asked for CUDA, but torch finds none; install a CUDA build, or say --device cpu")
    place = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(place)
    begun = number > 1 and not distributed.is_initialized()
    if begun:
        distributed.init_process_group("nccl" if cuda else "gloo")
    yield Processes(place, rank, number)
    if begun:  # not after an error: the others may never come here
        distributed.destroy_process_group()


_VARIABLES = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
