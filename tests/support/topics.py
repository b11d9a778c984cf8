"""Sending clicks, and reading topics back, for integration tests."""

import asyncio
import time
from collections.abc import Iterable, Mapping

import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import PolicyViolationError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from training.simulate import load_shop, simulate
from worker.contract.codec import encode
from worker.contract.events import ScoreEvent
from worker.settings import Settings
from worker.topic import committed_offsets, records_to_end, whole_topic

Sent = tuple[bytes | None, bytes | None]

_scores = msgspec.json.Decoder(ScoreEvent)


def shop_records(sessions: int, seed: int = 3) -> list[Sent]:
    """Key and value of simulated clicks, in order of time."""
    stream = simulate(load_shop(), sessions, seed, start_ms=1_760_000_000_000, sessions_per_hour=600)
    return [(event.visitor_id.encode(), encode(event)) for event in stream.events()]


async def send(settings: Settings, records: Iterable[Sent], compression: str | None = None) -> int:
    """Send to the clicks topic, confirmed. Records without a key go to partition 0."""
    servers = settings.kafka.bootstrap_servers
    producer = AIOKafkaProducer(bootstrap_servers=servers, max_request_size=2_000_000, linger_ms=5, compression_type=compression)
    try:
        await producer.start()  # which may be cancelled, too
        confirmations = [
            await producer.send(settings.topics.clicks, value, key=key, partition=0 if key is None else None)
            for key, value in records
        ]
        await asyncio.gather(*confirmations)
    finally:
        await producer.stop()
    return len(confirmations)


async def delete_records(admin: AIOKafkaAdminClient, below: Mapping[TopicPartition, int]) -> None:
    """Delete the records below these offsets, of a topic that has just been told to allow it: its broker learns so later.

    Raises PolicyViolationError when it does not learn it in time.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(PolicyViolationError), wait=wait_fixed(0.1), stop=stop_after_delay(20), reraise=True
    ):
        with attempt:
            await admin.delete_records({tp: RecordsToDelete(offset) for tp, offset in below.items()})


async def read(settings: Settings, topic: str) -> list[ConsumerRecord]:
    """Every record of a topic."""
    async with whole_topic(settings.kafka, topic) as consumer:
        return [record async for records in records_to_end(consumer) for record in records]


async def read_scores(settings: Settings) -> list[ScoreEvent]:
    """Every score, copies included."""
    return [_scores.decode(record.value) for record in await read(settings, settings.topics.scores)]


async def committed(settings: Settings) -> int:
    """The sum of the worker group's committed offsets."""
    return sum((await committed_offsets(settings.kafka, settings.worker.group, settings.topics.clicks)).values())


async def wait_committed(settings: Settings, offset: int, timeout_s: float = 60.0) -> None:
    """Wait until the group has committed `offset` in all. Raises TimeoutError."""
    end = time.monotonic() + timeout_s
    while (at := await committed(settings)) < offset:
        if time.monotonic() > end:
            raise TimeoutError(f"{at} of {offset} committed after {timeout_s} s")
        await asyncio.sleep(0.2)
