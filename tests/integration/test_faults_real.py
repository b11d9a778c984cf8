"""A few of the real-process scenarios of `make faults`, with less of everything."""

from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from tests.faults.real.__main__ import play
from tests.faults.real.catalogue import FLOOD, SCENARIOS


@pytest.mark.parametrize(
    ("name", "seed", "events"),
    [("kill-at-state-sent", 11, 1_500), ("zombie", 12, 3_000), ("users-followed", 13, 1_500), (FLOOD, 14, 4_000)],
)
async def test_scenario_leaves_nothing_wrong(stack: LocalStack, tmp_path: Path, name: str, seed: int, events: int) -> None:
    """All events have one result, copies are the same, and sessions are those of a straight replay."""
    played = await play(stack, SCENARIOS[name], seed, events, tmp_path, rounds=1)
    assert played.verdict.findings == []
    assert played.verdict.events >= events


async def test_a_known_bug_is_found(stack: LocalStack, tmp_path: Path) -> None:
    """State before scores: a worker that is killed in between leaves clicks without a score."""
    played = await play(stack, SCENARIOS["kill-at-state-confirmed"], 15, 1_000, tmp_path, rounds=1, bug="state-before-scores")
    assert any("I1" in finding and "a score is missing" in finding for finding in played.verdict.findings)
