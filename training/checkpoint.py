"""A network in training as one file: all that the next step depends on, and whose training it is. Never pickle."""

import json
import logging
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from training.distributed import must_agree, of_first, rank
from training.model import IntentModel
from training.sampler import Sampler

log = logging.getLogger(__name__)

#: Steps from one checkpoint to the next: seconds of work, and a hundredth of them to write it.
EVERY_STEPS = 200
_ABOUT = "about"

#: What JSON holds exactly, and tensors by name.
_Read = tuple[dict[str, Any], dict[str, Tensor]]


@dataclass
class Training:
    """What a step changes. `average` is the running mean of the weights, `losses` has one number for each step made."""

    model: IntentModel
    average: IntentModel
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    sampler: Sampler
    losses: list[float] = field(default_factory=list)


class Checkpoint:
    """The file of one network, looked at when this is made; of several processes the first one looks for all.

    `identity` names what its training follows from. A file of another one is not used, nor one that cannot be read: that is said.
    Raises ConfigurationError in all processes when their identities differ.
    """

    def __init__(self, path: Path, identity: dict[str, str]) -> None:
        self.path, self._identity = path, identity
        must_agree(identity)
        # Were some to go on and others to begin anew, they would wait for each other for ever.
        self._found = of_first(self._read() if not rank() and path.exists() else None)
        #: Of all steps up to the one that was written down or gone back to last.
        self.losses: list[float] = []

    def due(self, step: int, steps: int) -> bool:
        """Whether the training is written down after this step; after the last one, too, as more networks may follow."""
        return step % EVERY_STEPS == 0 or step == steps

    def write(self, training: Training) -> None:
        """Put the training in place of what the file held, at once: a reader finds the one or the other."""
        self.losses = list(training.losses)
        if rank():
            return
        document, tensors = _taken_apart(training)
        about = {_ABOUT: json.dumps({"identity": self._identity, **document})}
        new = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with new.open("wb") as file:
                file.write(safetensors.torch.save(tensors, about))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except OSError as error:
            log.warning("%s: cannot be written (%s); should this run be killed, it begins anew", self.path, error.strerror)

    def found(self) -> bool:
        """Whether there is something to go on from."""
        return self._found is not None

    def restore(self, training: Training) -> None:
        """Take the training up where the file left it."""
        if self._found is None:
            raise ValueError("nothing was found to go on from")
        _put_together(training, *self._found)
        self.losses = list(training.losses)
        if not rank():
            log.warning("%s: going on after step %d", self.path, len(training.losses))

    def _read(self) -> _Read | None:
        try:
            with safe_open(self.path, "pt") as file:
                document = json.loads((file.metadata() or {})[_ABOUT])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no mapping)
            theirs = dict(document["identity"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            log.warning("%s: not used, as it cannot be read (%s); training begins anew", self.path, error)
            return None
        if others := [what for what in self._identity if theirs.get(what) != self._identity[what]]:
            log.warning("%s: not used, as it is of another %s; training begins anew", self.path, ", ".join(others))
            return None
        return document, tensors


def _taken_apart(training: Training) -> _Read:
    optimiser = training.optimiser.state_dict()
    tensors = {"random": torch.get_rng_state(), "losses": torch.tensor(training.losses, dtype=torch.float64)}
    for whose, network in (("model", training.model), ("average", training.average)):
        tensors |= {f"{whose}.{name}": tensor for name, tensor in network.state_dict().items()}
    for number, values in optimiser["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in values.items()}
    document = {
        "groups": optimiser["param_groups"],
        "schedule": training.schedule.state_dict(),
        "sampler": training.sampler.position,
    }
    return document, tensors


def _put_together(training: Training, document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    parts: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for path, tensor in tensors.items():
        whose, _, name = path.partition(".")
        parts[whose][name] = tensor
    training.model.load_state_dict(parts["model"])
    training.average.load_state_dict(parts["average"])
    state: defaultdict[int, dict[str, Tensor]] = defaultdict(dict)
    for path, tensor in parts["optimiser"].items():
        number, _, name = path.partition(".")
        state[int(number)][name] = tensor
    training.optimiser.load_state_dict({"state": state, "param_groups": document["groups"]})
    training.schedule.load_state_dict(document["schedule"])
    training.sampler.go_to(document["sampler"])
    training.losses[:] = tensors["losses"].tolist()
    torch.set_rng_state(tensors["random"])
