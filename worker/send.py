"""Sending many records to a topic: packed by partition, in order, every one confirmed."""

import asyncio
import functools
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from worker.errors import ConfigurationError, DeliveryError
from worker.kafka import connection
from worker.settings import Settings

KeyedValue = tuple[bytes | None, bytes]
#: Key, value, headers.
Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]

#: Records of one partition are packed up to this size; Kafka takes about 1 MB at once.
_PACK_BYTES = 500_000
_LARGEST_BYTES = 1_000_000
#: A pack that is not full goes out after this time.
_LINGER_S = 0.02
#: Packs under way: bounds memory, and keeps the connection busy.
_IN_FLIGHT = 32
#: Waits shorter than this are not worth a turn of the event loop.
_SHORT_S = 0.001
_TELL_EVERY = 1000


class SendReport(NamedTuple):
    """What was sent and confirmed. `keyless` of the records had no key."""

    records: int
    keyless: int
    bytes: int
    seconds: float


async def send_records(
    settings: Settings,
    records: AsyncIterable[KeyedValue] | Iterable[KeyedValue],
    topic: str,
    rate: float | None = None,
    tell: Callable[[int], None] = lambda _: None,
) -> SendReport:
    """Send every (key, value) to the topic, in order within a partition, by Kafka's default partitioner.

    `rate` is in records a second and open loop: what could not go in time is caught up. None sends as fast as it can.
    `tell` gets the number of records taken so far. Returns when every record is confirmed, once and in order
    (idempotent producer). Raises DeliveryError when Kafka is away or refuses, ConfigurationError when a record is too large.
    """
    started = time.monotonic()
    producer = AIOKafkaProducer(
        **connection(settings.kafka), enable_idempotence=True, acks="all", linger_ms=0, max_batch_size=_PACK_BYTES
    )
    taken = keyless = size = 0
    try:
        await producer.start()
        packer = _Packer(producer, topic, len(await producer.partitions_for(topic)))
        async with _flushing(packer):
            async for key, value in _paced(records, rate):
                taken += 1
                keyless += key is None
                size += len(value)
                await packer.add(key, value)
                if taken % _TELL_EVERY == 0:
                    tell(taken)
            await packer.finish()
    except KafkaError as error:
        raise DeliveryError(
            f"sending to {topic} at {settings.kafka.bootstrap_servers} failed after {taken} records, the last of which may be "
            f"missing: {error!r}"
        ) from error
    finally:
        await producer.stop()
    tell(taken)
    return SendReport(taken, keyless, size, time.monotonic() - started)


async def send_packed(producer: AIOKafkaProducer, topic: str, partition: int, records: Iterable[Record]) -> None:
    """Send records to one partition in few packs, in order, and wait until all are confirmed. Raises KafkaError.

    Nobody else may send to the partition by the producer meanwhile.
    """
    await asyncio.gather(*[await producer.send_batch(pack, topic, partition=partition) for pack in packed(producer, records)])


def packed(producer: AIOKafkaProducer, records: Iterable[Record]) -> Iterator[Any]:
    """Records in order, in few of the producer's batches, below what Kafka takes at once."""
    pack = producer.create_batch()
    for key, value, headers in records:
        full = pack.record_count() and pack.size() + len(key or b"") + len(value or b"") > _PACK_BYTES
        # The first record of a pack is taken whatever its size.
        while full or pack.append(key=key, value=value, timestamp=None, headers=headers) is None:
            yield pack
            pack = producer.create_batch()
            full = False
    if pack.record_count():
        yield pack


@functools.lru_cache(maxsize=200_000)
def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's default partitioner puts a key."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


async def by_partition(producer: AIOKafkaProducer, topic: str, records: Sequence[Record]) -> dict[int, list[Record]]:
    """Records with keys by the partition of the topic that they belong to. Raises KafkaError if nobody says how many it has."""
    found: dict[int, list[Record]] = {}
    if records:
        partitions = len(await producer.partitions_for(topic))
        for record in records:
            found.setdefault(partition_of(record[0] or b"", partitions), []).append(record)
    return found


class _Packer:
    """Fills one pack a partition and hands it to the producer."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partitions: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._keyless = 0
        self._packs: dict[int, Any] = {}
        self._in_flight: deque[asyncio.Future[Any]] = deque()
        # Handing over waits, and two packs of one partition must not overtake each other meanwhile.
        self._handing_over = asyncio.Lock()
        self._failure: KafkaError | None = None

    async def add(self, key: bytes | None, value: bytes) -> None:
        """Put a record into its pack, and hand that over when it is full."""
        if self._failure is not None:
            raise self._failure
        if len(key or b"") + len(value) > _LARGEST_BYTES:
            raise ConfigurationError(f"a record of {len(value)} bytes is larger than Kafka takes: leave it out")
        partition = self._next_keyless() if key is None else partition_of(key, self._partitions)
        while self._pack(partition).append(key=key, value=value, timestamp=None) is None:
            await self.flush(partition)

    async def flush(self, *partitions: int) -> None:
        """Hand over the packs of these partitions, or all."""
        async with self._handing_over:
            for partition in partitions or list(self._packs):
                pack = self._packs.pop(partition, None)
                if pack is not None:
                    self._in_flight.append(await self._producer.send_batch(pack, self._topic, partition=partition))
            while self._in_flight and (self._in_flight[0].done() or len(self._in_flight) > _IN_FLIGHT):
                await self._in_flight.popleft()

    async def finish(self) -> None:
        """Wait until all is confirmed."""
        if self._failure is not None:
            raise self._failure
        await self.flush()
        await asyncio.gather(*self._in_flight)

    async def keep_flushing(self) -> None:
        """Hand over all packs again and again. A failure is raised by the next `add` or `finish`."""
        try:
            while True:
                await asyncio.sleep(_LINGER_S)
                await self.flush()
        except KafkaError as error:
            self._failure = error

    def _pack(self, partition: int) -> Any:
        pack = self._packs.get(partition)
        if pack is None:
            pack = self._packs[partition] = self._producer.create_batch()
        return pack

    def _next_keyless(self) -> int:
        self._keyless += 1
        return self._keyless % self._partitions


@asynccontextmanager
async def _flushing(packer: _Packer) -> AsyncIterator[None]:
    """While inside, packs that are not full go out after a short while."""
    task = asyncio.create_task(packer.keep_flushing())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _paced(records: AsyncIterable[KeyedValue] | Iterable[KeyedValue], rate: float | None) -> AsyncIterator[KeyedValue]:
    started = time.monotonic()
    count = 0
    async for record in _each(records):
        if rate is not None:
            ahead_s = started + count / rate - time.monotonic()
            if ahead_s > _SHORT_S:
                await asyncio.sleep(ahead_s)
            count += 1
        yield record


async def _each(records: AsyncIterable[KeyedValue] | Iterable[KeyedValue]) -> AsyncIterator[KeyedValue]:
    if isinstance(records, AsyncIterable):
        async for record in records:
            yield record
    else:
        for record in records:
            yield record
