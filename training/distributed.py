"""Training by several processes that `torchrun` started: each takes its share of every batch, and all make the same steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from worker.errors import ConfigurationError

T = TypeVar("T")


@contextmanager
def together() -> Iterator[None]:
    """Join the processes that `torchrun` started with this one, if it did. Over gloo, as this is for processors."""
    if not dist.is_torchelastic_launched():
        yield
        return
    dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is: the first, 0, writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def wait() -> None:
    """Until all are here."""
    if processes() > 1:
        dist.barrier()


def of_first(mine: T) -> T:
    """What the first process gives, in every process: where they could see different things, it alone looks."""
    if processes() == 1:
        return mine
    given = [mine]
    dist.broadcast_object_list(given)
    return given[0]


def must_agree(identity: dict[str, str]) -> None:
    """Raises ConfigurationError in every process when one is about something else: they would wait for each other for ever."""
    if processes() == 1:
        return
    theirs: list[dict[str, str]] = [{}] * processes()
    dist.all_gather_object(theirs, identity)
    if others := [what for what in identity if len({each[what] for each in theirs}) > 1]:
        raise ConfigurationError(f"the processes that train together differ in {', '.join(others)}: start all with the same")


def add_up(model: nn.Module, loss: float) -> float:
    """The gradients of all processes added up, in place, and their losses: the same numbers in each process."""
    if processes() == 1:
        return loss
    moving = [p for p in model.parameters() if p.requires_grad]
    own = [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in moving]
    # Over gloo, which is for processors, whatever the network is on.
    summed = torch.cat([*(gradient.cpu() for gradient in own), torch.tensor([loss])])
    dist.all_reduce(summed)
    for parameter, gradient in zip(moving, torch.split(summed[:-1], [p.numel() for p in moving]), strict=True):
        parameter.grad = gradient.view_as(parameter).to(parameter.device, copy=True)
    return float(summed[-1])
