"""Calibration on sessions later than those trained on: small corrections, held back where there is little to go by."""

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.examples import Examples
from training.labels import UNKNOWN
from training.losses import masked_bce
from training.model import Heads, IntentModel
from training.serving import Calibration
from training.train import tensors

#: How far a scale and a bias may be expected from where they start (spreads of normal priors).
_SCALE_SPREAD, _BIAS_SPREAD = 0.25, 0.1
_BATCH_EVENTS = 2048
_MAX_STEPS = 60
#: Events whose next item is looked at: one scale needs no more, and each costs a logit for every item bucket.
_MOST_ITEMS = 4000


class _Collected(NamedTuple):
    """Logits and labels of all events: [N, ...]; next item only where it is known."""

    heads: Heads
    hazard: Tensor
    churn: Tensor
    next_type: Tensor
    item_logits: Tensor
    next_item: Tensor


def calibrate(model: IntentModel, examples: Examples, prior: Calibration | None = None) -> Calibration:
    """The calibration that is likeliest on these examples, held back towards `prior` (by default the identity).

    Without any examples it is the prior.
    """
    calibration = copy.deepcopy(prior) if prior is not None else Calibration()
    if not len(examples):
        return calibration
    with torch.no_grad():
        data = _collect(model.eval(), examples)
    events = len(data.churn)
    # The events of a session share their fate: together they count about as one.
    weight = examples.sessions / max(events, 1)
    start = {name: buffer.detach().clone() for name, buffer in calibration.named_buffers()}
    moving = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimiser = torch.optim.LBFGS(list(moving.values()), max_iter=_MAX_STEPS, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimiser.zero_grad()
        total = weight * _log_loss(moving, data) + _penalty(moving, start)
        total.backward()
        return total

    optimiser.step(objective)  # type: ignore[no-untyped-call]
    for name, buffer in calibration.named_buffers():
        buffer.copy_(moving[name].detach())
    return calibration


def _collect(model: IntentModel, examples: Examples) -> _Collected:
    parts: list[list[Tensor]] = []
    items_left = _MOST_ITEMS
    for batch in examples.batches(_BATCH_EVENTS, np.random.default_rng(0)):
        rows = torch.from_numpy(batch.predict)
        heads = model(*tensors(batch.inputs))
        item_known = torch.nonzero(torch.from_numpy(batch.next_item != UNKNOWN))[:items_left].unbind(1)
        items_left -= len(item_known[0])
        labels = [torch.from_numpy(array)[rows] for array in (batch.hazard, batch.churn, batch.next_type)]
        items = [model.item_logits(heads.next_item[item_known]), torch.from_numpy(batch.next_item)[item_known]]
        parts.append([*(head[rows] for head in heads), *labels, *items])
    joined = [torch.cat(column) for column in zip(*parts, strict=True)]
    return _Collected(Heads(*joined[:4]), *joined[4:])


def _log_loss(c: dict[str, Tensor], data: _Collected) -> Tensor:
    heads = data.heads
    hazard = masked_bce(heads.hazard * c["hazard_scale"] + c["hazard_bias"], data.hazard).sum()
    churn = masked_bce(heads.churn * c["churn_scale"] + c["churn_bias"], data.churn).sum()
    types = heads.next_type * c["type_scale"] + c["type_bias"]
    total = hazard + churn + F.cross_entropy(types, data.next_type, ignore_index=UNKNOWN, reduction="sum")
    if len(data.next_item):
        total = total + F.cross_entropy(data.item_logits * c["item_scale"], data.next_item, reduction="sum")
    return total


def _penalty(c: dict[str, Tensor], start: dict[str, Tensor]) -> Tensor:
    """Minus the log of the priors."""
    total = torch.zeros(())
    for name, value in c.items():
        spread = _SCALE_SPREAD if name.endswith("scale") else _BIAS_SPREAD
        total = total + (((value - start[name]) / spread) ** 2).sum() / 2
    return total
