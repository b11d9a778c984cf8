"""What training minimises: the tasks' log-losses, and next-event losses that teach the trunk what sessions are like."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.examples import Batch
from training.labels import UNKNOWN
from training.model import Heads, IntentModel


class LossWeights(NamedTuple):
    """What a head's log-loss per event counts.

    What comes next is seen after every event, a purchase after few: the next event's losses teach the trunk what visitors are up
    to, and keep it from learning the buyers of a small log by heart.
    """

    purchase: float = 1.0
    cart: float = 1.0
    churn: float = 3.0
    next_type: float = 3.0
    next_item: float = 0.3


def loss_of(model: IntentModel, heads: Heads, batch: Batch, weights: LossWeights) -> Tensor:
    """The weighted sum of the heads' mean log-losses over the batch's events; a label that is not known adds nothing."""
    events = max(int(batch.predict.sum()), 1)
    hazard = masked_bce(heads.hazard, torch.from_numpy(batch.hazard)).sum(dim=(0, 1, 3)) / events  # [2]
    churn = masked_bce(heads.churn, torch.from_numpy(batch.churn)).sum() / events
    total = weights.purchase * hazard[0] + weights.cart * hazard[1] + weights.churn * churn
    next_type = torch.from_numpy(batch.next_type)
    if bool((next_type != UNKNOWN).any()):
        total = total + weights.next_type * _class_loss(heads.next_type, next_type) / events
    known = batch.next_item != UNKNOWN
    if known.any():
        at = torch.from_numpy(np.nonzero(known.reshape(-1))[0])
        logits = model.item_logits(heads.next_item.flatten(0, 1)[at])
        target = torch.from_numpy(batch.next_item[known])
        total = total + weights.next_item * F.cross_entropy(logits, target, reduction="sum") / events
    return total


def masked_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-loss of each label, 0 where it is UNKNOWN; shape of `labels`."""
    known = labels != UNKNOWN
    target = torch.where(known, labels, torch.zeros_like(labels)).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") * known


def _class_loss(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=UNKNOWN, reduction="sum")
