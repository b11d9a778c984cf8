"""The streaming core under seeded faults."""

import time
from collections import Counter

from tests.faults.network import FAILPOINTS
from tests.faults.schedule import draw
from tests.faults.simulation import run

_MOST_SCHEDULES = 2_000
_MOST_S = 20.0
#: What a machine that is busy gets done in that time and more; all failpoints are reached in these.
_LEAST_SCHEDULES = 100


def test_invariants_hold_under_seeded_faults() -> None:
    """I1 to I5 hold, whatever crashes, pauses, moves or is lost; a seed that breaks one is shown with its trace."""
    counts: Counter[str] = Counter()
    until = time.monotonic() + _MOST_S
    for seed in range(_MOST_SCHEDULES):
        if seed >= _LEAST_SCHEDULES and time.monotonic() > until:
            break
        result = run(draw(seed))
        counts.update(result.counts)
        assert result.violation is None, f"python -m tests.faults --schedules 1 --seed {seed}\n{result.told()}"
    reached = {name.removeprefix("crash at ") for name in counts if name.startswith("crash at ")}
    assert reached == set(FAILPOINTS)
    assert counts["zombies shut out"] > 0


def test_a_seed_replays_exactly() -> None:
    """The same seed gives the same trace, moment by moment."""
    for seed in range(5):
        assert run(draw(seed)) == run(draw(seed))
