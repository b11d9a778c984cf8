"""What all networks among the baselines share: heads for the purchase and for what comes next, the loss, the training loop."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.baselines.heads import MOST_CLASSES, prior, shares, to_classes
from training.forecast import LISTED, Forecast
from training.history import Ints
from training.labels import UNKNOWN
from training.metrics.draws import Doubles
from training.session_log import NEXT_TYPES, SessionLog

#: What each task's loss counts. What comes next is seen after every event and keeps a network from learning buyers by heart.
_WEIGHTS = {"purchase": 1.0, "type": 1.0, "category": 0.3, "item": 1.0}


class Targets(NamedTuple):
    """Labels of N events as tensors; UNKNOWN adds nothing to a loss. category: see `Forecast`; item: seen ones only."""

    purchase: Tensor
    type: Tensor
    category: Tensor
    item: Tensor


class Sizes(NamedTuple):
    """How many items and classes of categories a training log has; no classes (0) where they are too many."""

    items: int
    classes: int


class Outputs(NamedTuple):
    """Logits of n events: purchase [n] · type [n, 9] · category [n, classes] · query [n, width], to be matched with items."""

    purchase: Tensor
    type: Tensor
    category: Tensor
    query: Tensor


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a network is trained. A step takes about `batch` events, fewer in a small log."""

    epochs: int = 8
    batch: int = 512
    min_steps_an_epoch: int = 40
    learning_rate: float = 5e-3
    weight_decay: float = 0.05

    def batch_for(self, events: int) -> int:
        """Events a step: in a small log there are more steps of fewer."""
        return int(np.clip(events // self.min_steps_an_epoch, 64, self.batch))


class Heads(nn.Module):
    """Linear heads on hidden states [n, width]. They start at the log's shares, so that a network learns only what differs."""

    def __init__(self, width: int, item_width: int, log: SessionLog, sizes: Sizes) -> None:
        super().__init__()
        self.purchase = nn.Linear(width, 1)
        self.next_type = nn.Linear(width, NEXT_TYPES)
        self.category = nn.Linear(width, sizes.classes) if sizes.classes else None
        self.query = nn.Linear(width, item_width)
        counts = np.bincount(log.item[log.item != UNKNOWN], minlength=sizes.items) + 1.0
        self.item_bias = nn.Parameter(torch.from_numpy(np.log(counts / counts.sum())).float())
        with torch.no_grad():
            p = prior(log.purchase)
            _start(self.purchase, np.array([np.log(p / (1 - p))]))
            _start(self.next_type, np.log(shares(log.next_type, NEXT_TYPES)))
            if self.category is not None:
                _start(self.category, np.log(shares(to_classes(log.next_category, sizes.classes), sizes.classes)))

    def forward(self, hidden: Tensor) -> Outputs:
        category = hidden[:, :0] if self.category is None else self.category(hidden)
        return Outputs(self.purchase(hidden)[:, 0], self.next_type(hidden), category, self.query(hidden))


def _start(layer: nn.Linear, bias: Doubles) -> None:
    layer.weight.zero_()
    layer.bias.copy_(torch.from_numpy(bias))


def sizes_of(log: SessionLog) -> Sizes:
    """The sizes that a network for this log needs."""
    classes = log.categories + 1
    return Sizes(log.items, classes if classes <= MOST_CLASSES else 0)


def targets_of(log: SessionLog, sizes: Sizes) -> Targets:
    """The log's labels."""
    category = to_classes(log.next_category, sizes.classes) if sizes.classes else np.full(len(log), UNKNOWN)
    arrays = (log.purchase.astype(np.int64), log.next_type, category, log.next_item)
    return Targets(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))


def item_numbers(log: SessionLog, items: int) -> Tensor:
    """[N]: rows of a table of items: item + 1, and 0 for none or one that training did not see."""
    return torch.from_numpy(np.where((log.item >= 0) & (log.item < items), log.item + 1, 0))


def category_numbers(log: SessionLog, categories: int) -> Tensor:
    """[N]: the same of categories."""
    return torch.from_numpy(np.where((log.category >= 0) & (log.category < categories), log.category + 1, 0))


def loss_of(outputs: Outputs, items: Tensor, bias: Tensor, targets: Targets, events: Ints) -> Tensor:
    """The weighted sum of the tasks' mean losses over the given events. items [items, width]: the table's rows of items."""
    at = torch.from_numpy(events)
    purchase, kind, category, item = (label[at] for label in targets)
    count = max(len(events), 1)
    known = purchase != UNKNOWN
    target = purchase.clamp(min=0).float()
    losses = {
        "purchase": (F.binary_cross_entropy_with_logits(outputs.purchase, target, reduction="none") * known).sum(),
        "type": F.cross_entropy(outputs.type, kind, ignore_index=UNKNOWN, reduction="sum"),
    }
    if outputs.category.shape[1]:
        losses["category"] = F.cross_entropy(outputs.category, category, ignore_index=UNKNOWN, reduction="sum")
    known = item != UNKNOWN
    if bool(known.any()):
        losses["item"] = F.cross_entropy(outputs.query[known] @ items.T + bias, item[known], reduction="sum")
    total: Tensor = sum((_WEIGHTS[name] * loss for name, loss in losses.items()), torch.zeros(())) / count
    return total


def optimise(
    model: nn.Module, epoch: Callable[[np.random.Generator], Iterable[Tensor]], steps: int, schedule: Schedule, seed: int
) -> None:
    """AdamW on the losses that `epoch` yields, one a step, again and again until `steps` are made."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    other = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": schedule.weight_decay}, {"params": other, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=schedule.learning_rate)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, schedule.learning_rate, total_steps=steps + 1, pct_start=0.1, cycle_momentum=False
    )
    model.train()
    rng = np.random.default_rng(seed)
    for loss in _first(lambda: epoch(rng), steps):
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
    model.eval()


def steps_of(events: int, schedule: Schedule) -> int:
    """How many steps the schedule takes on so many events."""
    return max(schedule.epochs * -(-events // schedule.batch_for(events)), 1)


@torch.no_grad()
def gathered(parts: Iterable[tuple[Ints, Outputs]], items: Tensor, bias: Tensor, count: int, sizes: Sizes) -> Forecast:
    """The forecast of `count` events from outputs of some at a time. items: see `loss_of`."""
    purchase, kind = np.zeros(count), np.zeros((count, NEXT_TYPES), np.float32)
    category = np.zeros((count, sizes.classes), np.float32) if sizes.classes else None
    listed = np.full((count, LISTED), -1, np.int64)
    depth = min(LISTED, sizes.items)
    for events, outputs in parts:
        purchase[events] = torch.sigmoid(outputs.purchase.double()).numpy()
        kind[events] = torch.softmax(outputs.type, dim=-1).numpy()
        if category is not None:
            category[events] = torch.softmax(outputs.category, dim=-1).numpy()
        if depth:
            listed[events, :depth] = torch.topk(outputs.query @ items.T + bias, depth, dim=-1).indices.numpy()
    return Forecast(purchase, kind, category, listed if depth else None)


def _first(epoch: Callable[[], Iterable[Tensor]], steps: int) -> Iterator[Tensor]:
    made = 0
    while made < steps:
        for loss in epoch():
            yield loss
            made += 1
            if made == steps:
                return
