"""Calibration: finds what is off, and keeps still where it cannot know."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.training.shop import on_one_partition, random_log
from training.architecture import Architecture
from training.calibrate import calibrate
from training.candidates import Candidates
from training.evaluate import evaluate, predict
from training.examples import Examples, examples_of
from training.history import fold_log
from training.model import IntentModel
from training.serving import BANDS, BOUGHT, Calibration, ServingModel
from training.train import Recipe, train
from worker.contract.events import HORIZONS
from worker.contract.features import CODES, TYPE_CODE, FeatureSpec
from worker.contract.session import SessionPolicy

pytestmark = pytest.mark.slow

SPEC = FeatureSpec(window=16, item_buckets=64, category_buckets=16, brand_buckets=16)
SESSION = HORIZONS.index("session")
SMALL = Architecture(width=16, layers=1, heads=2, feed_forward=16, item_width=8, category_width=4)


@pytest.fixture(scope="module")
def data() -> Examples:
    return examples_of(fold_log(on_one_partition(random_log(0, 6000, 30, 100 * 3_600_000)), SPEC, SessionPolicy()))


@pytest.fixture(scope="module")
def model(data: Examples) -> IntentModel:
    return train(data, architecture=SMALL, recipe=Recipe(epochs=2))


def moved(model: IntentModel, by: float) -> IntentModel:
    """The network with all hazard logits off by `by`."""
    wrong = IntentModel(SPEC, SMALL)
    wrong.load_state_dict(model.state_dict())
    with torch.no_grad():
        wrong.link.bias += by
    return wrong.eval()


def test_without_examples_nothing_moves(model: IntentModel, data: Examples) -> None:
    """The prior stays, be it the identity or a champion's calibration."""
    none = data.select(np.zeros(0, np.int64))
    assert torch.equal(calibrate(model, none).link_scale, torch.ones(BANDS, 2, 5))
    champion = Calibration()
    champion.link_bias += 0.7
    assert torch.equal(calibrate(model, none, prior=champion).link_bias, champion.link_bias)


def test_a_wrong_level_is_mostly_mended(model: IntentModel, data: Examples) -> None:
    """Logits that are all too high come down, and log-loss and calibration error with them."""
    wrong = moved(model, 1.0)
    candidates = Candidates.most_frequent(data.items)
    before = evaluate(ServingModel(wrong, Calibration(), candidates), data)["purchase"]["session"]
    after = evaluate(ServingModel(wrong, calibrate(wrong, data), candidates), data)["purchase"]["session"]
    assert after["log_loss"] < before["log_loss"]
    assert after["ece"] < before["ece"] / 2


def test_few_sessions_move_little(model: IntentModel, data: Examples) -> None:
    """The same fault seen in a handful of sessions is believed far less."""
    wrong = moved(model, 1.0)
    few = data.select(np.arange(len(data)) < 12)
    mean = float(evaluate(ServingModel(wrong, Calibration(), Candidates.most_frequent(data.items)), few)["events"])
    assert mean > 0
    level = lambda c: float((c.link_bias - (c.link_scale - 1) * 2).abs().mean())  # noqa: E731
    assert level(calibrate(wrong, few)) < level(calibrate(wrong, data)) / 2


def test_what_comes_next_is_believed_event_by_event(model: IntentModel, data: Examples) -> None:
    """The same fault of the end's logit is mended further than that of a purchase, which a session's events share."""
    wrong = moved(model, 1.0)
    with torch.no_grad():
        wrong.churn.bias += 1.0
    some = data.select(data.session % 8 == 0)
    candidates = Candidates.most_frequent(data.items)
    right, before, after = (
        predict(ServingModel(network, calibration, candidates), some)
        for network, calibration in ((model, Calibration()), (wrong, Calibration()), (wrong, calibrate(wrong, some)))
    )
    left = {
        name: (told(after) - told(right)).mean() / (told(before) - told(right)).mean()
        for name, told in (("churn", lambda p: p.churn), ("purchase", lambda p: p.within[:, 0, SESSION]))
    }
    assert abs(left["churn"]) < 0.25
    assert left["purchase"] > 1.5 * abs(left["churn"])


def test_a_good_model_is_left_about_as_it_is(model: IntentModel, data: Examples) -> None:
    """On the data that it was fitted to the level is right: probabilities hardly change."""
    candidates = Candidates.most_frequent(data.items)
    before = evaluate(ServingModel(model, Calibration(), candidates), data)["purchase"]["session"]
    after = evaluate(ServingModel(model, calibrate(model, data), candidates), data)["purchase"]["session"]
    assert after["log_loss"] <= before["log_loss"] + 1e-4


def test_a_slope_comes_down_as_far_as_sessions_speak_against_it(model: IntentModel, data: Examples) -> None:
    """Where buyers are drawn by lot: the more there are, the further, and what follows a purchase keeps its own."""
    link = data.link.copy()
    lot = np.random.default_rng(0).random(int(data.session.max()) + 1) < 0.3
    link[data.predicted, 0, SESSION] = np.repeat(lot[data.session], data.stop - data.first)
    by_lot = replace(data, link=link)
    few, some, all_ = (by_lot.select(np.arange(len(data)) % share == 0) for share in (50, 4, 1))
    slopes = [float(calibrate(model, examples, level=False).link_scale[0, 0, SESSION]) for examples in (few, some, all_)]
    assert abs(slopes[0] - 1) < 0.1
    assert 0.9 > slopes[1] > slopes[2]
    flat = calibrate(model, by_lot, level=False)
    assert torch.equal(flat.link_scale[BOUGHT, :, SESSION], torch.ones(2))
    assert torch.equal(flat.link_bias[BOUGHT, :, SESSION], torch.zeros(2))
    candidates = Candidates.most_frequent(data.items)
    before, after = (predict(ServingModel(model, each, candidates), data) for each in (Calibration(), flat))
    ahead = ~np.isin(before.row, after_a_purchase(data))
    assert after.within[ahead, 0, SESSION].std() < before.within[ahead, 0, SESSION].std() * 0.8
    np.testing.assert_allclose(after.within[~ahead, 0, SESSION], before.within[~ahead, 0, SESSION], atol=1e-6)


def after_a_purchase(data: Examples) -> np.ndarray:
    """The predicted rows whose window holds a purchase up to them."""
    rows = [
        row
        for first, start, stop in zip(data.first, data.start, data.stop, strict=True)
        for row in range(first, stop)
        if (data.rows["codes"][start : row + 1, CODES.index("type")] == TYPE_CODE["purchase"]).any()
    ]
    return np.array(rows)


def test_it_is_deterministic(model: IntentModel, data: Examples) -> None:
    """The same examples give the same numbers."""
    first, second = calibrate(model, data), calibrate(model, data)
    for (name, a), (_, b) in zip(first.named_buffers(), second.named_buffers(), strict=True):
        assert torch.equal(a, b), name
