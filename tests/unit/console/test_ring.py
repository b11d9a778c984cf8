"""Counts per second: what is kept, and what a percentile is worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.console.ring import LatencyRing, Ring


def test_counts_land_in_their_second() -> None:
    """A window holds what was counted in each of its seconds, oldest first, and not its end."""
    ring = Ring(10)
    for second, times in ((100, 1), (101, 2), (103, 4)):
        ring.add(second, count=times)
    assert ring.window(103, 4)[:, 0].tolist() == [0, 1, 2, 0]
    assert ring.window(104, 4)[:, 0].tolist() == [1, 2, 0, 4]


def test_columns_do_not_mix() -> None:
    """Each counter has its own column."""
    ring = Ring(5, width=2)
    ring.add(1, column=1)
    assert ring.window(2, 1).tolist() == [[0, 1]]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 3)), max_size=60), st.integers(0, 70), st.integers(1, 8))
def test_the_ring_is_a_window_over_the_full_count(adds: list[tuple[int, int]], end: int, seconds: int) -> None:
    """In whatever order seconds come, the ring equals a full count cut to what it may still know."""
    ring = Ring(8)
    full = np.zeros(100, np.int64)
    newest = 0
    for second, times in adds:
        ring.add(1000 + second, count=times)
        newest = max(newest, second)
        full[second] += times
    # A second that is too old when it comes is left out, and a second that has grown too old is gone.
    kept = np.zeros(100, np.int64)
    seen = 0
    for second, times in adds:
        seen = max(seen, second)
        if second > seen - 8:
            kept[second] += times
    expected = [kept[s] if s >= 0 and newest - 8 < s else 0 for s in range(end - seconds, end)]
    assert ring.window(1000 + end, seconds)[:, 0].tolist() == expected


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_percentiles_are_within_three_percent(share: float) -> None:
    """A percentile from the buckets is off by less than 3%."""
    latencies = np.random.default_rng(5).lognormal(4, 0.7, 5_000)
    ring = LatencyRing(10)
    for latency in latencies:
        ring.add(3, float(latency))
    (found,) = ring.percentiles(4, 1, (share,))
    assert found == pytest.approx(np.quantile(latencies, share), rel=0.03)


def test_no_latency_is_no_number() -> None:
    """Without observations there is no percentile, and the series has gaps where nothing was observed."""
    ring = LatencyRing(10)
    assert ring.percentiles(4, 4, (0.5, 0.99)) == (None, None)
    ring.add(2, 100)
    assert [value is None for value in ring.series(4, 3, 0.99)] == [True, False, True]


@pytest.mark.parametrize("latency", [-5.0, 0.0, 1e12])
def test_absurd_latencies_are_counted_at_the_edge(latency: float) -> None:
    """A negative or endless age neither fails nor gets lost."""
    ring = LatencyRing(10)
    ring.add(1, latency)
    assert ring.percentiles(2, 1, (0.5,))[0] is not None
