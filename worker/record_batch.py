"""Many records of one partition as a Kafka record batch, written by compiled code: what aiokafka's builder makes of them one by
one. Format: version 2 of https://kafka.apache.org/documentation/#recordbatch.
"""

import itertools
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from worker.contract.compiled import compiled
from worker.contract.move import copy

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

#: Base offset, length, leader epoch, format, checksum; then what it is of: attributes, last offset, first and last timestamp,
#: the producer's id, epoch and sequence, number of records; and the records.
_HEAD = struct.Struct(">qiibI")
_CHECKED = struct.Struct(">hiqqqhii")
_HEAD_BYTES = _HEAD.size + _CHECKED.size
_LENGTH_COUNTS_FROM = 12
_FORMAT = 2
_TRANSACTIONAL = 0x10
_NOBODY = (-1, -1, -1)
#: A record has no more bytes than these beside its key and value: six numbers of one to five bytes, and two that are one.
_FRAME_BYTES = 22
_NO_VALUE = -1
_NO_SIZES = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """N records without headers, as columns. `values` has them one behind the other, `sizes` [N] how long each is, -1 where there
    is none.
    """

    keys: list[bytes]
    values: bytes
    sizes: Longs

    @classmethod
    def of(cls, records: Sequence[tuple[bytes, bytes | None]]) -> "Records":
        """Keys and values as columns."""
        sizes = [_NO_VALUE if value is None else len(value) for _, value in records]
        return cls([key for key, _ in records], b"".join(value or b"" for _, value in records), np.array(sizes, np.int64))

    @classmethod
    def joined(cls, parts: "Sequence[Records]") -> "Records":
        """One behind the other."""
        if len(parts) == 1:
            return parts[0]
        sizes = np.concatenate([_NO_SIZES, *(part.sizes for part in parts)])
        keys = itertools.chain.from_iterable(part.keys for part in parts)
        return cls(list(keys), b"".join(part.values for part in parts), sizes)

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[tuple[bytes, bytes | None]]:
        ends = np.maximum(self.sizes, 0).cumsum().tolist()
        for key, size, end in zip(self.keys, self.sizes.tolist(), ends, strict=True):
            yield key, None if size < 0 else self.values[end - size : end]

    @property
    def size(self) -> int:
        """Bytes of keys and values."""
        return len(self.values) + sum(map(len, self.keys))


class RecordBatch:
    """A batch to give to `AIOKafkaProducer.send_batch`, in the place of the `BatchBuilder` that it calls these methods of."""

    def __init__(self, body: bytearray, count: int, transactional: bool) -> None:
        """`body` has `_HEAD_BYTES` of room before the records."""
        self._bytes = body
        self._count = count
        self._attributes = _TRANSACTIONAL if transactional else 0
        self._producer = _NOBODY
        self._time_ms = time.time_ns() // 1_000_000

    def append(self, **_: Any) -> None:
        """It is complete from the beginning: there is no room for another record."""

    def close(self) -> None:
        """It is so already."""

    def closed(self) -> bool:
        return True

    def record_count(self) -> int:
        return self._count

    def size(self) -> int:
        """Bytes on the wire."""
        return len(self._bytes)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        batch, time_ms = self._bytes, self._time_ms
        _CHECKED.pack_into(
            batch, _HEAD.size, self._attributes, self._count - 1, time_ms, time_ms, *self._producer, self._count
        )  # fmt: skip
        checksum = google_crc32c.value(bytes(memoryview(batch)[_HEAD.size :]))
        _HEAD.pack_into(batch, 0, 0, len(batch) - _LENGTH_COUNTS_FROM, -1, _FORMAT, checksum)
        return batch


def record_batches(records: Records, transactional: bool, most_bytes: int) -> Iterator[RecordBatch]:
    """The records in order, in batches of at most so many bytes; a single record may have more."""
    if not len(records):
        return
    keys, key_sizes = b"".join(records.keys), np.fromiter(map(len, records.keys), np.int64, len(records))
    value_sizes = np.maximum(records.sizes, 0)
    key_ends, value_ends = key_sizes.cumsum(), value_sizes.cumsum()
    most = np.cumsum(key_sizes + value_sizes + _FRAME_BYTES)
    start = taken = 0
    while start < len(records):
        end = max(start + 1, int(np.searchsorted(most, taken + most_bytes - _HEAD_BYTES, "right")))
        rows = slice(start, end)
        batch = bytearray(_HEAD_BYTES + _size(key_sizes[rows], records.sizes[rows]))
        _write(
            np.frombuffer(keys, np.uint8), key_ends[rows], key_sizes[rows], np.frombuffer(records.values, np.uint8),
            value_ends[rows], records.sizes[rows], _HEAD_BYTES, np.frombuffer(batch, np.uint8),
        )  # fmt: skip
        yield RecordBatch(batch, end - start, transactional)
        start, taken = end, int(most[end - 1])


def warm_up() -> None:
    """Compile, or load from disk where that was done before."""
    list(record_batches(Records.of([(b"key", b"value")]), False, 0))


@compiled()
def _size(key_sizes: Longs, sizes: Longs) -> int:
    """Bytes that the records take."""
    total = 0
    for i in range(len(sizes)):
        length = _length(i, key_sizes[i], sizes[i])
        total += _number_bytes(length) + length
    return total


@compiled()
def _length(row: int, key_size: int, size: int) -> int:
    """What a record says of its length: attributes, time and number of headers are a byte each."""
    return 3 + _number_bytes(row) + _number_bytes(key_size) + key_size + _number_bytes(size) + max(size, 0)


@compiled()
def _write(
    keys: Bytes, key_ends: Longs, key_sizes: Longs, values: Bytes, value_ends: Longs, sizes: Longs, at: int, batch: Bytes
) -> None:  # fmt: skip
    """Write the records from `at` on."""
    for i in range(len(sizes)):
        key, value = key_sizes[i], max(sizes[i], 0)
        at = _number(batch, at, _length(i, key, sizes[i]))
        batch[at] = batch[at + 1] = 0
        at = _number(batch, at + 2, i)
        at = _number(batch, at, key)
        at = copy(keys, key_ends[i] - key, key_ends[i], batch, at)
        at = _number(batch, at, sizes[i])
        at = copy(values, value_ends[i] - value, value_ends[i], batch, at)
        batch[at] = 0
        at += 1


@compiled()
def _number_bytes(number: int) -> int:
    """How long a number is on the wire."""
    number, size = (number << 1) ^ (number >> 63), 1
    while number > 0x7F:
        number >>= 7
        size += 1
    return size


@compiled()
def _number(batch: Bytes, at: int, number: int) -> int:
    """Write a number, seven bits a byte, its sign in the lowest; returns where it ends."""
    number = (number << 1) ^ (number >> 63)
    while number > 0x7F:
        batch[at] = number & 0x7F | 0x80
        number >>= 7
        at += 1
    batch[at] = number
    return at + 1
