"""How far a network departs from the filter of intents, and what speaks for that."""

import numpy as np
import pytest
import torch

from tests.unit.training.shop import on_one_partition, random_log
from training.architecture import Architecture
from training.examples import Examples, examples_of
from training.history import fold_log
from training.model import Heads, IntentModel
from training.row_features import FILTER_LOG_ODDS
from training.train import Recipe, tensors, train
from training.trust import _trust, departing, trust_in
from training.wide import start_at_filter
from worker.contract.events import HORIZONS
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy

SPEC = FeatureSpec(window=16, item_buckets=64, category_buckets=16, brand_buckets=16)
SMALL = Architecture(width=16, layers=1, heads=2, feed_forward=16, item_width=8, category_width=4)
SESSION = HORIZONS.index("session")


@pytest.fixture(scope="module")
def data() -> Examples:
    return examples_of(fold_log(on_one_partition(random_log(0, 3000, 30)), SPEC, SessionPolicy()))


@pytest.fixture(scope="module")
def model(data: Examples) -> IntentModel:
    return train(data, architecture=SMALL, recipe=Recipe(epochs=1))


def said_by(model: IntentModel, data: Examples) -> tuple[Heads, torch.Tensor]:
    """Of the rows of a batch that count: what the network says, and the filter's log-odds of a purchase and a cart [n, 2]."""
    batch = data.batch(np.arange(200))
    rows = torch.from_numpy(batch.predict)
    with torch.no_grad():
        heads = model(*tensors(batch.inputs))
        features = model.features(*tensors(batch.inputs)) * model.features.deviation + model.features.mean
    return Heads(*(head[rows] for head in heads)), features[rows][:, FILTER_LOG_ODDS]


def test_training_starts_with_what_the_filter_says(model: IntentModel, data: Examples) -> None:
    """Of purchases and carts within the session; the other links and heads keep what they say."""
    start = departing(model, [1.0, 1.0])
    start_at_filter(start, (0, 1))
    said, filtered = said_by(start, data)
    torch.testing.assert_close(said.link[:, :, SESSION], filtered, atol=1e-4, rtol=1e-4)
    others = [k for k in range(len(HORIZONS)) if k != SESSION]
    torch.testing.assert_close(said.link[:, :, others], said_by(model, data)[0].link[:, :, others])


@pytest.mark.parametrize("trust", [(0.0, 1.0), (0.25, 0.6), (1.0, 0.0)])
def test_a_share_of_the_departure_is_that_share(model: IntentModel, data: Examples, trust: tuple[float, float]) -> None:
    """Log-odds lie so far from the filter's to the network's; the network itself stays as it is."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    whole, filtered = said_by(model, data)
    said, _ = said_by(departing(model, trust), data)
    expected = filtered + torch.tensor(trust) * (whole.link[:, :, SESSION] - filtered)
    torch.testing.assert_close(said.link[:, :, SESSION], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(said.churn, whole.churn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_is_trusted_is_what_labels_follow() -> None:
    """Labels drawn from one of the two, or from between them, tell which, at any level."""
    rng = np.random.default_rng(0)
    start = rng.normal(-2.5, 0.8, 40_000)
    logit = np.stack([start, start + rng.normal(0, 0.6, len(start))], axis=1)
    for share in (0.0, 0.5, 1.0):
        p = 1 / (1 + np.exp(-(logit[:, 0] + share * (logit[:, 1] - logit[:, 0]) + 0.3)))
        label = (rng.random(len(p)) < p).astype(np.int8)
        assert _trust(logit, label, 1.0) == pytest.approx(share, abs=0.12)


def test_few_sessions_say_little() -> None:
    """The same labels move the trust less where an event counts less; a head without a positive is left at its prior."""
    rng = np.random.default_rng(1)
    start = rng.normal(-2.5, 0.8, 2000)
    logit = np.stack([start, start + rng.normal(0, 0.6, len(start))], axis=1)
    label = (rng.random(len(start)) < 1 / (1 + np.exp(-logit[:, 1]))).astype(np.int8)
    assert 0.25 < _trust(logit, label, 0.05) < _trust(logit, label, 1.0)
    assert _trust(logit, np.zeros_like(label), 1.0) == 1.0


def test_without_examples_the_filter_is_worth_more(model: IntentModel, data: Examples) -> None:
    """As of a log of a few sessions, none of which could be left out."""
    assert trust_in([]) == trust_in([(model, data.select(np.zeros(0, np.int64)))]) == [0.25, 0.25]


def test_a_network_of_luck_is_not_trusted(model: IntentModel, data: Examples) -> None:
    """One whose departures are noise is left for the filter."""
    lucky = departing(model, [1.0, 1.0])
    with torch.no_grad():
        lucky.link.weight.add_(torch.randn(lucky.link.weight.shape, generator=torch.Generator().manual_seed(0)))
    assert max(trust_in([(lucky, data)])) < 0.2
