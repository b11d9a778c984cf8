"""What training minimises: the tasks' log-losses, and next-event losses that teach the trunk what sessions are like."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.examples import Batch
from training.history import Ints
from training.labels import UNKNOWN
from training.model import Heads, IntentModel
from worker.contract.events import HAZARD_HEADS, HORIZONS
from worker.contract.features import CODES, TYPE_CODE

#: Next items looked at in a batch: each costs a logit for every row of the item table.
_MOST_ITEMS = 96

_SESSION = HORIZONS.index("session")
_TYPE = CODES.index("type")


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
    next_category: float = 0.0
    pause: float = 0.0

    @property
    def of_sessions(self) -> bool:
        """Whether it counts what sessions come to."""
        return self.purchase > 0 or self.cart > 0


def loss_of(model: IntentModel, heads: Heads, batch: Batch, weights: LossWeights, expected: Tensor | None = None) -> Tensor:
    """The weighted sum of the heads' mean log-losses over the batch's events; a label that is not known adds nothing."""

    def there(array: np.ndarray) -> Tensor:  # type: ignore[type-arg]
        return torch.from_numpy(array).to(heads.link.device)

    events = max(int(batch.predict.sum()), 1)
    link = masked_bce(heads.link, there(batch.link))  # [B, T, 2, 5]
    if expected is not None:
        link = torch.cat([link[..., :_SESSION], _soft(heads.link, expected), link[..., _SESSION + 1 :]], dim=-1)
    link = link.sum(dim=(0, 1, 3)) / events  # [2]
    churn = masked_bce(heads.churn, there(batch.churn)).sum() / events
    total = weights.purchase * link[0] + weights.cart * link[1] + weights.churn * churn
    if weights.next_type:
        total = total + weights.next_type * _class_loss(heads.next_type, batch.next_type) / events
    if weights.next_category:
        total = total + weights.next_category * _class_loss(model.next_category(heads.hidden), batch.next_category) / events
    if weights.pause:
        total = total + weights.pause * _class_loss(model.pause(heads.hidden), batch.pause) / events
    known = batch.next_item != UNKNOWN
    if known.any():
        at = np.nonzero(known.reshape(-1))[0]
        share = int(known.sum()) / events
        at = at[:: -(-len(at) // _MOST_ITEMS)]
        logits = model.item_logits(heads.next_item.flatten(0, 1)[there(at)])
        target = model.item_rows(there(batch.next_item.reshape(-1)[at]))
        total = total + weights.next_item * share * F.cross_entropy(logits, target)
    return total


def _soft(link: Tensor, expected: Tensor) -> Tensor:
    known = ~torch.isnan(expected)
    target = torch.where(known, expected, torch.zeros_like(expected))
    loss = F.binary_cross_entropy_with_logits(link[..., _SESSION], target, reduction="none") * known
    return loss.unsqueeze(-1)


def session_targets(link: Tensor, batch: Batch, trace: float) -> Tensor:
    """[B, T, 2]: what the session's links should say, NaN where it is not known.

    The lambda-return (Sutton 1988, TD(lambda); its worth on few outcomes: Cheikhi and Russo 2023): 1 where such an event comes
    next, else a mean of what the network says at the next row, `link` [B, T, 2, 5], and of that row's own target, by
    `trace`. At the window's last row, and with a trace of 1 everywhere, it is the label. What one session happens to come to
    is mostly luck; what comes next and how such rows mostly go on is seen far more often.
    """
    value = torch.sigmoid(link[..., _SESSION])  # [B, T, 2]
    label = torch.from_numpy(batch.link[..., _SESSION]).to(value)
    label = torch.where(label == UNKNOWN, torch.full_like(label, torch.nan), label)
    types = torch.from_numpy(batch.inputs.codes[..., _TYPE]).to(value.device)
    length = torch.from_numpy(batch.inputs.length[:, 0]).to(value.device)
    wanted = torch.tensor([TYPE_CODE[head] for head in HAZARD_HEADS], device=value.device)
    steps = label.shape[1]
    out = [label[:, steps - 1]]
    for t in reversed(range(steps - 1)):
        ahead = out[0]
        follows = (t + 1 < length)[:, None]
        happens = (types[:, t + 1, None] == wanted).to(value.dtype)
        mixed = (1 - trace) * value[:, t + 1] + trace * ahead
        mixed = torch.where(happens > 0, torch.ones_like(mixed), mixed)
        out.insert(0, torch.where(torch.isnan(label[:, t]) | ~follows, label[:, t], mixed))
    return torch.stack(out, dim=1)


def masked_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-loss of each label, 0 where it is UNKNOWN; shape of `labels`."""
    known = labels != UNKNOWN
    target = torch.where(known, labels, torch.zeros_like(labels)).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") * known


def _class_loss(logits: Tensor, label: Ints) -> Tensor:
    target = torch.from_numpy(label).to(logits.device).flatten()
    return F.cross_entropy(logits.flatten(0, -2), target, ignore_index=UNKNOWN, reduction="sum")
