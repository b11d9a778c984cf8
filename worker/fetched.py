"""Record batches as a fetch brings them, read into columns by compiled code: what aiokafka makes of them one by one.

Which record batches there are, whether they are whole, and which of them count, aiokafka says.
Format: version 2 of https://kafka.apache.org/documentation/#recordbatch.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import decode_varint

from worker.contract.clicks import BEHIND
from worker.contract.compiled import compiled
from worker.contract.move import copy
from worker.contract.scan import END, Texts

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

#: Where a record batch of any format says how long it is behind that, and what its format is; and where one of the newest says
#: how many records it holds, and has them.
_SIZE, _FORMAT, _COUNT, _RECORDS = slice(8, 12), 16, slice(57, 61), 61
_NEWEST_FORMAT = 2
#: How records are unpacked that are compressed as a batch says.
_UNPACK: dict[int, Callable[[memoryview], memoryview | bytes]] = {
    0: lambda records: records,
    1: gzip_decode,
    2: lambda records: snappy_decode(records.tobytes()),
    3: lambda records: lz4_decode(records.tobytes()),
    4: lambda records: zstd_decode(records.tobytes()),
}
#: Room for a record batch that is written anew, whatever is in it.
_MOST_BYTES = 1 << 30
#: The numbers before a key are no longer than this: where a record is broken they are read behind the end.
_PADDING = bytes(64)
#: Rows of `Fetched.spans`.
_KEY, _VALUE, _HEADERS = 0, 2, 4
_NOT_THERE = -1


class Fetched(Sequence[ConsumerRecord]):
    """N records of a partition, in the order of the log."""

    def __init__(self, partition: TopicPartition, data: bytes, offsets: Longs, timestamps_ms: Longs, spans: Longs) -> None:
        """`spans` [5, N] say where in the data each key begins and ends, each value, and where headers begin. A key or value that
        is missing ends before it begins.
        """
        self.partition = partition
        self.offsets = offsets
        self.timestamps_ms = timestamps_ms
        self._data = data
        self._spans = spans

    @classmethod
    def of(cls, records: Sequence[ConsumerRecord]) -> "Fetched":
        """One or more records of a partition."""
        batches = _Batches()
        batches.add_written(records)
        return batches.read(TopicPartition(records[0].topic, records[0].partition))

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, at: int) -> ConsumerRecord: ...
    @overload
    def __getitem__(self, at: slice) -> "Fetched": ...
    def __getitem__(self, at: int | slice) -> "ConsumerRecord | Fetched":
        if isinstance(at, slice):
            return Fetched(self.partition, self._data, self.offsets[at], self.timestamps_ms[at], self._spans[:, at])
        row = range(len(self))[at]
        return next(iter(self[row : row + 1]))

    def __iter__(self) -> Iterator[ConsumerRecord]:
        data = self._data
        columns = (self.offsets, self.timestamps_ms, *self._spans)
        for offset, time_ms, key, key_end, value, value_end, headers in zip(*(c.tolist() for c in columns), strict=True):
            yield ConsumerRecord(
                *self.partition, offset, time_ms, 0,
                None if key_end < key else data[key:key_end], None if value_end < value else data[value:value_end],
                None, key_end - key, value_end - value, tuple(_headers(data, headers)),
            )  # fmt: skip

    def pairs(self) -> Iterator[tuple[bytes | None, bytes | None]]:
        """Key and value of each."""
        data = self._data
        for key, key_end, value, value_end in zip(*(span.tolist() for span in self._spans[:_HEADERS]), strict=True):
            yield None if key_end < key else data[key:key_end], None if value_end < value else data[value:value_end]

    def since(self, offset: int) -> "Fetched":
        """The records from an offset on."""
        return self[int(np.searchsorted(self.offsets, offset)) :]

    def before(self, offset: int) -> "Fetched":
        """The records up to before an offset."""
        return self[: int(np.searchsorted(self.offsets, offset))]

    def keys(self) -> Texts:
        """All keys, as `scan` wants them."""
        return self._texts(_KEY)

    def values(self) -> Texts:
        """All values, as `scan` wants them."""
        return self._texts(_VALUE)

    def _texts(self, span: int) -> Texts:
        starts, sizes = self._spans[span], self._spans[span + 1] - self._spans[span]
        room = np.maximum(sizes, 0) + len(END)
        places = np.cumsum(room) - room
        text = np.zeros(int(room.sum()) + len(BEHIND), np.uint8)
        _set_apart(np.frombuffer(self._data, np.uint8), starts, sizes, places, text)
        text.flags.writeable = False  # as all texts are that `scan` is compiled for
        return Texts(text, places, places + sizes)


class FetchedRecords(PartitionRecords):  # type: ignore[misc]  # it has no types
    """What one fetch brought of a partition, as `Fetched` of up to `most` records each, in the place of aiokafka's records."""

    next_fetch_offset: int

    def __init__(self, theirs: PartitionRecords, raw: bytes, most: int) -> None:
        """`theirs` has not been asked for records yet; `raw` is what they are in."""
        super().__init__(
            theirs._tp, theirs._records, theirs._aborted_transactions, theirs.next_fetch_offset, None, None,
            theirs._check_crcs, theirs._isolation_level,
        )  # fmt: skip
        self._raw = memoryview(raw)
        self._most = most

    def _unpack_records(self) -> Iterator[Fetched]:
        batches, end, damaged = _Batches(), self.next_fetch_offset, False
        start = 0
        while self._records.has_next() and not damaged:
            batch = self._records.next_batch()
            raw = self._raw[start:][: _SIZE.stop + int.from_bytes(self._raw[start:][_SIZE], "big")]
            start += len(raw)
            if self._check_crcs and not batch.validate_crc():
                damaged = True
                continue
            if self._counts(batch):
                if raw[_FORMAT] == _NEWEST_FORMAT:
                    batches.add(batch, raw)
                else:
                    batches.add_written(list(batch))
            end = batch.next_offset
        # The first may have been asked for from its middle on.
        records = batches.read(self._tp).since(self.next_fetch_offset)
        for first in range(0, len(records), self._most):
            some = records[first : first + self._most]
            is_last = first + self._most >= len(records)
            # With the last, behind markers and what was taken out or back: who reads to the end need not fetch once more.
            self.next_fetch_offset = end if is_last else int(some.offsets[-1]) + 1
            yield some
        self.next_fetch_offset = end
        if damaged:
            raise CorruptRecordException(f"Invalid CRC - {self._tp}")

    def _counts(self, batch: Any) -> bool:
        """Whether a record batch holds records: no marker of a transaction, nor what a transaction took back."""
        if self._isolation_level == READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return False
        return not batch.is_control_batch


def fetch_columns(consumer: AIOKafkaConsumer, most: int) -> None:
    """From now on a started consumer's fetcher has `Fetched` of up to `most` records where it would have one record.

    aiokafka has no setting for it. It asks each node for one fetch at a time.
    """
    client, fetcher = consumer._client, consumer._fetcher
    send, process = client.send, fetcher._proc_fetch_request
    answers: dict[Any, Any] = {}  # by node

    async def send_noting(node: Any, request: Any, **options: Any) -> Any:
        answer = await send(node, request, **options)
        if isinstance(request, FetchRequest):
            answers[node] = answer
        return answer

    async def process_as_columns(assignment: Any, node: Any, request: Any) -> bool:
        brought_any: bool = await process(assignment, node, request)
        if (answer := answers.pop(node, None)) is not None:
            for topic, partitions in answer.topics:
                for partition, *_, raw in partitions:
                    found = fetcher._records.get(TopicPartition(topic, partition))
                    if type(found) is FetchResult and type(found._partition_records) is PartitionRecords:
                        found._partition_records = FetchedRecords(found._partition_records, raw, most)
        return brought_any

    client.send, fetcher._proc_fetch_request = send_noting, process_as_columns


class _Batches:
    """Record batches that are to be read together."""

    def __init__(self) -> None:
        self._bodies: list[memoryview | bytes] = []
        self._heads: list[tuple[int, int, int, int]] = []

    def add(self, batch: Any, raw: memoryview) -> None:
        """Add one of the newest format. Raises KeyError when it is compressed in a way that Kafka does not know."""
        appended_ms = batch.max_timestamp if batch.timestamp_type else _NOT_THERE
        self._bodies.append(_UNPACK[batch.compression_type](raw[_RECORDS:]))
        self._heads.append((int.from_bytes(raw[_COUNT], "big"), batch.base_offset, batch.first_timestamp, appended_ms))

    def add_written(self, records: Sequence[Any]) -> None:
        """Add one with these records, which are written anew; there may be none."""
        if not records:
            return
        builder = DefaultRecordBatchBuilder(_NEWEST_FORMAT, 0, False, -1, -1, -1, _MOST_BYTES)
        # The oldest format knows no time.
        times_ms = [_NOT_THERE if one.timestamp is None else one.timestamp for one in records]
        first = records[0].offset
        for one, time_ms in zip(records, times_ms, strict=True):
            builder.append(one.offset - first, time_ms, one.key, one.value, list(one.headers))
        self._bodies.append(bytes(builder.build())[_RECORDS:])
        self._heads.append((len(records), first, times_ms[0], _NOT_THERE))

    def read(self, partition: TopicPartition) -> Fetched:
        """All of their records. Raises CorruptRecordException where they are none."""
        heads = np.array(self._heads, np.int64).reshape(-1, 4)
        ends = np.cumsum([len(body) for body in self._bodies], dtype=np.int64)
        data = b"".join([*self._bodies, _PADDING])
        count = int(np.minimum(heads[:, 0], len(data)).sum())  # no record is without a byte
        if (heads[:, 0] < 0).any() or count > len(data):
            raise CorruptRecordException(f"Found invalid number of records - {partition}")
        offsets, timestamps_ms, spans = np.empty(count, np.int64), np.empty(count, np.int64), np.empty((5, count), np.int64)
        if not _read(np.frombuffer(data, np.uint8), ends, heads, offsets, timestamps_ms, spans):
            raise CorruptRecordException(f"Found invalid record structure - {partition}")
        return Fetched(partition, data, offsets, timestamps_ms, spans)


def _headers(data: bytes, at: int) -> Iterator[tuple[str, bytes | None]]:
    """Names and values of a record's headers."""
    count, at = decode_varint(data, at)
    for _ in range(count):
        size, at = decode_varint(data, at)
        name, at = data[at : at + size].decode(errors="replace"), at + size
        size, at = decode_varint(data, at)
        yield name, None if size < 0 else data[at : at + size]
        at += max(size, 0)


def warm_up() -> None:
    """Compile, or load from disk where that was done before."""
    Fetched.of([ConsumerRecord("", 0, 0, 0, 0, b"", b"", None, 0, 0, ())]).values()


@compiled()
def _read(data: Bytes, ends: Longs, heads: Longs, offsets: Longs, timestamps_ms: Longs, spans: Longs) -> bool:
    """Read record batches that lie one behind the other. `heads` [M, 4] have of each how many records it holds, its first
    offset and time, and the time of its append where that counts for all. False if what is there are no records.
    """
    at = row = 0
    for batch in range(len(ends)):
        count, first, first_ms, appended_ms = heads[batch]
        last = -1
        for _ in range(count):
            size, at = _number(data, at)
            if not 0 < size <= ends[batch] - at:
                return False
            end = at + size
            after_ms, at = _number(data, at + 1)  # behind the attributes, which are none
            after, at = _number(data, at)
            if after <= last:
                return False
            last = after
            offsets[row] = first + after
            timestamps_ms[row] = first_ms + after_ms if appended_ms == _NOT_THERE else appended_ms
            for span in (_KEY, _VALUE):
                size, at = _number(data, at)
                if max(size, 0) >= end - at:
                    return False
                spans[span, row], spans[span + 1, row] = at, at + max(size, _NOT_THERE)
                at += max(size, 0)
            spans[_HEADERS, row] = at
            headers, at = _number(data, at)
            if not 0 <= headers <= end - at:
                return False
            for part in range(2 * headers):  # names, which are always there, and values
                size, at = _number(data, at)
                if max(size, 0) > end - at or (part % 2 == 0 and size < 0):
                    return False
                at += max(size, 0)
            if at != end:
                return False
            row += 1
        if at != ends[batch]:
            return False
    return True


@compiled()
def _number(data: Bytes, at: int) -> tuple[int, int]:
    """A number, seven bits a byte, its sign in the lowest; and where it ends."""
    number, shift = np.uint64(0), np.uint64(0)
    while shift < np.uint64(64):
        byte = np.uint64(data[at])
        at += 1
        number |= (byte & np.uint64(0x7F)) << shift
        if byte < np.uint64(0x80):
            break
        shift += np.uint64(7)
    signed: int = np.int64(number >> np.uint64(1)) ^ -np.int64(number & np.uint64(1))  # type: ignore[assignment]
    return signed, at


@compiled()
def _set_apart(text: Bytes, starts: Longs, sizes: Longs, places: Longs, texts: Bytes) -> None:
    """Copy parts of a text to places of their own."""
    for i in range(len(starts)):
        copy(text, starts[i], starts[i] + max(sizes[i], 0), texts, places[i])
