"""The streaming core under seeded faults."""

import os
from collections import Counter

import pytest

from tests.faults.__main__ import results
from tests.faults.network import FAILPOINTS
from tests.faults.schedule import draw
from tests.faults.simulation import run

#: All of them in CI, where they take two minutes; elsewhere what a developer waits for.
_SCHEDULES = 10_000 if os.environ.get("CI") else 1_000


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_invariants_hold_under_seeded_faults() -> None:
    """I1 to I5 hold, whatever crashes, pauses, moves or is lost; a seed that breaks one is shown with its trace."""
    counts: Counter[str] = Counter()
    for result in results(range(_SCHEDULES), jobs=2):
        counts.update(result.counts)
        assert result.violation is None, f"python -m tests.faults --schedules 1 --seed {result.seed}\n{result.told()}"
    reached = {name.removeprefix("crash at ") for name in counts if name.startswith("crash at ")}
    assert reached == set(FAILPOINTS)
    assert counts["zombies shut out"] > 0


def test_a_seed_replays_exactly() -> None:
    """The same seed gives the same trace, moment by moment."""
    for seed in range(5):
        assert run(draw(seed)) == run(draw(seed))
