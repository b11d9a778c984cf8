"""The bootstrap: whole sessions, paired, the same by seed."""

import numpy as np
import pytest

from training.metrics.draws import Draws, interval, less


def test_whole_sessions_are_drawn() -> None:
    """All events of a session have one weight, the weights of a draw sum to the number of sessions, the first row is the log."""
    session = np.array([7, 7, 3, 3, 3, 9])
    draws = Draws(session, seed=1, draws=50)
    weights = draws.measure(lambda w: {"all": w})["all"]  # [51, 6]
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 2] == weights[:, 4]).all()
    assert (weights[:, 0] + weights[:, 2] + weights[:, 5] == 3).all()
    assert len({tuple(row) for row in weights}) > 5


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    """Sessions of equal events: the interval is as wide as the number of sessions says, not that of events."""
    rng = np.random.default_rng(0)
    value = np.repeat(rng.normal(0, 1, 400), 10)
    draws = Draws(np.repeat(np.arange(400), 10), draws=2000)
    found = interval(draws.measure(lambda w: {"mean": w @ value / w.sum(axis=1)})["mean"])
    assert found is not None
    error = np.std(value) / np.sqrt(400)
    assert found[2] - found[1] == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_differences_are_paired() -> None:
    """What is better by the same for every event is better by that in every draw."""
    value = np.random.default_rng(0).normal(0, 1, 50)
    draws = Draws(np.arange(50))
    one, other = (draws.measure(lambda w, shift=shift: {"m": w @ (value + shift) / w.sum(axis=1)}) for shift in (0.0, 0.25))
    assert less(other, one)["m"] == pytest.approx([0.25, 0.25, 0.25])


def test_the_seed_decides() -> None:
    """The same seed draws the same sessions, another one others."""
    session = np.arange(40)
    assert (Draws(session, 3).of_sessions() == Draws(session, 3).of_sessions()).all()
    assert (Draws(session, 3).of_sessions() != Draws(session, 4).of_sessions()).any()
