"""Recorded events back onto Kafka: files of one event a line, merged by time, at any speed."""

import asyncio
import gzip
import heapq
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
import orjson

from worker.contract.codec import MAX_EVENT_TIME_MS, MIN_EVENT_TIME_MS
from worker.errors import ConfigurationError
from worker.send import KeyedValue, SendReport, send_records
from worker.settings import Settings

#: Stands for the standard input among the files.
STDIN = Path("-")
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass
class ReplayNotes:
    """What was odd about the lines.

    unreadable    lines that are no event with a visitor: sent as they are, without a key, for the worker to refuse
    first         where the first of them is
    ahead         events whose time lies so far after the clock that the worker refuses them
    """

    unreadable: int = 0
    first: str | None = None
    ahead: int = 0


class Line(NamedTuple):
    """One line of a file. If its event time (ms) cannot be read or cannot be true, that of the line before stands here, and
    it is not `dated`.
    """

    event_time: int
    dated: bool
    key: bytes | None
    value: bytes


class _Head(msgspec.Struct):
    """What is needed of an event to send it."""

    event_time: int
    visitor_id: str


_heads = msgspec.json.Decoder(_Head)


async def replay(
    settings: Settings,
    files: Sequence[Path],
    topic: str,
    *,
    rate: float | None = None,
    speedup: float | None = None,
    shift_to_now: bool = False,
    limit: int | None = None,
    tell: Callable[[int], None] = lambda _: None,
) -> tuple[SendReport, ReplayNotes]:
    """Send the files' lines to the topic: at `rate` a second, or in event time `speedup` times as fast, or at once.

    `shift_to_now` moves all event times so that the first event is now. Raises ConfigurationError when a file cannot be read,
    DeliveryError when Kafka does not confirm.
    """
    notes = ReplayNotes()
    lines: Iterator[Line] = read_lines(files, notes)
    if shift_to_now:
        lines = shifted(lines, _now_ms())
    if limit is not None:
        lines = islice(lines, limit)
    lines = _noting_ahead(lines, notes, int(settings.session.max_future_s * 1000))
    records = _records(lines) if speedup is None else _in_time(lines, speedup)
    return await send_records(settings, records, topic, rate, tell), notes


def read_lines(files: Sequence[Path], notes: ReplayNotes) -> Iterator[Line]:
    """The lines of all files, merged by event time; blank ones are left out. Each file must be in order of time."""
    for path in files:
        if path != STDIN and not path.is_file():
            raise ConfigurationError(f"there is no file {path}")
    sources = [_lines(path, notes) for path in files]
    return heapq.merge(*sources, key=lambda line: line.event_time) if len(sources) > 1 else iter(sources[0])


def shifted(lines: Iterable[Line], first_ms: int) -> Iterator[Line]:
    """The lines with their event times moved so that the first is `first_ms`. Other fields stay, unknown ones too."""
    shift_ms: int | None = None
    for line in lines:
        if not line.dated:
            yield line
            continue
        if shift_ms is None:
            shift_ms = first_ms - line.event_time
        event_time = line.event_time + shift_ms
        try:
            event = orjson.loads(line.value)
        except orjson.JSONDecodeError:
            # Numbers past 64 bits, for one. The worker will say what it thinks of it.
            yield line
            continue
        yield Line(event_time, True, line.key, orjson.dumps(event | {"event_time": event_time}))


def _lines(path: Path, notes: ReplayNotes) -> Iterator[Line]:
    event_time = 0
    try:
        with _opened(path) as file:
            for number, raw in enumerate(file, start=1):
                value = raw.rstrip(b"\r\n")
                if not value.strip():
                    continue
                try:
                    head = _heads.decode(value)
                    key = head.visitor_id.encode()
                except (msgspec.DecodeError, UnicodeError, RecursionError):
                    notes.unreadable += 1
                    notes.first = notes.first or f"{path}:{number}"
                    yield Line(event_time, False, None, value)
                    continue
                # A time in microseconds, say, would hold up the replay for ever.
                dated = MIN_EVENT_TIME_MS <= head.event_time < MAX_EVENT_TIME_MS
                event_time = head.event_time if dated else event_time
                yield Line(event_time, dated, key, value)
    except (OSError, EOFError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error


def _opened(path: Path) -> IO[bytes] | gzip.GzipFile:
    if path == STDIN:
        return sys.stdin.buffer
    with path.open("rb") as file:
        packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    return gzip.open(path, "rb") if packed else path.open("rb")


def _noting_ahead(lines: Iterable[Line], notes: ReplayNotes, max_future_ms: int) -> Iterator[Line]:
    for line in lines:
        # The record's timestamp will be the time of sending.
        if line.event_time > _now_ms() + max_future_ms:
            notes.ahead += 1
        yield line


def _records(lines: Iterable[Line]) -> Iterator[KeyedValue]:
    for line in lines:
        yield line.key, line.value


async def _in_time(lines: Iterable[Line], speedup: float) -> AsyncIterator[KeyedValue]:
    """Each line when its time has come, counted from the first; what could not be sent in time is caught up."""
    started = time.monotonic()
    first_ms: int | None = None
    for line in lines:
        if first_ms is None:
            if not line.dated:
                yield line.key, line.value
                continue
            first_ms = line.event_time
        ahead_s = started + (line.event_time - first_ms) / 1000 / speedup - time.monotonic()
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
        yield line.key, line.value


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
