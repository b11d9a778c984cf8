"""Tests for worker/scoring/guarded.py."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from tests.unit.test_fallback import flat, inputs_of
from worker.contract.features import ModelInputs
from worker.errors import DeadlineExceeded, ScorerRejected, ScorerUnavailable
from worker.scoring.base import Scorer, Scores
from worker.scoring.breaker import Breaker
from worker.scoring.fake import ConstantScorer, FailingScorer
from worker.scoring.fallback import FallbackScorer
from worker.scoring.guarded import GuardedScorer, Pin

FALLBACK = FallbackScorer.from_json(flat())
INPUTS = inputs_of("view")


class ManualClock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Switch:
    """A pin that a test moves."""

    def __init__(self) -> None:
        self.pin = Pin("1", FALLBACK, verified=True)

    def __call__(self) -> Pin:
        return self.pin


def guard(
    primary: Scorer, switch: Switch | None = None, clock: ManualClock | None = None, deadline_s: float = 1.0
) -> GuardedScorer:
    return GuardedScorer(primary, Breaker(3, 1.0, clock or ManualClock()), switch or Switch(), deadline_s)


def requests(result: str) -> float:
    return REGISTRY.get_sample_value("inkling_scorer_requests_total", {"result": result}) or 0.0


async def test_the_model_answers_while_it_is_well() -> None:
    """Path and version are the model's."""
    scores = await guard(ConstantScorer(0.7)).score(INPUTS)
    assert (scores.path, scores.version) == ("model", "1")
    assert scores.purchase[0, 0] == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("error", "label"),
    [(ScorerUnavailable("x"), "unavailable"), (DeadlineExceeded("x"), "deadline"), (ScorerRejected("x"), "rejected")],
)
async def test_every_scoring_error_ends_in_a_fallback_score(error: ScorerUnavailable, label: str) -> None:
    """It names the pinned version, says that it is a fallback, and is counted."""
    before = requests(label)
    scores = await guard(FailingScorer(error)).score(INPUTS)
    assert (scores.path, scores.version) == ("fallback", "1")
    assert requests(label) == before + 1


async def test_a_slow_model_is_given_up_at_the_deadline() -> None:
    """The fallback answers soon after."""
    started = asyncio.get_running_loop().time()
    scores = await guard(ConstantScorer(0.7, delay_s=30), deadline_s=0.05).score(INPUTS)
    assert scores.path == "fallback"
    assert asyncio.get_running_loop().time() - started < 5


async def test_one_broken_request_costs_no_fallback_score() -> None:
    """It is sent once more within the deadline."""
    scores = await guard(FailingScorer(times=1, then=ConstantScorer(0.3))).score(INPUTS)
    assert scores.path == "model"


async def test_the_breaker_spares_a_server_in_trouble_and_finds_it_again() -> None:
    """After three failures it is not asked; after the reset time one success brings it back."""
    clock = ManualClock()
    primary = FailingScorer(times=6, then=ConstantScorer(0.3))  # two requests a batch
    scorer = guard(primary, clock=clock)
    for _ in range(3):
        await scorer.score(INPUTS)
    assert REGISTRY.get_sample_value("inkling_breaker_open") == 1
    asked = primary.calls
    before = requests("breaker_open")
    assert (await scorer.score(INPUTS)).path == "fallback"
    assert primary.calls == asked
    assert requests("breaker_open") == before + 1
    clock.now += 1
    assert (await scorer.score(INPUTS)).path == "model"
    assert REGISTRY.get_sample_value("inkling_breaker_open") == 0


async def test_refused_inputs_do_not_open_the_breaker() -> None:
    """One visitor's odd inputs must not send everybody to the fallback."""
    primary = FailingScorer(ScorerRejected("odd"), times=5, then=ConstantScorer(0.3))
    scorer = guard(primary)
    for _ in range(5):
        assert (await scorer.score(INPUTS)).path == "fallback"
    assert (await scorer.score(INPUTS)).path == "model"


async def test_a_version_that_is_not_verified_is_not_asked() -> None:
    """Its own fallback answers until it has proved itself."""
    switch, primary = Switch(), ConstantScorer(0.7)
    switch.pin = Pin("2", FALLBACK, verified=False)
    scores = await guard(primary, switch).score(INPUTS)
    assert (scores.path, scores.version) == ("fallback", "2")
    assert primary.calls == []


async def test_a_swap_never_falls_inside_a_batch() -> None:
    """The version is asked once: a retry, and the fallback after it, keep to the version that the batch began with."""
    switch = Switch()
    other = FallbackScorer.from_json(flat(churn=[5.0]))

    class SwapsThenFails:
        def __init__(self) -> None:
            self.versions: list[str] = []

        async def score(self, inputs: ModelInputs, version: str) -> Scores:
            self.versions.append(version)
            switch.pin = Pin("2", other, verified=True)
            raise ScorerUnavailable("gone")

    primary = SwapsThenFails()
    scores = await guard(primary, switch).score(INPUTS)
    assert primary.versions == ["1", "1"]
    assert scores.version == "1"
    assert scores.churn[0] == pytest.approx(0.5)


async def test_the_fallback_changes_with_the_pin() -> None:
    """A new version brings its own."""
    switch = Switch()
    scorer = guard(FailingScorer(), switch)
    assert (await scorer.score(INPUTS)).churn[0] == pytest.approx(0.5)
    switch.pin = Pin("2", FallbackScorer.from_json(flat(churn=[800.0])), verified=True)
    assert (await scorer.score(INPUTS)).churn[0] == 1


async def test_faults_in_our_own_code_are_not_hidden() -> None:
    """Only a ScoringError is answered by the fallback."""

    class Broken:
        async def score(self, inputs: ModelInputs, version: str) -> Scores:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await guard(Broken()).score(INPUTS)
