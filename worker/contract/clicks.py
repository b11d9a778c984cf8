"""ClickEvents of a batch as columns: what the fold and the scores need of each."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from worker.contract import scan
from worker.contract.codec import decode
from worker.contract.events import ClickEvent, InvalidRecord
from worker.contract.features import CODES, FeatureSpec, event_codes, hash64, price_or_nan
from worker.contract.packed import key_of

Longs = npt.NDArray[np.int64]

_encoder = msgspec.json.Encoder()
#: `scan` looks ahead by as much as a word is long.
BEHIND = 8 * scan.END
_BEYOND_ASCII = 0x80


class Clicks(NamedTuple):
    """B events in the order of the log. Spans say where in `text` the ids are as JSON has them, without their quotes."""

    keys: list[bytes]  # [B] visitor id in UTF-8
    time_ms: Longs  # [B]
    codes: npt.NDArray[np.int32]  # [B, len(CODES)] `features.event_codes`
    price: npt.NDArray[np.float32]  # [B] NaN where there is none
    event_hash: npt.NDArray[np.uint64]  # [B] `features.hash64("event", id)`
    text: npt.NDArray[np.uint8]
    event_id: Longs  # [B, 2] span
    visitor_id: Longs  # [B, 2] span
    event: Callable[[int], ClickEvent]  # one of them as a whole

    def at(self, rows: Longs) -> "Clicks":
        """Some of the events."""
        return self._at(rows, [self.keys[row] for row in rows.tolist()], lambda row: self.event(int(rows[row])))

    def part(self, start: int, end: int) -> "Clicks":
        """The events from one to before another, without copying them."""
        rows = slice(start, end)
        return self._at(rows, self.keys[rows], lambda row: self.event(start + row))

    def _at(self, rows: Longs | slice, keys: list[bytes], event: Callable[[int], ClickEvent]) -> "Clicks":
        return self._replace(
            keys=keys,
            time_ms=self.time_ms[rows],
            codes=self.codes[rows],
            price=self.price[rows],
            event_hash=self.event_hash[rows],
            event_id=self.event_id[rows],
            visitor_id=self.visitor_id[rows],
            event=event,
        )


class Read(NamedTuple):
    """What B records hold: events, which records `at` [C] they are from, and why the others are none."""

    clicks: Clicks
    at: Longs
    invalid: list[tuple[int, InvalidRecord]]


def clicks_of(events: Sequence[ClickEvent], spec: FeatureSpec) -> Clicks:
    """Events as columns."""
    columns = _Columns(len(events), spec, np.empty(0, np.uint8))
    for row, event in enumerate(events):
        columns.put(row, event)
    return columns.clicks([key_of(event.visitor_id) for event in events], events.__getitem__)


def read(values: scan.Texts, keys: scan.Texts, timestamps_ms: Longs, spec: FeatureSpec, max_future_ms: int) -> Read:
    """Records as events: what `codec.decode` makes of each by its value, key and Kafka timestamp."""
    columns = _Columns(len(timestamps_ms), spec, values.text)
    sizes = spec.code_sizes
    buckets = scan.Buckets(*(sizes[name] for name in scan.Buckets._fields))
    scan.scan(values, keys, timestamps_ms + max_future_ms, simple_bytes(values.text), buckets, columns.scanned)
    columns.put_clock()

    def decoded(row: int) -> ClickEvent | InvalidRecord:
        return decode(values.at(row), keys.at(row), int(timestamps_ms[row]), max_future_ms)

    invalid: list[tuple[int, InvalidRecord]] = []
    for row in np.flatnonzero(~columns.scanned.plain).tolist():
        event = decoded(row)
        if isinstance(event, InvalidRecord):
            invalid.append((row, event))
        else:
            columns.put(row, event)

    def event_of(row: int) -> ClickEvent:
        event = decoded(row)
        assert isinstance(event, ClickEvent)
        return event

    text = keys.text.tobytes()
    spans = zip(keys.starts.tolist(), keys.ends.tolist(), strict=True)
    clicks = columns.clicks([text[start:end] for start, end in spans], event_of)
    rows = np.arange(len(timestamps_ms))
    if not invalid:
        return Read(clicks, rows, invalid)
    at = np.delete(rows, [row for row, _ in invalid])
    return Read(clicks.at(at), at, invalid)


def in_quotes(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint8], Longs]:
    """Texts as JSON has them, one after the other, and where each is without its quotes: [B, 2]."""
    quoted = [_encoder.encode(text) for text in texts]
    ends = np.cumsum([len(text) for text in quoted], dtype=np.int64)
    starts = ends - np.array([len(text) for text in quoted], np.int64)
    return np.frombuffer(b"".join(quoted), np.uint8), np.stack([starts + 1, ends - 1], axis=1)


def texts_of(texts: Sequence[bytes | None]) -> scan.Texts:
    """Texts one after the other, as `scan` wants them."""
    joined = scan.END.join([text or b"" for text in texts]) + BEHIND
    sizes = np.array([-1 if text is None else len(text) for text in texts], np.int64)
    starts = np.cumsum(np.maximum(sizes, 0) + len(scan.END)) - np.maximum(sizes, 0) - len(scan.END)
    return scan.Texts(np.frombuffer(joined, np.uint8), starts, starts + sizes)


def simple_bytes(text: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which bytes `scan` may take as they are: `scan.UTF8`, or if not all of the text is in UTF-8, `scan.ASCII`."""
    if text.max(initial=0) < _BEYOND_ASCII:
        return scan.ASCII
    try:
        str(text.data, "utf-8")
    except UnicodeDecodeError:
        return scan.ASCII  # whose text it is that is none, the definition finds out
    return scan.UTF8


class _Columns:
    """Columns to be filled in, by `scan` from a text or event by event."""

    def __init__(self, size: int, spec: FeatureSpec, text: npt.NDArray[np.uint8]) -> None:
        self._spec = spec
        self._texts = [text]
        self._size = len(text)
        self.scanned = scan.Scanned(
            np.zeros(size, np.bool_),
            np.zeros(size, np.int64),
            np.zeros((size, len(CODES)), np.int32),
            np.full(size, np.nan),
            np.zeros(size, np.uint64),
            np.zeros((size, 2), np.int64),
            np.zeros((size, 2), np.int64),
        )

    def put(self, row: int, event: ClickEvent) -> None:
        """Fill in an event, by the definitions; its ids go behind the text."""
        columns = self.scanned
        columns.time_ms[row] = event.event_time
        columns.codes[row] = event_codes(event, self._spec)
        columns.price[row] = price_or_nan(event)
        columns.event_hash[row] = hash64("event", event.event_id)
        columns.event_id[row] = self._append(event.event_id)
        columns.visitor_id[row] = self._append(event.visitor_id)

    def put_clock(self) -> None:
        """Fill in all hours and weekdays."""
        hours = self.scanned.time_ms // 3_600_000
        self.scanned.codes[:, 4] = hours % 24 + 1
        self.scanned.codes[:, 5] = (hours // 24 + 3) % 7 + 1  # the epoch began on a Thursday

    def clicks(self, keys: list[bytes], event: Callable[[int], ClickEvent]) -> Clicks:
        """The columns as they are."""
        columns = self.scanned
        return Clicks(
            keys,
            columns.time_ms,
            columns.codes,
            columns.price.astype(np.float32),
            columns.event_hash,
            self._texts[0] if len(self._texts) == 1 else np.frombuffer(b"".join(text.data for text in self._texts), np.uint8),
            columns.event_id,
            columns.visitor_id,
            event,
        )

    def _append(self, name: str) -> tuple[int, int]:
        quoted = _encoder.encode(name)
        start = self._size
        self._texts.append(np.frombuffer(quoted, np.uint8))
        self._size += len(quoted)
        return start + 1, self._size - 1
