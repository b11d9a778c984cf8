"""Tests for worker/scoring/breaker.py."""

import pytest

from worker.scoring.breaker import Breaker


class ManualClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> Breaker:
    return Breaker(failures=3, reset_s=2.0, clock=clock)


def open_it(breaker: Breaker) -> None:
    for _ in range(3):
        assert breaker.allow()
        breaker.failed()


def test_opens_at_the_limit_and_not_before(breaker: Breaker) -> None:
    """Two failures change nothing; the third keeps requests away."""
    for _ in range(2):
        breaker.failed()
    assert breaker.state == "closed"
    assert breaker.allow()
    breaker.failed()
    assert breaker.state == "open"
    assert not breaker.allow()


def test_a_success_between_failures_starts_the_count_anew(breaker: Breaker) -> None:
    """Only failures in a row count."""
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.state == "closed"


def test_lets_exactly_one_probe_through_after_the_reset_time(breaker: Breaker, clock: ManualClock) -> None:
    """While the probe is out, the others are kept back."""
    open_it(breaker)
    clock.now += 1.99
    assert not breaker.allow()
    clock.now += 0.01
    assert breaker.state == "half-open"
    assert breaker.allow()
    assert not breaker.allow()


def test_a_probe_that_succeeds_closes_it(breaker: Breaker, clock: ManualClock) -> None:
    """All requests pass again."""
    open_it(breaker)
    clock.now += 2
    assert breaker.allow()
    breaker.succeeded()
    assert breaker.state == "closed"
    assert breaker.allow()
    assert breaker.allow()


def test_a_probe_that_fails_keeps_it_open_for_the_reset_time(breaker: Breaker, clock: ManualClock) -> None:
    """One failed probe is enough, without three failures anew."""
    open_it(breaker)
    clock.now += 2
    assert breaker.allow()
    clock.now += 1
    breaker.failed()
    clock.now += 1.5
    assert not breaker.allow()
    clock.now += 0.5
    assert breaker.allow()


def test_a_probe_that_was_cancelled_does_not_keep_it_open_for_ever(breaker: Breaker, clock: ManualClock) -> None:
    """Neither success nor failure was reported: the next probe goes after the reset time."""
    open_it(breaker)
    clock.now += 2
    assert breaker.allow()
    clock.now += 2
    assert breaker.allow()
