"""What only a Kafka client can do wrong: batches that are bombs, headers without end, batches that are damaged."""

import random
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from tests.corpus.record import Record
from worker.contract.events import Reason

Headers = Sequence[tuple[str, bytes | None]]

_GZIP = 1
_CRC_AT = 17
_ATTRIBUTES_AT = 21
_CODEC_AFTER_ZSTD = 5


class WireRecord(NamedTuple):
    """A record with headers; `reason` is None if it is sound."""

    kind: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: Reason | None


def wire_records(now_ms: int, dice: random.Random) -> Iterator[WireRecord]:
    """Records that differ by their headers, or by having none of what is theirs."""
    record = Record(now_ms, dice)
    key = record.visitor.encode()
    many = [(f"header-{n}", dice.randbytes(dice.randrange(20))) for n in range(1_000)]
    for reason, value in ((None, record.with_()), (Reason.NOT_JSON, b"{"), (Reason.TOMBSTONE, None)):
        yield WireRecord("a thousand headers", key, value, many, reason)
        yield WireRecord("one header again and again", key, value, [("a", None)] * 1_000, reason)
        yield WireRecord("large header", key, value, [("a", b"x" * 200_000)], reason)
        yield WireRecord(
            "headers that look like ours", key, value, [("inkling-origin", b"clicks:0:0"), ("inkling-reason", b"")], reason
        )
        yield WireRecord("odd header names", key, value, [("", b""), ("é\n\0", b"\xff"), ("x" * 5_000, None)], reason)
    yield WireRecord("tombstone without key", None, None, [], Reason.TOMBSTONE)


def bomb(record: Record, records: int, unpacked_bytes: int) -> bytes:
    """A batch that is a thousand times as large when it is unpacked: blanks, too many in each, compressed by gzip."""
    return _batch(record, [b" " * (unpacked_bytes // records)] * records, compression=_GZIP)


def sound_batch(record: Record, records: int) -> bytes:
    """A batch of sound events."""
    return _batch(record, [record.with_() for _ in range(records)])


def damaged(batch: bytes, dice: random.Random) -> Iterator[tuple[str, bytes]]:
    """Versions of a sound batch that a broker must refuse: what they hold is not what they say, or nobody can read it."""
    at = dice.randrange(_ATTRIBUTES_AT + 2, len(batch))
    yield "flipped byte", batch[:at] + bytes([batch[at] ^ 0x55]) + batch[at + 1 :]
    yield "wrong checksum", batch[:_CRC_AT] + struct.pack(">I", dice.randrange(2**32)) + batch[_CRC_AT + 4 :]
    yield "cut short", batch[: dice.randrange(_ATTRIBUTES_AT, len(batch))]


def with_unknown_codec(batch: bytes) -> bytes:
    """The batch, said to be compressed by a codec that there is not, with a checksum that is right."""
    changed = batch[:_ATTRIBUTES_AT] + struct.pack(">h", _CODEC_AFTER_ZSTD) + batch[_ATTRIBUTES_AT + 2 :]
    return changed[:_CRC_AT] + struct.pack(">I", calc_crc32c(changed[_ATTRIBUTES_AT:])) + changed[_CRC_AT + 4 :]


def _batch(record: Record, values: Sequence[bytes], compression: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=compression, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=sum(map(len, values)) + 1_000 * len(values),
    )  # fmt: skip
    for offset, value in enumerate(values):
        builder.append(offset, record.now_ms, record.visitor.encode(), value, [])
    return bytes(builder.build())
