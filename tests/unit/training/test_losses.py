"""The losses against an account of their own in numpy, and their gradients against differences."""

import math

import numpy as np
import pytest
import torch
from msgspec import structs
from torch import Tensor

from tests.unit.training.shop import on_one_partition, random_log
from training.architecture import Architecture
from training.examples import Batch, examples_of
from training.history import fold_log
from training.labels import UNKNOWN, Labels
from training.losses import LossWeights, loss_of, masked_bce
from training.model import Heads, IntentModel
from training.serving import cumulative
from training.train import Recipe
from worker.contract.events import HORIZONS
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy

SPEC = FeatureSpec(window=8, item_buckets=24, category_buckets=8, brand_buckets=8)
SMALL = Architecture(width=8, layers=1, heads=2, feed_forward=8, item_width=4, category_width=4)
SESSION = HORIZONS.index("session")
NEVER = len(HORIZONS)
ALL = LossWeights(0.7, 1.3, 2.0, 3.0, 0.4, 0.6, 0.8)


def labels_of(falls_in: int, matured: int) -> np.ndarray:
    """Link labels [5] of an event that falls into this horizon's part (NEVER: after all), known up to the horizon `matured`."""
    within = np.broadcast_to(np.arange(5) >= falls_in, (1, 2, 5)).copy()
    nothing = np.zeros(1, np.int64)
    known = (np.arange(5) <= matured)[None]
    return Labels(within, known, nothing.astype(np.int8), nothing, nothing, nothing, nothing).link[0, 0]


@pytest.mark.parametrize("falls_in", range(NEVER + 1))
@pytest.mark.parametrize("matured", range(-1, len(HORIZONS)))
def test_the_links_loss_is_the_likelihood_of_what_is_known(falls_in: int, matured: int) -> None:
    """Minus the log of the probability of the part that the event falls in; of "not yet" where a later one is censored.

    Shorter horizons are told apart within the session: before that has matured, only what lies within the longest that has.
    """
    logits = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(falls_in))
    within = [0.0, *cumulative(logits).tolist()]
    if falls_in <= matured:
        p = within[falls_in + 1] - within[falls_in]
        p /= 1.0 if matured >= SESSION else within[matured + 1]
    else:
        p = 1.0 - within[matured + 1] if matured >= SESSION else 1.0
    loss = masked_bce(logits, torch.from_numpy(labels_of(falls_in, matured))).sum()
    assert float(loss) == pytest.approx(-math.log(p), abs=1e-12)


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Windows of a log whose end leaves much unmatured."""
    log = [structs.replace(e, category=f"c{number % 5}" if number % 7 else None) for number, e in enumerate(random_log(4, 60, 6))]
    made = examples_of(fold_log(on_one_partition(log), SPEC, SessionPolicy()))
    order = np.argsort(made.started_ms)
    batch = made.batch(np.concatenate([order[:12], order[-6:]]))
    assert {-1, 0, 1} <= set(batch.link[batch.predict].ravel().tolist())
    assert (batch.link[batch.predict] == UNKNOWN).any(axis=(0, 1)).all(), "every horizon has labels that are not known"
    assert (batch.churn[batch.predict] == UNKNOWN).any()
    return batch


def heads_of(batch: Batch, seed: int = 0) -> tuple[Tensor, ...]:
    """Any logits and trunk's output, in double precision."""
    draw = torch.Generator().manual_seed(seed)
    shape = batch.predict.shape
    return tuple(
        torch.randn(*shape, *rest, dtype=torch.float64, generator=draw).requires_grad_(True)
        for rest in ((2, 5), (), (8,), (SMALL.item_width,), (SMALL.width,))
    )


def model_of() -> IntentModel:
    torch.manual_seed(0)
    model = IntentModel(SPEC, SMALL).double()
    with torch.no_grad():
        model.item_bias.add_(torch.randn_like(model.item_bias))
        model.items.weight.add_(torch.randn_like(model.items.weight))
    return model


def expected_of(batch: Batch) -> Tensor:
    """Soft targets of the session, not known where the labels are not."""
    soft = np.random.default_rng(0).uniform(0, 1, (*batch.predict.shape, 2))
    return torch.from_numpy(np.where(batch.link[..., SESSION] == UNKNOWN, np.nan, soft))


def spelled_out(model: IntentModel, heads: Heads, batch: Batch, weights: LossWeights, expected: Tensor | None) -> float:
    """The loss event by event. There are so few events here that every next item is looked at."""
    link, churn, types, query, hidden = (head.detach().numpy() for head in heads)
    categories, pauses = (
        hidden @ head.weight.detach().numpy().T + head.bias.detach().numpy() for head in (model.next_category, model.pause)
    )
    table, bias = model.items.weight.detach().numpy(), model.item_bias.detach().numpy()

    def bits(logit: float, target: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -target * math.log(p) - (1 - target) * math.log(1 - p)

    def classes(logits: np.ndarray, target: int) -> float:
        return float(-np.log(np.exp(logits[target]) / np.exp(logits).sum()))

    total = 0.0
    for b, t in np.argwhere(batch.predict):
        for h, weight in enumerate((weights.purchase, weights.cart)):
            for k in range(len(HORIZONS)):
                if batch.link[b, t, h, k] != UNKNOWN:
                    soft = k == SESSION and expected is not None
                    target = float(expected[b, t, h]) if soft and expected is not None else float(batch.link[b, t, h, k])
                    total += weight * bits(link[b, t, h, k], target)
        if batch.churn[b, t] != UNKNOWN:
            total += weights.churn * bits(churn[b, t], float(batch.churn[b, t]))
        if batch.next_type[b, t] != UNKNOWN:
            total += weights.next_type * classes(types[b, t], int(batch.next_type[b, t]))
        if batch.next_item[b, t] != UNKNOWN:
            total += weights.next_item * classes(table @ query[b, t] + bias, int(batch.next_item[b, t]))
        if batch.next_category[b, t] != UNKNOWN:
            total += weights.next_category * classes(categories[b, t], int(batch.next_category[b, t]))
        if batch.pause[b, t] != UNKNOWN:
            total += weights.pause * classes(pauses[b, t], int(batch.pause[b, t]))
    return total / int(batch.predict.sum())


@pytest.mark.slow
@pytest.mark.parametrize("soft", [False, True])
def test_the_loss_is_that_of_a_plain_loop(batch: Batch, soft: bool) -> None:
    """All heads and their weights; with labels of the session, and with its soft targets."""
    model, heads, weights = model_of(), Heads(*heads_of(batch)), ALL
    expected = expected_of(batch) if soft else None
    loss = loss_of(model, heads, batch, weights, expected)
    assert float(loss.detach()) == pytest.approx(spelled_out(model, heads, batch, weights, expected), rel=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("soft", [False, True])
def test_the_gradients_are_those_of_differences(batch: Batch, soft: bool) -> None:
    """Of the whole loss by every logit, and by what the trunk says."""
    model, expected = model_of(), expected_of(batch) if soft else None
    assert torch.autograd.gradcheck(
        lambda *heads: loss_of(model, Heads(*heads), batch, ALL, expected), heads_of(batch), fast_mode=False
    )


def test_a_probability_within_a_horizon_has_the_gradient_of_differences() -> None:
    """The chain of hazards from logits to what is served."""
    logits = torch.randn(3, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(cumulative, (logits,))


@pytest.mark.parametrize("soft", [False, True])
def test_what_is_not_known_pulls_at_nothing(batch: Batch, soft: bool) -> None:
    """The gradient by a logit is 0 exactly where its label is censored, unmatured or padding."""
    heads = heads_of(batch)
    loss_of(model_of(), Heads(*heads), batch, ALL, expected_of(batch) if soft else None).backward()
    link, churn, types, items, _ = (some(head.grad) for head in heads)
    np.testing.assert_array_equal(link.numpy() != 0, batch.link != UNKNOWN)
    np.testing.assert_array_equal(churn.numpy() != 0, batch.churn != UNKNOWN)
    np.testing.assert_array_equal((types.numpy() != 0).any(-1), batch.next_type != UNKNOWN)
    np.testing.assert_array_equal((items.numpy() != 0).any(-1), batch.next_item != UNKNOWN)
    for name in ("next_category", "pause"):
        hidden = heads_of(batch)[-1]
        alone = LossWeights(**dict.fromkeys(LossWeights._fields, 0.0) | {name: 1.0})
        loss_of(model_of(), Heads(*heads_of(batch)[:-1], hidden), batch, alone).backward()
        np.testing.assert_array_equal((some(hidden.grad).numpy() != 0).any(-1), getattr(batch, name) != UNKNOWN)


def test_pretraining_asks_for_the_next_event_only(batch: Batch) -> None:
    """What a session comes to pulls at nothing in its steps, whatever it is, and all else does."""
    heads, weights = heads_of(batch), Recipe().pretrain_weights
    assert not weights.of_sessions
    loss_of(model_of(), Heads(*heads), batch, weights).backward()
    assert not some(heads[0].grad).any()
    assert all(some(head.grad).any() for head in heads[1:])


def some(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient
