"""Where the network starts: at a logistic regression of what comes next, and at what the filter of intents says of purchases.

Few steps of a network leave a plain regression behind; a regression is convex and done in seconds. The network then learns what
it misses. Of purchases few buyers would be learned by heart so.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.examples import Examples
from training.labels import UNKNOWN
from training.losses import masked_bce
from training.model import IntentModel, places_of, wide_inputs
from training.row_features import FILTER_LOG_ODDS
from worker.contract.events import EVENT_TYPES, HAZARD_HEADS, HORIZONS

#: What the weights of standardised features are held back by, as so many times half their squares.
_STRENGTH = 10.0
_MAX_STEPS = 100
#: Events looked at, by chance where there are more: a few hundred weights need no more.
_MOST_EVENTS = 100_000
_BATCH_EVENTS = 4096
_TYPES = len(EVENT_TYPES)
#: By head: the row of the session's link among all links.
SESSION_LINKS = [h * len(HORIZONS) + HORIZONS.index("session") for h in range(len(HAZARD_HEADS))]


class _Rows(NamedTuple):
    """N events. inputs [N, F], churn_at [N], next_type_at [N, 8]: as the network has them · churn, next_type [N]: labels"""

    inputs: Tensor
    churn_at: Tensor
    next_type_at: Tensor
    churn: Tensor
    next_type: Tensor


def fit_wide(model: IntentModel, examples: Examples, seed: int) -> None:
    """The likeliest weights, held back, and biases of churn and next type in place, given the levels by place."""
    rows = _rows_of(model, examples, np.random.default_rng(seed))
    weight = torch.zeros(1 + _TYPES, rows.inputs.shape[1], requires_grad=True)
    bias = torch.cat([model.churn.bias, model.next_type.bias]).detach().clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=_MAX_STEPS, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimiser.zero_grad()
        said = F.linear(rows.inputs, weight, bias)
        loss = masked_bce(said[:, 0] + rows.churn_at, rows.churn).sum()
        types = said[:, 1:] + rows.next_type_at
        loss = loss + F.cross_entropy(types, rows.next_type, ignore_index=UNKNOWN, reduction="sum")
        # A mean, so that the line search begins with steps of a sensible size.
        total = (loss + _STRENGTH / 2 * (weight**2).sum()) / len(rows.churn)
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(objective)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        model.wide.weight[-(1 + _TYPES) :] = weight
        model.churn.bias.copy_(bias[:1])
        model.next_type.bias.copy_(bias[1:])


@torch.no_grad()
def start_at_filter(model: IntentModel, heads: Iterable[int]) -> None:
    """Let the network say of these heads' events within the session what the filter says, in place."""
    for h in heads:
        link, at = SESSION_LINKS[h], FILTER_LOG_ODDS[h]
        mean, deviation = model.features.mean[at], model.features.deviation[at]
        if torch.isfinite(deviation):
            model.wide.weight[link] = 0.0
            model.wide.weight[link, at] = deviation
            model.link.weight[link] = 0.0
            model.link.bias[link] = mean


@torch.no_grad()
def _rows_of(model: IntentModel, examples: Examples, rng: np.random.Generator) -> _Rows:
    parts: list[tuple[Tensor, ...]] = []
    found = 0
    for batch in examples.batches(_BATCH_EVENTS, rng):
        at = torch.from_numpy(batch.predict)
        codes, numbers = torch.from_numpy(batch.inputs.codes), torch.from_numpy(batch.inputs.numbers)
        inputs = wide_inputs(codes, model.features(codes, numbers, torch.from_numpy(batch.fold)))[at]
        place = places_of(numbers)[at]
        labels = torch.from_numpy(batch.churn)[at], torch.from_numpy(batch.next_type)[at]
        parts.append((inputs, model.churn_at(place)[:, 0], model.next_type_at(place), *labels))
        found += len(inputs)
        if found >= _MOST_EVENTS:
            break
    return _Rows(*(torch.cat(column) for column in zip(*parts, strict=True)))
