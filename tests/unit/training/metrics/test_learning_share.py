"""The share of what can be known, on a log whose truth is drawn here."""

import numpy as np
import pytest

from tests.benchmarks.learning.ceiling import fitted_to_the_log
from tests.benchmarks.learning.measure import measured
from tests.benchmarks.learning.sets import SETS, SimulatedSet, simulated_set
from training.metrics.binary import log_losses


@pytest.fixture(scope="module")
def data() -> SimulatedSet:
    """Sessions of four events, each with a chance of its own."""
    rng = np.random.default_rng(1)
    truth = np.repeat(rng.beta(1, 9, 4000), 4)
    label = np.repeat(rng.random(4000), 4) < truth
    numbers = np.arange(16_000)
    return SimulatedSet(
        [], 0, numbers.astype(np.uint64), numbers // 4, numbers % 4 + 1, label.astype(np.int64), truth, float(truth.mean()), 4000
    )


def test_the_truth_is_all_and_a_constant_nothing_of_what_can_be_known(data: SimulatedSet) -> None:
    """And half of the way in log-odds lies between."""
    true, flat = (measured(data, p) for p in (data.truth, np.full(len(data.truth), data.prevalence)))
    assert true.share == 1.0
    assert flat.share == 0.0
    odds = np.log(data.truth / (1 - data.truth)), np.log(data.prevalence / (1 - data.prevalence))
    assert 0.3 < measured(data, 1 / (1 + np.exp(-(odds[0] + odds[1]) / 2))).share < 1


def test_the_expected_share_is_that_of_labels_without_number(data: SimulatedSet) -> None:
    """The mean over many draws of labels comes to it."""
    half, flat = data.truth / 2, np.full(len(data.truth), data.prevalence)
    rng = np.random.default_rng(2)
    saved, known = 0.0, 0.0
    for _ in range(200):
        label = (rng.random(len(half)) < data.truth).astype(np.int64)
        constant, mine, bayes = (float(log_losses(label, p).mean()) for p in (flat, half, data.truth))
        saved, known = saved + constant - mine, known + constant - bayes
    assert measured(data, half).expected_share == pytest.approx(saved / known, abs=0.02)
    assert measured(data, data.truth).expected_share == 1.0


def test_the_truths_calibration_error_is_about_the_floor(data: SimulatedSet) -> None:
    """Which counts that the events of a session share their luck; who says half of it is far above."""
    true, half = measured(data, data.truth), measured(data, data.truth / 2)
    assert 0 < true.ece < 2 * true.floor
    assert true.ece == true.bayes_ece
    assert half.ece > 4 * half.floor
    assert half.level < -0.02


def test_the_truths_kind_fitted_to_the_log_finds_most_but_not_all() -> None:
    """Of a small log; it is a score for each judging event."""
    spec = next(spec for spec in SETS if spec.name == "few")
    data = simulated_set(spec, 2)
    p = fitted_to_the_log(spec, data, 2)
    assert p.shape == data.truth.shape
    assert 0.7 < measured(data, p).expected_share < 1
