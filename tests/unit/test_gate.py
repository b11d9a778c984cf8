"""Tests for training/gate.py, on sessions whose true probabilities are known."""

from typing import NamedTuple

import numpy as np
import pytest

from training.evaluate import Doubles
from training.gate import Comparison, GatePolicy, decide, session_interval
from training.history import Ints


class Shop(NamedTuple):
    """Events with their true purchase probability, and labels drawn from it."""

    session: Ints
    truth: Doubles
    label: Ints


def shop(sessions: int = 1500, rate: float = -2.0, seed: int = 1) -> Shop:
    rng = np.random.default_rng(seed)
    session = np.repeat(np.arange(sessions), rng.integers(1, 9, sessions))
    logit = rate + rng.normal(0, 1.0, sessions)[session] + rng.normal(0, 0.5, len(session))
    truth = 1 / (1 + np.exp(-logit))
    return Shop(session, truth, (rng.random(len(truth)) < truth).astype(np.int64))


def shifted(p: Doubles, by: float) -> Doubles:
    """The probabilities with `by` added to their log-odds."""
    return np.asarray(1 / (1 + (1 - p) / p * np.exp(-by)))


def blurred(p: Doubles, spread: float, seed: int = 2) -> Doubles:
    """What a worse model would say: noise on the log-odds."""
    return np.asarray(1 / (1 + (1 - p) / p * np.exp(-np.random.default_rng(seed).normal(0, spread, len(p)))))


def of(data: Shop, champion: Doubles, candidate: Doubles, name: str = "purchase/session") -> Comparison:
    return Comparison(name, data.session, data.label, champion, candidate)


def test_a_better_candidate_passes() -> None:
    """The truth against a blurred view of it; the numbers say by how much."""
    data = shop()
    decision = decide(of(data, blurred(data.truth, 1.0), data.truth), [])
    assert decision.passed
    assert decision.deciding is not None
    assert decision.deciding.high < 0
    assert decision.deciding.low < decision.deciding.difference < decision.deciding.high
    assert decision.deciding.positives == data.label.sum()
    assert "better by" in decision.reason


def test_an_equal_candidate_is_refused() -> None:
    """The champion itself, byte for byte."""
    data = shop()
    decision = decide(of(data, data.truth, data.truth), [])
    assert not decision.passed
    assert "not better for sure" in decision.reason


@pytest.mark.parametrize("seed", range(5))
def test_another_model_of_the_same_worth_is_refused(seed: int) -> None:
    """Two views that are equally blurred, by other noise: luck is not enough."""
    data = shop(seed=seed)
    decision = decide(
        of(data, blurred(data.truth, 0.3, 10 + seed), blurred(data.truth, 0.3, 20 + seed)), [], GatePolicy(confidence=0.999)
    )
    assert not decision.passed


def test_a_worse_candidate_is_refused() -> None:
    """A blurred view against the truth."""
    data = shop()
    assert not decide(of(data, data.truth, blurred(data.truth, 1.0)), []).passed


def test_shuffled_labels_are_refused() -> None:
    """A candidate that learned nothing that belongs to its events."""
    data = shop()
    shuffled = np.random.default_rng(3).permutation(data.truth)
    assert not decide(of(data, blurred(data.truth, 0.3), shuffled), []).passed


def test_a_constant_is_refused() -> None:
    """Even the best one."""
    data = shop()
    constant = np.full(len(data.label), data.label.mean())
    assert not decide(of(data, blurred(data.truth, 0.3), constant), []).passed


def test_a_miscalibrated_candidate_is_refused() -> None:
    """It ranks better and has the lower log-loss, but says 1.5 times what is true."""
    data = shop()
    champion = np.full(len(data.label), data.label.mean())
    decision = decide(of(data, champion, shifted(data.truth, 0.5)), [])
    assert decision.deciding is not None
    assert decision.deciding.high < 0
    assert not decision.passed
    assert "calibrated" in decision.reason


@pytest.mark.parametrize(("sessions", "rate", "word"), [(100, 0.0, "sessions"), (400, -9.0, "positive")])
def test_too_little_to_judge_is_refused_and_says_what_is_lacking(sessions: int, rate: float, word: str) -> None:
    """However good it looks."""
    data = shop(sessions, rate)
    decision = decide(of(data, np.full(len(data.label), 0.9), data.truth), [])
    assert not decision.passed
    assert "needed to judge" in decision.reason
    assert word in decision.reason


def test_no_label_at_all_is_refused() -> None:
    """A log too young for the horizon."""
    none = np.zeros(0)
    decision = decide(Comparison("purchase/session", none.astype(np.int64), none.astype(np.int64), none, none), [])
    assert not decision.passed
    assert decision.deciding is None


def test_a_gain_on_purchase_does_not_buy_a_loss_elsewhere() -> None:
    """Another head that got clearly worse refuses; one within tolerance does not."""
    data, other = shop(), shop(seed=9)
    gain = of(data, blurred(data.truth, 1.0), data.truth)
    worse = of(other, other.truth, blurred(other.truth, 1.0), "cart/session")
    about_equal = of(other, other.truth, blurred(other.truth, 0.05), "cart/session")
    refused = decide(gain, [about_equal, worse])
    assert not refused.passed
    assert "cart/session got worse" in refused.reason
    assert decide(gain, [about_equal]).passed


def test_sessions_are_drawn_and_not_events() -> None:
    """Events that say the same within a session count as one: the interval is as wide as that of the sessions' means."""
    rng = np.random.default_rng(0)
    of_session = rng.normal(0, 1, 400)
    low, high = session_interval(np.repeat(of_session, 50), np.repeat(np.arange(400), 50), 0.95, 4000, seed=1)
    half_width = 1.645 * of_session.std() / np.sqrt(400)
    assert (high - low) / 2 == pytest.approx(half_width, rel=0.1)
    assert (low + high) / 2 == pytest.approx(of_session.mean(), abs=0.02)


def test_the_verdict_is_reproducible() -> None:
    """Same numbers, same seed, same verdict to the last digit."""
    data = shop()
    comparison = of(data, blurred(data.truth, 0.5), data.truth)
    assert decide(comparison, [], seed=4) == decide(comparison, [], seed=4)
