"""Files of canonical events (one JSON object a line, .gz by suffix) as the worker would have read them from Kafka."""

import gzip
import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from worker import send
from worker.contract.codec import MAX_RECORD_BYTES, decode
from worker.contract.events import ClickEvent, InvalidRecord, Reason
from worker.errors import ConfigurationError

log = logging.getLogger(__name__)

#: A file has no Kafka timestamps. With this one no event lies in the future: 2**53 ms is some 285 thousand years on.
_NEVER_FUTURE_MS = 2**53


class LoggedEvent(NamedTuple):
    """An event and where it stands in the log."""

    event: ClickEvent
    partition: int
    offset: int


class Line(NamedTuple):
    """One non-empty line. `event_id` is None when the line does not even hold that; `number` counts from 0."""

    number: int
    event_id: str | None
    event: ClickEvent | InvalidRecord


class EventFiles:
    """The lines of some files in order of event time; lines of the same time, and invalid ones, stay where they stand."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Reads the files once for their times. Raises ConfigurationError when one cannot be read or none holds an event."""
        self._paths = paths
        times = np.fromiter((_time(line) for line in _lines(paths)), np.int64)
        self.lines = len(times)
        self.invalid: Counter[Reason] = Counter()
        names = ", ".join(str(path) for path in paths)
        if not self.lines:
            raise ConfigurationError(f"{names}: the file is empty; give events as JSON, one object a line")
        if not (times >= 0).any():
            raise ConfigurationError(
                f"{names}: no line is an event ({_first_fault(paths)}); give events as JSON, one object a line"
            )
        self._times = times
        self._order = _order(times)
        if self._order is not None:
            log.warning("%s: not sorted by event_time; sorted in memory", names)

    def __iter__(self) -> Iterator[Line]:
        """All lines; `invalid` counts the faults of the latest pass."""
        return self._from(0)

    def events(self, newest: int | None = None, until_ms: int | None = None) -> Iterator[ClickEvent]:
        """The lines that are events; of the lines before `until_ms` the `newest` only, as memory for all may be wanting."""
        if older := self.left_out(newest, until_ms):
            log.warning("taking the newest %d of %d events: more may not fit into memory", newest, older + (newest or 0))
        return (line.event for line in self._from(self._oldest_of(newest, until_ms)) if isinstance(line.event, ClickEvent))

    def left_out(self, newest: int | None, until_ms: int | None = None) -> int:
        """How many lines `events` leaves out, as there are `newest` newer ones."""
        return max(len(self._before(until_ms)) - newest, 0) if newest is not None else 0

    def _from(self, oldest: int) -> Iterator[Line]:
        """The lines of this time or later, and those that do not say theirs."""
        self.invalid = Counter()
        taken = (self._times < 0) | (self._times >= oldest)
        numbered: Iterable[tuple[int, bytes]] = compress(enumerate(_lines(self._paths)), taken)
        if self._order is not None:
            numbered = _in_order(numbered, self._order[taken[self._order]])
        for number, line in numbered:
            head = _head(line)
            event = decode(line, _text(head.visitor_id).encode(errors="replace"), _NEVER_FUTURE_MS, 0)
            if isinstance(event, InvalidRecord):
                self.invalid[event.reason] += 1
            yield Line(number, head.event_id if isinstance(head.event_id, str) else None, event)

    def _oldest_of(self, newest: int | None, until_ms: int | None) -> int:
        """The time from which on about `newest` lines lie before `until_ms`."""
        older = self.left_out(newest, until_ms)
        return int(np.partition(self._before(until_ms), older)[older]) if older else 0

    def _before(self, until_ms: int | None) -> npt.NDArray[np.int64]:
        return self._times if until_ms is None else self._times[self._times < until_ms]


def logged(events: Iterable[ClickEvent], partitions: int) -> Iterator[LoggedEvent]:
    """Events as Kafka's default partitioner lays them out: partition by visitor, offsets rising by one in each."""
    offsets = [0] * partitions
    for event in events:
        partition = partition_of(event.visitor_id, partitions)
        yield LoggedEvent(event, partition, offsets[partition])
        offsets[partition] += 1


def partition_of(visitor_id: str, partitions: int) -> int:
    """The partition of a visitor's events."""
    return send.partition_of(visitor_id.encode(), partitions)


class _Head(msgspec.Struct):
    """What is wanted of a line before it is decoded for good. Anything may stand there."""

    event_id: Any = None
    visitor_id: Any = None
    event_time: Any = None


_head_decoder = msgspec.json.Decoder(_Head)


def _head(line: bytes) -> _Head:
    if len(line) > MAX_RECORD_BYTES:
        return _Head()
    try:
        return _head_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _Head()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _time(line: bytes) -> int:
    """Event time in ms, -1 where the line does not say."""
    time = _head(line).event_time
    return time if isinstance(time, int) and not isinstance(time, bool) and 0 <= time < 2**53 else -1


def _order(times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
    """Line numbers in order of time, None when they are in order as they stand."""
    # A line without a time stays behind the one before it.
    latest = np.maximum.accumulate(times)
    if (times[times >= 0] == latest[times >= 0]).all():
        return None
    at = np.maximum.accumulate(np.where(times >= 0, np.arange(len(times)), 0))
    return np.argsort(times[at], kind="stable")


def _in_order(numbered: Iterable[tuple[int, bytes]], order: npt.NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
    """The lines in this order of their numbers; only those wait in memory that stand ahead of one that comes before them."""
    waiting: dict[int, bytes] = {}
    read = iter(numbered)
    for number in map(int, order):
        while number not in waiting:
            at, line = next(read)
            waiting[at] = line
        yield number, waiting.pop(number)


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file (.gz by suffix) that are not blank, with their numbers from 1. Raises ConfigurationError."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _lines(paths: Sequence[Path]) -> Iterator[bytes]:
    return (line for path in paths for _, line in numbered_lines(path))


def _first_fault(paths: Sequence[Path]) -> str:
    fault = decode(next(_lines(paths)), b"", _NEVER_FUTURE_MS, 0)
    return f"the first: {fault.reason}, {fault.detail}" if isinstance(fault, InvalidRecord) else "the first has no event_time"
