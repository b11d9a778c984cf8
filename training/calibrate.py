"""Calibration on sessions later than those trained on: small corrections, held back where there is little to go by."""

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

#: How far a slope may be expected from 1 and a shift from 0 before any data is seen (spreads of normal priors).
_SLOPE_SPREAD, _SHIFT_SPREAD = 0.2, 0.2
_BATCH_EVENTS = 2048
_MAX_STEPS = 60
#: Events whose next item is looked at: one slope needs no more, and each costs a logit for every item bucket.
_MOST_ITEMS = 4000


class _Collected(NamedTuple):
    """Logits, calibrated so far, and labels of all events: [N, ...]; next item only where it is known."""

    hazard: Tensor
    churn: Tensor
    next_type: Tensor
    next_item: Tensor
    hazard_label: Tensor
    churn_label: Tensor
    type_label: Tensor
    item_label: Tensor


class _Correction(NamedTuple):
    """What is fitted. A logit z becomes (z - mean) * slope + mean + shift, so that slope and shift do not pull at each other."""

    hazard_slope: Tensor
    hazard_shift: Tensor
    churn_slope: Tensor
    churn_shift: Tensor
    type_slope: Tensor
    type_shift: Tensor
    item_slope: Tensor


def calibrate(model: IntentModel, examples: Examples, prior: Calibration | None = None) -> Calibration:
    """The likeliest correction of `prior` (by default the identity) on these examples; without any it is the prior."""
    before = prior or Calibration()
    if not len(examples):
        return before
    with torch.no_grad():
        data = _collect(model.eval(), before, examples)
        means = _Means(data.hazard.mean(0), data.churn.mean(), data.next_type.mean(0))
    # The events of a session share their fate: together they count about as one.
    weight = examples.sessions / max(len(data.churn), 1)
    ones, zeros = torch.ones_like, torch.zeros_like
    c = _Correction(
        ones(before.hazard_scale), zeros(before.hazard_bias), ones(before.churn_scale), zeros(before.churn_bias),
        ones(before.type_scale), zeros(before.type_bias), ones(before.item_scale),
    )  # fmt: skip
    for tensor in c:
        tensor.requires_grad_(True)
    optimiser = torch.optim.LBFGS(list(c), max_iter=_MAX_STEPS, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimiser.zero_grad()
        total = weight * _log_loss(c, means, data) + _penalty(c)
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(objective)  # type: ignore[no-untyped-call]
    return _combined(before, _Correction(*(tensor.detach() for tensor in c)), means)


class _Means(NamedTuple):
    hazard: Tensor
    churn: Tensor
    next_type: Tensor


def _collect(model: IntentModel, before: Calibration, examples: Examples) -> _Collected:
    parts: list[list[Tensor]] = []
    items_left = _MOST_ITEMS
    for batch in examples.batches(_BATCH_EVENTS, np.random.default_rng(0)):
        rows = torch.from_numpy(batch.predict)
        heads = Heads(*(head[rows] for head in model(*tensors(batch.inputs))))
        hazard, churn, next_type = before.apply_to(heads)
        labels = [torch.from_numpy(array)[rows] for array in (batch.hazard, batch.churn, batch.next_type, batch.next_item)]
        known = torch.nonzero(labels[-1] != UNKNOWN)[:items_left, 0]
        items_left -= len(known)
        next_item = model.item_logits(heads.next_item[known]) * before.item_scale
        parts.append([hazard, churn, next_type, next_item, *labels[:-1], labels[-1][known]])
    return _Collected(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _log_loss(c: _Correction, means: _Means, data: _Collected) -> Tensor:
    hazard = (data.hazard - means.hazard) * c.hazard_slope + means.hazard + c.hazard_shift
    churn = (data.churn - means.churn) * c.churn_slope + means.churn + c.churn_shift
    types = (data.next_type - means.next_type) * c.type_slope + means.next_type + c.type_shift
    total = masked_bce(hazard, data.hazard_label).sum() + masked_bce(churn, data.churn_label).sum()
    total = total + F.cross_entropy(types, data.type_label, ignore_index=UNKNOWN, reduction="sum")
    if len(data.item_label):
        total = total + F.cross_entropy(data.next_item * c.item_slope, data.item_label, reduction="sum")
    return total


def _penalty(c: _Correction) -> Tensor:
    """Minus the log of the priors."""
    total = torch.zeros(())
    for name, value in c._asdict().items():
        slope = name.endswith("slope")
        spread = _SLOPE_SPREAD if slope else _SHIFT_SPREAD
        total = total + (((value - float(slope)) / spread) ** 2).sum() / 2
    return total


def _combined(before: Calibration, c: _Correction, means: _Means) -> Calibration:
    """The correction put after `before`, in the form that the graph holds."""
    after = Calibration()
    after.hazard_scale.copy_(before.hazard_scale * c.hazard_slope)
    after.hazard_bias.copy_((before.hazard_bias - means.hazard) * c.hazard_slope + means.hazard + c.hazard_shift)
    after.churn_scale.copy_(before.churn_scale * c.churn_slope)
    after.churn_bias.copy_((before.churn_bias - means.churn) * c.churn_slope + means.churn + c.churn_shift)
    after.type_scale.copy_(before.type_scale * c.type_slope)
    after.type_bias.copy_((before.type_bias - means.next_type) * c.type_slope + means.next_type + c.type_shift)
    after.item_scale.copy_(before.item_scale * c.item_slope)
    return after
