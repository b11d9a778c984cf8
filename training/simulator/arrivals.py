"""When sessions start and whose they are: a daily rhythm of arrivals, and visitors who come back hours or days later."""

import math
from dataclasses import dataclass

import numpy as np

from training.simulator.arrays import Bools, Floats, Ints
from training.simulator.catalogue import catalogue_of
from training.simulator.clicks import Clicks, concatenated
from training.simulator.drift import Drift, schedule
from training.simulator.generate import Sessions, generate
from training.simulator.shop import Shop, Visits
from training.simulator.tables import SESSION_GAP_S, tables_of

_HOUR_MS = 3_600_000
#: Sessions generated at once: enough to hide the cost of a numpy call, few enough to stay in the cache.
_CHUNK = 4096
_ANY = -1


@dataclass(frozen=True)
class _Visit:
    """Sessions to come [n]: start in ms, number of the visitor, first category or _ANY."""

    start_ms: Ints
    visitor: Ints
    category: Ints

    def take(self, rows: Ints | Bools | slice) -> "_Visit":
        return _Visit(self.start_ms[rows], self.visitor[rows], self.category[rows])


class Arrivals:
    """The sessions of one shop from `start_ms` on, block by block. Same arguments, same calls: same sessions."""

    def __init__(self, shop: Shop, seed: int, start_ms: int, sessions_per_hour: float, drift: Drift | None = None) -> None:
        """Raises: InvalidShop, ValueError where sessions_per_hour is not positive."""
        if not sessions_per_hour > 0:
            raise ValueError(f"sessions_per_hour must be positive, not {sessions_per_hour}")
        self.catalogue = catalogue_of(shop)
        self._schedule = schedule(shop, drift)
        self._tables = [tables_of(each) for each in self._schedule.shops]
        self._renewed = [self.catalogue.luck < each.renewed for each in self._schedule.shops]
        self._visits = shop.visits
        self._start_ms = start_ms
        self._rhythm = _Rhythm(shop.visits, start_ms, sessions_per_hour)
        self._rng = np.random.default_rng(seed)
        self._expected = 0.0  # sessions expected since the start: the clock of the arrivals
        self._pending = _nobody()
        self._visitors = 0
        self._sessions = 0

    def block(self, sessions: int) -> tuple[Clicks, int]:
        """All sessions (about so many) that start in the next stretch of time, whole and unsorted, and the stretch's end."""
        units = self._expected + np.cumsum(self._rng.standard_exponential(sessions))
        self._expected = float(units[-1])
        start_ms = self._rhythm.times_ms(units)
        end_ms = int(start_ms[-1]) + 1
        visits = _joined(self._strangers(start_ms), self._pending.take(self._pending.start_ms < end_ms))
        self._pending = self._pending.take(self._pending.start_ms >= end_ms)
        done: list[Clicks] = []
        while len(visits.start_ms):  # a visitor may come back within the stretch, even twice
            returns = [self._run(visits.take(slice(at, at + _CHUNK)), done) for at in range(0, len(visits.start_ms), _CHUNK)]
            back = _joined(*returns)
            visits = back.take(back.start_ms < end_ms)
            self._pending = _joined(self._pending, back.take(back.start_ms >= end_ms))
        return concatenated(done), end_ms

    def _strangers(self, start_ms: Ints) -> _Visit:
        """First visits. Early in the stream nobody is back yet, so all arrivals are strangers; later they make room for returns,
        and the rate of sessions stays level."""
        share_back = self._visits.return_probability * _returned_by(self._visits, (start_ms - self._start_ms) / _HOUR_MS)
        start_ms = start_ms[self._rng.random(len(start_ms)) >= share_back]
        visitor = self._visitors + np.arange(len(start_ms))
        self._visitors += len(start_ms)
        return _Visit(start_ms, visitor, np.full(len(start_ms), _ANY))

    def _run(self, visits: _Visit, done: list[Clicks]) -> _Visit:
        """Generates these sessions into `done`; says who comes back."""
        epochs = self._schedule.epoch(visits.start_ms)
        returns = []
        for epoch in np.unique(epochs):
            now = visits.take(epochs == epoch)
            tables = self._tables[epoch]
            anywhere = self._rng.choice(len(tables.share), len(now.category), p=tables.share)
            category = np.where(now.category == _ANY, anywhere, now.category)
            sessions = generate(tables, self.catalogue, self._renewed[epoch], now.start_ms, category, self._rng)
            done.append(self._clicks(sessions, now.visitor))
            returns.append(self._returns(sessions, now.visitor))
        return _joined(*returns)

    def _clicks(self, sessions: Sessions, visitor: Ints) -> Clicks:
        number = self._sessions + sessions.order
        self._sessions += len(visitor)
        return Clicks(
            time_ms=sessions.time_ms,
            visitor=visitor[sessions.order][sessions.row],
            session=number[sessions.row],
            step=sessions.step,
            type=sessions.type,
            item=sessions.item,
            category=sessions.category,
            p=sessions.p,
        )

    def _returns(self, sessions: Sessions, visitor: Ints) -> _Visit:
        rng, visits = self._rng, self._visits
        rows = np.flatnonzero(rng.random(len(visitor)) < visits.return_probability)
        hours = np.exp(rng.normal(math.log(visits.return_median_h), visits.return_log_sd, len(rows)))
        # One more millisecond than the session gap, so that the worker sees a session of its own.
        start_ms = sessions.end_ms[rows] + SESSION_GAP_S * 1000 + 1 + (hours * _HOUR_MS).astype(np.int64)
        stays = rng.random(len(rows)) < visits.return_stay
        return _Visit(start_ms, visitor[sessions.order[rows]], np.where(stays, sessions.end_category[rows], _ANY))


class _Rhythm:
    """Turns a steady clock that counts expected sessions into times of a day with busy and quiet hours."""

    def __init__(self, visits: Visits, start_ms: int, sessions_per_hour: float) -> None:
        weights = np.array(visits.hours) / np.mean(visits.hours)
        self._by_hour: Floats = np.concatenate([[0.0], np.cumsum(weights * sessions_per_hour)])  # [25]
        self._day_ms = start_ms - start_ms % (24 * _HOUR_MS)
        self._offset = float(np.interp((start_ms - self._day_ms) / _HOUR_MS, np.arange(25), self._by_hour))

    def times_ms(self, units: Floats) -> Ints:
        day, rest = np.divmod(units + self._offset, self._by_hour[-1])
        hours = np.interp(rest, self._by_hour, np.arange(25)) + 24 * day
        times: Ints = self._day_ms + (hours * _HOUR_MS).astype(np.int64)
        return times


def _returned_by(visits: Visits, hours: Floats) -> Floats:
    """The fraction of returns that come within so many hours of the session before."""
    after_gap = np.maximum(hours - SESSION_GAP_S / 3600, 1e-9)
    z = (np.log(after_gap) - math.log(visits.return_median_h)) / visits.return_log_sd
    return np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in z.tolist()])


def _nobody() -> _Visit:
    return _Visit(*(np.empty(0, dtype=np.int64) for _ in range(3)))


def _joined(*parts: _Visit) -> _Visit:
    parts = (_nobody(), *parts)
    return _Visit(
        np.concatenate([part.start_ms for part in parts]),
        np.concatenate([part.visitor for part in parts]),
        np.concatenate([part.category for part in parts]),
    )
