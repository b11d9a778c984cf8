"""Record batches are what aiokafka's own builder writes, record by record."""

from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from worker.record_batch import RecordBatch, Records, record_batches

_LARGE = 10_000_000
_pairs = st.lists(st.tuples(st.binary(max_size=200), st.none() | st.binary(max_size=20_000)), max_size=200)


def theirs(records: list[tuple[bytes, bytes | None]], transactional: bool, time_ms: int, state: tuple[int, int, int]) -> bytes:
    builder = BatchBuilder(_LARGE, 0, is_transactional=transactional)
    for key, value in records:
        assert builder.append(timestamp=time_ms, key=key, value=value) is not None
    builder._set_producer_state(*state)
    return bytes(builder._build())


def read(batch: RecordBatch) -> list[tuple[bytes, bytes | None]]:
    found: list[tuple[bytes, bytes | None]] = []
    log: Any = MemoryRecords(bytes(batch._build()))
    while log.has_next():
        part = log.next_batch()
        assert part.validate_crc()
        found += [(record.key, record.value) for record in part]
    return found


@given(_pairs.filter(bool), st.booleans(), st.tuples(st.integers(0, 2**40), st.integers(0, 1000), st.integers(0, 2**30)))
def test_a_batch_is_the_one_that_aiokafka_makes(
    records: list[tuple[bytes, bytes | None]], transactional: bool, state: tuple[int, int, int]
) -> None:
    """Byte for byte: sizes of one and of more bytes, values that are empty and that are not there."""
    (batch,) = record_batches(Records.of(records), transactional, _LARGE)
    batch._set_producer_state(*state)
    assert bytes(batch._build()) == theirs(records, transactional, batch._time_ms, state)
    assert bytes(batch._build()) == bytes(batch._build())
    assert (batch.record_count(), batch.size()) == (len(records), len(batch._build()))


@given(_pairs, st.integers(0, 30_000))
def test_batches_keep_order_and_stay_below_the_limit(records: list[tuple[bytes, bytes | None]], most: int) -> None:
    """Only a record that is larger by itself has a batch that is."""
    batches = list(record_batches(Records.of(records), False, most))
    assert [record for batch in batches for record in read(batch)] == records
    assert all(batch.size() <= most for batch in batches if batch.record_count() > 1)


@given(st.lists(_pairs, max_size=5))
def test_columns_hold_the_records(parts: list[list[tuple[bytes, bytes | None]]]) -> None:
    """Joined, counted and taken apart again."""
    every = [record for part in parts for record in part]
    joined = Records.joined([Records.of(part) for part in parts])
    assert list(joined) == every
    assert len(joined) == len(every)
    assert joined.size == sum(len(key) + len(value or b"") for key, value in every)


def test_a_batch_is_complete_from_the_beginning() -> None:
    """aiokafka appends single records to the last batch that waits for the partition, if there is room in it."""
    (batch,) = record_batches(Records.of([(b"k", b"v")]), False, 0)
    assert batch.append(timestamp=None, key=b"other", value=b"", headers=[]) is None
    batch.close()
    assert batch.closed()
    assert read(batch) == [(b"k", b"v")]
