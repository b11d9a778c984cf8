"""A visitor's session as a pure fold over its events."""

import math
from enum import Enum

import msgspec
import numpy as np

from worker.contract.counters import WEIGHTS, Counts, decayed
from worker.contract.events import ClickEvent
from worker.contract.features import (
    CODES,
    NUMBERS,
    ROW,
    ROW_STRUCT,
    VISIBLE,
    FeatureSpec,
    chain_hash,
    hash64,
    price_or_nan,
)

_ROW_BYTES = ROW.itemsize
_FIRST_CODE = 4  # fields of a row before its codes
_FIRST_NUMBER = _FIRST_CODE + len(CODES)
_ITEM = _FIRST_CODE + CODES.index("item")
_GAP, _ELAPSED, _POSITION, _REPEATS = (
    _FIRST_NUMBER + NUMBERS.index(name) for name in ("gap_s", "elapsed_s", "position", "repeats")
)
_CHAIN = 3


class Outcome(Enum):
    """What an event did to its session."""

    APPENDED = "appended"
    NEW_SESSION = "new_session"
    LATE = "late"  # put in its place, within the grace period
    DUPLICATE = "duplicate"  # already in the window: nothing changes
    TOO_LATE = "too_late"  # past the grace period or before the window: nothing changes

    @property
    def changed(self) -> bool:
        """Whether the event is in the session now, and is scored."""
        return self in (Outcome.APPENDED, Outcome.NEW_SESSION, Outcome.LATE)


class SessionPolicy(msgspec.Struct, frozen=True):
    """When a session ends, how late an event may be, both in ms of event time."""

    gap_ms: int = 1_800_000
    grace_ms: int = 300_000


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
        return self.rows[-_ROW_BYTES + 24 : -_ROW_BYTES + 32][::-1].hex()

    def append(
        self,
        event: ClickEvent,
        offset: int,
        codes: tuple[int, ...],
        shared: tuple[float, ...],
        spec: FeatureSpec,
        policy: SessionPolicy,
    ) -> tuple["Session", Outcome]:
        """The session with the event in it, and what the event did.

        `codes` are the event's integer features and `shared` the partition's counts (`Counters.read`).
        """
        event_hash = hash64("event", event.event_id)
        if self.position and event_hash in np.frombuffer(self.rows, ROW)["event_hash"]:
            return self, Outcome.DUPLICATE
        if not self.position or event.event_time - self.last_ms >= policy.gap_ms:
            return self._begin(event, event_hash, offset, codes, shared, spec), Outcome.NEW_SESSION
        if event.event_time >= self.last_ms:
            return self._extend(event, event_hash, offset, codes, shared, spec), Outcome.APPENDED
        if self._out_of_reach(event.event_time, policy):
            return self, Outcome.TOO_LATE
        return self._repair(event, event_hash, offset, codes, shared, spec), Outcome.LATE

    def _begin(
        self,
        event: ClickEvent,
        event_hash: int,
        offset: int,
        codes: tuple[int, ...],
        shared: tuple[float, ...],
        spec: FeatureSpec,
    ) -> "Session":
        fresh = Session(
            visitor_id=self.visitor_id,
            session_id=f"{hash64('session', f'{self.visitor_id}|{event.event_time}'):016x}",
            started_ms=event.event_time,
            last_ms=event.event_time,
            previous_end_ms=self.last_ms if self.position else None,
            counts=self.counts,
            counted_ms=self.counted_ms,
        )
        return fresh._extend(event, event_hash, offset, codes, shared, spec)

    def _extend(
        self,
        event: ClickEvent,
        event_hash: int,
        offset: int,
        codes: tuple[int, ...],
        shared: tuple[float, ...],
        spec: FeatureSpec,
    ) -> "Session":
        rows = self.rows
        if len(rows) >= spec.window * _ROW_BYTES:
            rows = _chained(rows[spec.window // 2 * _ROW_BYTES :])
        repeats = _repeats(rows, codes[CODES.index("item")])
        numbers = self._numbers(event, event.event_time - self.last_ms, self.position + 1, repeats, shared, spec)
        row = ROW_STRUCT.pack(event.event_time, event_hash, offset, 0, *codes, *numbers)
        return self._with(rows + _linked(_last_chain(rows), row), event, spec)

    def _repair(
        self,
        event: ClickEvent,
        event_hash: int,
        offset: int,
        codes: tuple[int, ...],
        shared: tuple[float, ...],
        spec: FeatureSpec,
    ) -> "Session":
        """Put a late event in its place; the rows after it take note of it."""
        times = np.frombuffer(self.rows, ROW)["event_time"]
        place = int(np.searchsorted(times, event.event_time, side="right"))
        earlier, later = self.rows[: place * _ROW_BYTES], self.rows[place * _ROW_BYTES :]
        item = codes[CODES.index("item")]
        gap_ms = event.event_time - int(times[place - 1]) if place else 0
        position = self.position - len(times) + place + 1
        numbers = self._numbers(event, gap_ms, position, _repeats(earlier, item), shared, spec)
        moved = []
        # The first event of a session moves its start; what is before the window is out of reach.
        started_ms = min(self.started_ms, event.event_time)
        for index, fields in enumerate(ROW_STRUCT.iter_unpack(later)):
            row = list(fields)
            row[_POSITION] += 1
            row[_ELAPSED] = (row[0] - started_ms) / 1000.0
            if index == 0:
                row[_GAP] = (row[0] - event.event_time) / 1000.0
            if item and row[_ITEM] == item:
                row[_REPEATS] += 1
            moved.append(ROW_STRUCT.pack(*row))
        inserted = ROW_STRUCT.pack(event.event_time, event_hash, offset, 0, *codes, *numbers)
        rows = earlier + inserted + b"".join(moved)
        if len(rows) > spec.window * _ROW_BYTES:
            rows = rows[spec.window // 2 * _ROW_BYTES :]
        return self._with(_chained(rows), event, spec)

    def _numbers(
        self, event: ClickEvent, gap_ms: int, position: int, repeats: int, shared: tuple[float, ...], spec: FeatureSpec
    ) -> tuple[float, ...]:
        visitor = decayed(self.counts, event.event_time - self.counted_ms, spec.half_life_s)
        previous = self.previous_end_ms
        return (
            price_or_nan(event),
            gap_ms / 1000.0,
            max(event.event_time - self.started_ms, 0) / 1000.0,
            position,
            repeats,
            *visitor,
            math.nan if previous is None else (event.event_time - previous) / 1000.0,
            *shared,
        )

    def _with(self, rows: bytes, event: ClickEvent, spec: FeatureSpec) -> "Session":
        weights = WEIGHTS.get(event.event_type, (0.0, 0.0, 0.0))
        counts = decayed(self.counts, event.event_time - self.counted_ms, spec.half_life_s)
        return Session(
            visitor_id=self.visitor_id,
            session_id=self.session_id,
            started_ms=min(self.started_ms, event.event_time),
            last_ms=max(self.last_ms, event.event_time),
            position=self.position + 1,
            rows=rows,
            previous_end_ms=self.previous_end_ms,
            counts=(counts[0] + weights[0], counts[1] + weights[1], counts[2] + weights[2]),
            counted_ms=max(self.counted_ms, event.event_time),
        )

    def _out_of_reach(self, event_time: int, policy: SessionPolicy) -> bool:
        if self.last_ms - event_time > policy.grace_ms or self.started_ms - event_time >= policy.gap_ms:
            return True
        truncated = self.position * _ROW_BYTES > len(self.rows)
        return truncated and event_time < int.from_bytes(self.rows[:8], "little", signed=True)


def _repeats(rows: bytes, item: int) -> int:
    """How often the window holds the item's bucket; 0 for a missing item."""
    if not item or not rows:
        return 0
    return int(np.count_nonzero(np.frombuffer(rows, ROW)["codes"][:, CODES.index("item")] == item))


def _last_chain(rows: bytes) -> int:
    return int.from_bytes(rows[-_ROW_BYTES + 24 : -_ROW_BYTES + 32], "little") if rows else 0


def _linked(before: int, row: bytes) -> bytes:
    """The row with its chain hash, given that of the row before it."""
    return row[:24] + chain_hash(before, row[VISIBLE:]).to_bytes(8, "little") + row[32:]


def _chained(rows: bytes) -> bytes:
    """The rows with their chain hashes computed anew from the first."""
    chain, linked = 0, []
    for start in range(0, len(rows), _ROW_BYTES):
        row = _linked(chain, rows[start : start + _ROW_BYTES])
        chain = _last_chain(row)
        linked.append(row)
    return b"".join(linked)
