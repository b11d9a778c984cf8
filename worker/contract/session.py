"""A visitor's session as a pure fold over its events."""

import math
from enum import Enum
from typing import NamedTuple

import msgspec
import numpy as np

from worker.contract import window
from worker.contract.counters import WEIGHTS, Counts, decayed
from worker.contract.events import ClickEvent
from worker.contract.features import CODES, ROW, ROW_STRUCT, FeatureSpec, hash64, price_or_nan
from worker.contract.window import ROW_BYTES

_ITEM = CODES.index("item")


class Outcome(Enum):
    """What an event did to its session."""

    APPENDED = "appended"
    NEW_SESSION = "new_session"
    LATE = "late"  # put in its place, within the grace period
    DUPLICATE = "duplicate"  # already in the window: nothing changes
    TOO_LATE = "too_late"  # past the grace period or before the window: nothing changes

    def __init__(self, name: str) -> None:
        #: Whether the event is in the session now, and is scored. An attribute, as it is asked for every event.
        self.changed = name in ("appended", "new_session", "late")


class SessionPolicy(msgspec.Struct, frozen=True):
    """When a session ends, how late an event may be and when a visitor is forgotten, all in ms of event time.

    Raises ValueError unless 0 <= grace_ms < gap_ms < forget_ms: an event later than the gap could belong to a session that
    is over, and what is forgotten must be over.
    """

    gap_ms: int = 1_800_000
    grace_ms: int = 300_000
    forget_ms: int = 2_592_000_000

    def __post_init__(self) -> None:
        if not 0 <= self.grace_ms < self.gap_ms:
            raise ValueError(f"a session's grace period ({self.grace_ms} ms) must be shorter than its gap ({self.gap_ms} ms)")
        if self.forget_ms <= self.gap_ms:
            raise ValueError(f"visitors must not be forgotten ({self.forget_ms} ms) before their session ends ({self.gap_ms} ms)")


class Arrival(NamedTuple):
    """An event as it reaches its session.

    `offset` is where it stands in the partition's log, `codes` are its integer features (`features.event_codes`)
    and `shared` the partition's counts for it (`Counters.read`). `remote` says that it lies so far back that its visitor may
    have been known and forgotten since: a session that it begins could be a copy of one that there was.
    """

    event: ClickEvent
    event_hash: int
    offset: int
    codes: tuple[int, ...]
    shared: tuple[float, ...]
    remote: bool = False


def session_number(visitor_id: str, began_ms: int, offset: int | None) -> int:
    """The id of the session that an event begins, as a number. `offset` is that of a remote event, else None."""
    text = f"{visitor_id}|{began_ms}"
    return hash64("session", text if offset is None else f"{text}|{offset}")


class Session(msgspec.Struct, frozen=True, array_like=True):
    """The rolling session of one visitor, with what is remembered of the visitor's earlier ones.

    `rows` is the model's window: up to `spec.window` packed rows (`features.ROW`) in order of event time. When it is
    full the older half is dropped in one step, so where a window starts depends on the position alone.
    `position` counts all events of the session. Times are ms of event time. The visitor's counts outlive sessions
    and are decayed to `counted_ms`.
    """

    visitor_id: str
    session_id: str = ""
    started_ms: int = 0
    last_ms: int = 0
    position: int = 0
    rows: bytes = b""
    previous_end_ms: int | None = None
    counts: Counts = (0.0, 0.0, 0.0)
    counted_ms: int = 0

    @property
    def input_hash(self) -> str:
        """The hash of exactly what the model sees of this session: 16 hex digits."""
        return window.last_chain(self.rows)[::-1].hex()

    def append(self, arrival: Arrival, spec: FeatureSpec, policy: SessionPolicy) -> tuple["Session", Outcome]:
        """The session with the event in it, and what the event did."""
        ahead_ms = arrival.event.event_time - self.last_ms
        if window.holds(self.rows, arrival.event_hash):
            return self, Outcome.DUPLICATE
        if not self.position or ahead_ms >= policy.gap_ms:
            return self._begin(arrival, spec), Outcome.NEW_SESSION
        if ahead_ms >= 0:
            return self._extend(arrival, spec), Outcome.APPENDED
        if -ahead_ms > policy.grace_ms or self._lost_before(arrival.event.event_time):
            return self, Outcome.TOO_LATE
        return self._repair(arrival, spec), Outcome.LATE

    def _begin(self, arrival: Arrival, spec: FeatureSpec) -> "Session":
        start_ms = arrival.event.event_time
        number = session_number(self.visitor_id, start_ms, arrival.offset if arrival.remote else None)
        fresh = Session(
            visitor_id=self.visitor_id,
            session_id=f"{number:016x}",
            started_ms=start_ms,
            last_ms=start_ms,
            previous_end_ms=self.last_ms if self.position else None,
            counts=self.counts,
            counted_ms=self.counted_ms,
        )
        return fresh._extend(arrival, spec)

    def _extend(self, arrival: Arrival, spec: FeatureSpec) -> "Session":
        rows = self.rows
        if len(rows) >= spec.window * ROW_BYTES:
            rows = window.halved(rows, spec.window)
        counts = self._counts_at(arrival.event.event_time, spec)
        row = self._row(arrival, arrival.event.event_time - self.last_ms, rows, counts)
        return self._with(window.extended(rows, row), arrival.event, counts)

    def repaired(self, arrival: Arrival, spec: FeatureSpec) -> tuple[bytes, int]:
        """The window with a late event in its place, and which row that is. It may be one row longer than the model sees."""
        event_time = arrival.event.event_time
        place = int(np.searchsorted(np.frombuffer(self.rows, ROW)["event_time"], event_time, side="right"))
        row = self._row(arrival, 0, self.rows[: place * ROW_BYTES], self._counts_at(event_time, spec))
        return window.repaired(self.rows, row, place, min(self.started_ms, event_time), self.position + 1), place

    def _repair(self, arrival: Arrival, spec: FeatureSpec) -> "Session":
        rows, _ = self.repaired(arrival, spec)
        if len(rows) > spec.window * ROW_BYTES:
            rows = window.halved(rows, spec.window)
        return self._with(rows, arrival.event, self._counts_at(arrival.event.event_time, spec))

    def _row(self, arrival: Arrival, gap_ms: int, earlier: bytes, counts: Counts) -> bytes:
        """The event's row, still without its chain hash, as the next after the `earlier` ones."""
        event, previous = arrival.event, self.previous_end_ms
        return ROW_STRUCT.pack(
            event.event_time,
            arrival.event_hash,
            arrival.offset,
            0,
            *arrival.codes,
            price_or_nan(event),
            gap_ms / 1000.0,
            (event.event_time - self.started_ms) / 1000.0,
            self.position + 1,
            window.repeats(earlier, arrival.codes[_ITEM]),
            *counts,
            math.nan if previous is None else (event.event_time - previous) / 1000.0,
            *arrival.shared,
        )

    def _with(self, rows: bytes, event: ClickEvent, counts: Counts) -> "Session":
        """This session with one event more, of which `counts` tell the visitor's earlier ones."""
        views, carts, purchases = WEIGHTS[event.event_type]
        return Session(
            visitor_id=self.visitor_id,
            session_id=self.session_id,
            started_ms=min(self.started_ms, event.event_time),
            last_ms=max(self.last_ms, event.event_time),
            position=self.position + 1,
            rows=rows,
            previous_end_ms=self.previous_end_ms,
            counts=(counts[0] + views, counts[1] + carts, counts[2] + purchases),
            counted_ms=max(self.counted_ms, event.event_time),
        )

    def _counts_at(self, time_ms: int, spec: FeatureSpec) -> Counts:
        return decayed(self.counts, time_ms - self.counted_ms, spec.half_life_s)

    def _lost_before(self, event_time: int) -> bool:
        """Whether the place of an event of this time has left the window.

        At the time of the oldest row it has too: the event may be a copy of one that left.
        """
        truncated = self.position * ROW_BYTES > len(self.rows)
        return truncated and event_time <= window.first_time(self.rows)
