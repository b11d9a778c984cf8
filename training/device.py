"""Where the network's steps are made: on a GPU where there is one, in mixed precision and compiled, else on the processor.

All else of training (what is fitted before the first step, calibration, evaluation, the version) is done on the processor.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
from torch import nn

from training.distributed import rank
from training.model import Heads

log = logging.getLogger(__name__)

#: Triton, which torch.compile writes kernels with, needs one of these.
_COMPILERS = ("gcc", "clang")


#: A network, or its compiled form.
Network = Callable[..., Heads]


class Device(NamedTuple):
    """Where steps are made and how: `mixed` runs the network in bfloat16 where that does no harm, `compiler` is torch.compile's
    backend. Weights are float32 always.
    """

    where: torch.device = torch.device("cpu")
    mixed: bool = False
    compiler: str | None = None

    def precision(self) -> torch.autocast:
        """Inside of it a network runs in the precision of this device."""
        return torch.autocast(self.where.type, torch.bfloat16, enabled=self.mixed)

    def compiled(self, network: nn.Module) -> Network:
        """What to call in place of the network, whose weights it shares. Batches differ in size: one compilation is for all."""
        return network if self.compiler is None else torch.compile(network, backend=self.compiler, dynamic=True)

    @contextmanager
    def steps(self) -> Iterator[None]:
        """Around the steps. The same seed gives the same bits on a processor only: on a GPU running sums have no such kernel."""
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(before and self.where.type == "cpu")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


@cache
def best_device() -> Device:
    """A GPU where torch sees one, and that is said; one for each process where there are several. Else the processor."""
    if not torch.cuda.is_available():
        return Device()
    where = torch.device("cuda", rank() % torch.cuda.device_count())
    mixed = torch.cuda.is_bf16_supported(including_emulation=False)
    compiles = any(shutil.which(name) for name in _COMPILERS)
    how = f"{'bfloat16' if mixed else 'float32'}, {'compiled' if compiles else 'not compiled: there is no C compiler'}"
    log.warning("training on %s (%s; %s)", where, torch.cuda.get_device_name(where), how)
    return Device(where, mixed, "inductor" if compiles else None)
