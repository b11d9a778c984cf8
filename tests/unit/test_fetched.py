"""Records in columns: the same as aiokafka makes one by one, of whatever a fetch may bring."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.fetched import Fetched, FetchedRecords

TP = TopicPartition("clicks", 3)
_CRC, _ATTRIBUTES, _MOST_BYTES = 17, 21, 1 << 20
_APPEND_TIME, _CONTROL = 0x08, 0x20
#: gzip, snappy, lz4, zstd
_CODECS = (1, 2, 3, 4)
_NOBODY, _PRODUCERS = -1, (7, 8)
_ABORT, _COMMIT = (struct.pack(">hh", 0, kind) for kind in (0, 1))

_BYTES = st.none() | st.binary(max_size=3) | st.binary(min_size=60, max_size=140)
_HEADERS = st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=3)), max_size=2)


@dataclass
class _Log:
    """A partition's bytes as a broker holds them."""

    raw: bytes = b""
    end: int = 10**10

    def add(
        self,
        records: list[tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]],
        codec: int = 0,
        attributes: int = 0,
        producer: int = _NOBODY,
        gone: int = 0,
    ) -> None:
        """A record batch: of each record how many before it are gone, its time after the first, key, value and headers."""
        builder = DefaultRecordBatchBuilder(2, codec, producer != _NOBODY, producer, 0, 0, _MOST_BYTES)
        offset = -1
        for before, after_ms, key, value, headers in records:
            offset += 1 + before
            assert builder.append(offset, 1_760_000_000_000 + after_ms, key, value, headers) is not None
        batch = bytearray(builder.build())
        last = offset + gone
        struct.pack_into(">q", batch, 0, self.end)
        struct.pack_into(">h", batch, _ATTRIBUTES, struct.unpack_from(">h", batch, _ATTRIBUTES)[0] | attributes)
        struct.pack_into(">i", batch, _ATTRIBUTES + 2, last)
        self.raw += checked(batch)
        self.end += last + 1

    def add_old(self, magic: int, values: list[bytes | None], codec: int) -> None:
        """Messages of a format before record batches."""
        builder = LegacyRecordBatchBuilder(magic, codec, _MOST_BYTES)
        for offset, value in enumerate(values):
            assert builder.append(self.end + offset, 1_760_000_000_000 + offset, None, value) is not None
        self.raw += bytes(builder.build())
        self.end += len(values)


def checked(batch: bytearray) -> bytes:
    """With the checksum that it should have."""
    struct.pack_into(">I", batch, _CRC, calc_crc32c(bytes(batch[_ATTRIBUTES:])))
    return bytes(batch)


@st.composite
def _logs(draw: st.DrawFn) -> tuple[_Log, list[tuple[int, int]]]:
    """A log, and its transactions that were taken back."""
    log, aborted, opened = _Log(), [], dict[int, int]()
    if draw(st.sampled_from([False] * 4 + [True])):  # aiokafka takes all of a fetch for of one format
        magic = draw(st.sampled_from([0, 1]))
        for _ in range(draw(st.integers(1, 3))):
            values = draw(st.lists(st.none() | st.binary(max_size=9), min_size=1, max_size=3))
            log.add_old(magic, values, draw(st.sampled_from([0, 1])))
        return log, []
    record = st.tuples(st.integers(0, 2) | st.just(300), st.integers(-5, 10**6), _BYTES, _BYTES, _HEADERS)
    for kind in draw(st.lists(st.sampled_from(["plain", "plain", "zip", "time", "begun", "begun", "ended"]), max_size=7)):
        some = draw(st.lists(record, min_size=1, max_size=4))
        producer = draw(st.sampled_from(_PRODUCERS))
        if kind == "begun":
            opened.setdefault(producer, log.end)
            log.add(some, draw(st.sampled_from([0, *_CODECS])), producer=producer)
        elif kind == "ended":
            abort = draw(st.booleans())
            if producer in opened and abort:
                aborted.append((producer, opened[producer]))
            if opened.pop(producer, None) is not None:
                log.add([(0, 0, _ABORT if abort else _COMMIT, b"\0" * 6, [])], attributes=_CONTROL, producer=producer)
        else:
            codec = draw(st.sampled_from(_CODECS)) if kind == "zip" else 0
            log.add(some, codec, _APPEND_TIME * (kind == "time"), gone=draw(st.sampled_from([0, 2])))
    return log, aborted


def theirs(raw: bytes, aborted: list[tuple[int, int]], start: int, isolation: int = READ_COMMITTED) -> PartitionRecords:
    return PartitionRecords(TP, MemoryRecords(raw), list(aborted), start, None, None, True, isolation)


@settings(max_examples=300)
@given(_logs(), st.integers(0, 400), st.integers(1, 5), st.sampled_from([READ_COMMITTED, READ_UNCOMMITTED]), st.integers(0, 9))
def test_reads_what_aiokafka_reads(
    logged: tuple[_Log, list[tuple[int, int]]], after: int, most: int, isolation: int, cut: int
) -> None:
    """Keys, values, headers, offsets and times, from the middle on, with what transactions took back left out and a last batch
    that came in part; as many at once as may be, and the position behind each of them. With the last of them it is behind all
    that the fetch brought: who reads to the end would wait for a marker that was there already.
    """
    log, aborted = logged
    raw = log.raw[: len(log.raw) - cut]
    start = 10**10 + after % _first_size(raw)  # a broker begins with the batch that was asked for
    one_by_one = theirs(raw, aborted, start, isolation)
    expected = list(one_by_one)
    columns = FetchedRecords(theirs(raw, aborted, start, isolation), raw, most)
    told: list[ConsumerRecord] = []
    for some in columns:
        assert len(some) == min(most, len(expected) - len(told))
        told += some
        at_end = len(told) == len(expected)
        assert columns.next_fetch_offset == (one_by_one.next_fetch_offset if at_end else told[-1].offset + 1)
    assert [_known(one) for one in told] == [_known(one) for one in expected]
    assert columns.next_fetch_offset == one_by_one.next_fetch_offset


def _first_size(raw: bytes) -> int:
    first = MemoryRecords(raw)
    return int(first.next_batch().next_offset) - 10**10 if first.has_next() else 1


def _known(record: ConsumerRecord) -> tuple[object, ...]:
    time_ms = -1 if record.timestamp is None else record.timestamp  # the oldest format has none
    return (
        record.topic, record.partition, record.offset, time_ms, record.key, record.value, record.serialized_key_size,
        record.serialized_value_size, record.headers,
    )  # fmt: skip


def some_records() -> list[ConsumerRecord]:
    values = [b"one", None, b"", b"four"]
    keys = [b"k", b"", None, b"key"]
    return [
        ConsumerRecord(*TP, 2**40 + 3 * n, 1_760_000_000_000 - n, 0, key, value, None, len(key or b"") if key is not None else -1,
                       len(value) if value is not None else -1, (("name", b"said"), ("none", None))[: n % 3])
        for n, (key, value) in enumerate(zip(keys, values, strict=True))
    ]  # fmt: skip


def test_records_come_out_as_they_went_in() -> None:
    """One by one, in slices, from an offset on or up to one; in pairs, and as texts."""
    records = some_records()
    fetched = Fetched.of(records)
    assert (list(fetched), fetched[-1], list(fetched[1:3]), len(fetched)) == (records, records[3], records[1:3], 4)
    assert [len(fetched.since(offset)) for offset in (0, 2**40, 2**40 + 1, 2**40 + 9, 2**40 + 10)] == [4, 4, 3, 1, 0]
    assert [len(fetched.before(offset)) for offset in (0, 2**40, 2**40 + 1, 2**40 + 9, 2**40 + 10)] == [0, 0, 1, 3, 4]
    assert list(fetched[1:].pairs()) == [(record.key, record.value) for record in records[1:]]
    assert [fetched.values().at(row) for row in range(4)] == [b"one", None, b"", b"four"]
    assert [fetched[1:].keys().at(row) for row in range(3)] == [b"", None, b"key"]
    with pytest.raises(IndexError):
        fetched[4]


def test_what_stands_before_damage_is_read() -> None:
    """And then it is said that there is damage, again each time that it is fetched."""
    log = _Log()
    log.add([(0, 0, b"k", b"one", [])])
    end, whole = log.end, len(log.raw)
    log.add([(0, 0, b"k", b"two", [])])
    broken = bytearray(log.raw)
    broken[-3] ^= 1
    columns = FetchedRecords(theirs(bytes(broken), [], 0), bytes(broken), 10)
    assert [one.value for some in _until_damage(columns) for one in some] == [b"one"]
    assert columns.next_fetch_offset == end
    assert not [*_until_damage(FetchedRecords(theirs(bytes(broken[whole:]), [], end), bytes(broken[whole:]), 10))]


def _until_damage(columns: FetchedRecords) -> Iterator[Fetched]:
    with pytest.raises(CorruptRecordException):
        yield from columns


@settings(max_examples=400)
@given(st.data())
def test_what_holds_no_records_is_refused(data: st.DataObject) -> None:
    """Bytes that are checked and still no records: whatever is made of them, it is none but what is there."""
    log = _Log()
    log.add([(0, n, b"key", b"value", [("name", b"said"), ("none", None)][:n]) for n in range(3)])
    batch = bytearray(log.raw)
    for _ in range(data.draw(st.integers(1, 3))):
        changed = data.draw(st.binary(min_size=1, max_size=1) | st.sampled_from([b"\xff" * 9, b"\xfe" + b"\xff" * 8 + b"\x01"]))
        at = data.draw(st.integers(57, len(batch) - len(changed)))
        batch[at : at + len(changed)] = changed
    raw = checked(batch)
    try:
        told = [one for some in FetchedRecords(theirs(raw, [], 0), raw, 10) for one in some]
    except CorruptRecordException:
        return
    assert sum(len(one.key or b"") + len(one.value or b"") for one in told) < len(raw)
    try:
        expected = list(theirs(raw, [], 0))
    except (CorruptRecordException, UnicodeDecodeError):
        return  # it takes a record's attributes, which are a byte, for a number of several; or a header's name is no text
    assert [_known(one) for one in told] == [_known(one) for one in expected]
