"""Faults drawn by hypothesis instead of a seed: what fails is shrunk to the few faults that it takes."""

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.clicks import draw_clicks
from tests.faults.network import FAILPOINTS
from tests.faults.schedule import FAULTS_S, Fault, Schedule
from tests.faults.simulation import run

_times = st.integers(0, int(FAULTS_S * 100)).map(lambda hundredths: hundredths / 100)
_workers = st.integers(0, 2)
_faults = st.one_of(
    st.builds(Fault, _times, st.just("crash"), _workers, st.sampled_from(FAILPOINTS)),
    st.builds(Fault, _times, st.just("pause"), _workers, st.sampled_from(FAILPOINTS), st.sampled_from((0.1, 0.6, 1.4))),
    st.builds(Fault, _times, st.just("away"), for_s=st.sampled_from((0.05, 0.7))),
    st.builds(Fault, _times, st.sampled_from(("start", "stop", "compact", "wake")), _workers),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    clicks=st.integers(1, 30),
    workers=st.integers(1, 3),
    unruly=st.sampled_from((0.0, 0.1)),
    faults=st.lists(_faults, max_size=8).map(sorted),
)
def test_invariants_hold_under_any_faults(seed: int, clicks: int, workers: int, unruly: float, faults: list[Fault]) -> None:
    """I1 to I5 hold for whatever faults one can think of."""
    result = run(Schedule(seed, draw_clicks(random.Random(seed), clicks), workers, unruly, faults))
    assert result.violation is None, result.told()
