"""How late the event loop is: what is counted when it turns, when it is blocked, and when the whole process was stopped."""

import asyncio
import time

import pytest
from prometheus_client import REGISTRY

from worker.loop_lag import TICK_S, lateness, watch_loop


def _recorded() -> tuple[float, float]:
    """Ticks so far, and those of them that were late by more than 100 ms."""
    name = "inkling_event_loop_lag_seconds"
    ticks = REGISTRY.get_sample_value(f"{name}_count")
    punctual = REGISTRY.get_sample_value(f"{name}_bucket", {"le": "0.1"})
    assert ticks is not None
    assert punctual is not None
    return ticks, ticks - punctual


def test_a_loop_that_turns_is_late_once_a_tick() -> None:
    """By what the clock says."""
    late, due = lateness(10.0, 10.004)
    assert late == pytest.approx([0.004])
    assert due == pytest.approx(10.0 + TICK_S)


def test_before_a_tick_is_due_nothing_is_late() -> None:
    """The loop may wake a moment early."""
    assert lateness(10.0, 9.999) == ([], 10.0)


def test_a_blocked_loop_is_late_for_every_tick_that_it_missed() -> None:
    """Half of the ticks in the time that it was blocked were late by half of that time or more."""
    late, due = lateness(10.0, 11.0)
    assert len(late) == pytest.approx(1 / TICK_S, abs=1)
    assert max(late) == pytest.approx(1.0)
    assert sorted(late)[len(late) // 2] == pytest.approx(0.5, abs=TICK_S)
    assert 11.0 <= due <= 11.0 + TICK_S


def test_a_process_that_was_stopped_for_a_day_is_not_busy_with_that() -> None:
    """A minute of ticks says it all; the next tick is due from now on."""
    late, due = lateness(10.0, 86_410.0)
    assert len(late) * TICK_S == pytest.approx(60.0)
    assert due == 86_410.0


async def test_blocking_the_loop_shows() -> None:
    """CPU work of 0.4 s in the loop is seen in about six ticks that were late by more than 0.1 s."""
    watch = asyncio.create_task(watch_loop())
    await asyncio.sleep(3 * TICK_S)
    before = _recorded()
    assert before[0] > 0
    time.sleep(0.4)  # noqa: ASYNC251  # this is what the metric is for
    await asyncio.sleep(2 * TICK_S)
    watch.cancel()
    ticks, late = (after - earlier for after, earlier in zip(_recorded(), before, strict=True))
    assert late >= 4
    assert ticks >= late + 1
