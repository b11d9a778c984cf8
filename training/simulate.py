"""A clickstream simulator with a known truth: each event comes with the exact probability that a purchase follows in its session.

    stream = simulate(load_shop(), sessions=10_000, seed=7, start_ms=1_767_571_200_000, sessions_per_hour=500)
    for event, p in zip(stream.events(), stream.truth): ...

Real clickstreams with purchases are small, and nobody knows the right answer for them. Here the answer is known, so that
learning, calibration and drift can be judged sharply: no model can beat `truth` by more than luck.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from training.simulator.arrays import Bools, Floats
from training.simulator.arrivals import Arrivals
from training.simulator.catalogue import Catalogue
from training.simulator.clicks import Clicks, as_events, concatenated
from training.simulator.drift import DRIFT_KINDS, Drift, DriftKind
from training.simulator.shop import DEFAULT_SHOP, InvalidShop, Shop, load_shop, save_shop, shipped_shops
from worker.contract.events import ClickEvent

__all__ = [
    "DEFAULT_SHOP",
    "DRIFT_KINDS",
    "Clickstream",
    "Drift",
    "DriftKind",
    "InvalidShop",
    "Shop",
    "load_shop",
    "save_shop",
    "shipped_shops",
    "simulate",
    "stream_events",
]

_HOUR_MS = 3_600_000
_BLOCK_SESSIONS = 8192


@dataclass(frozen=True)
class Clickstream:
    """Whole sessions of many visitors, N events in order of time."""

    shop: Shop
    seed: int
    clicks: Clicks
    catalogue: Catalogue

    def __len__(self) -> int:
        return len(self.clicks)

    @property
    def truth(self) -> Floats:
        """p [N]: the exact probability, given the session up to and including the event, of a purchase strictly later in it."""
        return self.clicks.p

    def labels(self) -> Bools:
        """[N]: whether a purchase did come strictly later in the session."""
        return self.clicks.purchase_later()

    def events(self) -> Iterator[ClickEvent]:
        """The events, made as they are asked for."""
        return as_events(self.clicks, self.shop, self.catalogue, self.seed)

    def ending_at(self, end_ms: int) -> "Clickstream":
        """The same stream at another time: its last event is at `end_ms`."""
        times_ms = self.clicks.time_ms
        return replace(self, clicks=replace(self.clicks, time_ms=times_ms + (end_ms - int(times_ms[-1]))))

    def truth_by_id(self) -> dict[str, float]:
        """`truth` by event id."""
        return {event.event_id: p for event, p in zip(self.events(), self.truth.tolist(), strict=True)}


def simulate(
    shop: Shop,
    sessions: int,
    seed: int,
    start_ms: int,
    *,
    sessions_per_hour: float | None = None,
    hours: float | None = None,
    drift: Drift | None = None,
) -> Clickstream:
    """The first `sessions` sessions that start at `start_ms` (ms since the epoch) or later, to their ends.

    Give `sessions_per_hour`, the mean over a day, or the `hours` that the sessions spread over.
    Raises: ValueError for a count or a rate that is not positive; InvalidShop for a drift that makes no sense for the shop.
    """
    if sessions <= 0:
        raise ValueError(f"sessions must be positive, not {sessions}")
    if (sessions_per_hour is None) == (hours is None):
        raise ValueError("give either sessions_per_hour or hours")
    rate = sessions_per_hour if sessions_per_hour is not None else sessions / hours  # type: ignore[operator]  # one of them is there
    arrivals = Arrivals(shop, seed, start_ms, rate, drift)
    parts, started = [], 0
    while started < sessions:
        clicks, _ = arrivals.block(min(_BLOCK_SESSIONS, sessions - started + 64))
        parts.append(clicks)
        started += int((clicks.step == 0).sum())
    clicks = _first_sessions(concatenated(parts).in_time_order(), sessions)
    return Clickstream(shop, seed, clicks, arrivals.catalogue)


def stream_events(
    shop: Shop,
    seed: int,
    start_ms: int,
    sessions_per_hour: float,
    drift: Drift | None = None,
    *,
    block_sessions: int = _BLOCK_SESSIONS,
) -> Iterator[tuple[ClickEvent, float]]:
    """Events with their truth in order of time, without end, in bounded memory: about `block_sessions` sessions are made ahead.

    Raises: ValueError, InvalidShop, as `simulate` does.
    """
    arrivals = Arrivals(shop, seed, start_ms, sessions_per_hour, drift)
    unfinished: list[Clicks] = []
    while True:
        clicks, end_ms = arrivals.block(block_sessions)
        clicks = concatenated([*unfinished, clicks]).in_time_order()
        # Later sessions start at the block's end or after it, so that what lies before it is complete.
        ready = clicks.take(clicks.time_ms < end_ms)
        unfinished = [clicks.take(clicks.time_ms >= end_ms)]
        yield from zip(as_events(ready, shop, arrivals.catalogue, seed), ready.p.tolist(), strict=True)


def _first_sessions(clicks: Clicks, sessions: int) -> Clicks:
    """Keeps the sessions that start first. `clicks` are in order of time."""
    starting = clicks.session[clicks.step == 0][:sessions]
    return clicks.take(np.isin(clicks.session, starting))
