"""Reading a part of one partition, from one offset to another: no group, nothing committed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from worker.kafka import connection, undamaged
from worker.settings import KafkaSettings

_POLL_MS = 500
_FETCH_BYTES = 4 * 1024 * 1024


@asynccontextmanager
async def reader(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer for `read_span`, without a group. Raises KafkaError when Kafka is away."""
    consumer = AIOKafkaConsumer(
        **connection(kafka),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",  # exactly-once delivery undoes what it did not finish
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        await consumer.start()
        # Stopped before its own tasks have had a turn, aiokafka's consumer raises CancelledError.
        await asyncio.sleep(0)
        yield consumer
    finally:
        await consumer.stop()


async def bounds(consumer: AIOKafkaConsumer, tp: TopicPartition) -> tuple[int, int]:
    """The first offset that is still there, and the one after the last."""
    starts, ends = await consumer.beginning_offsets([tp]), await consumer.end_offsets([tp])
    return starts[tp], ends[tp]


async def read_span(
    consumer: AIOKafkaConsumer, tp: TopicPartition, start: int, end: int, at_once: int = 2000
) -> AsyncIterator[list[ConsumerRecord]]:
    """The records of offsets start..end-1 that are still there, in order, some at a time.

    Raises LogError where Kafka's files are damaged.
    """
    if start >= end:
        return
    consumer.assign([tp])
    consumer.seek(tp, start)
    # Transaction markers leave gaps: the position says when the end is reached, not the last record.
    while await consumer.position(tp) < end:
        with undamaged():
            found = await consumer.getmany(tp, timeout_ms=_POLL_MS, max_records=at_once)
        for records in found.values():
            yield records if records[-1].offset < end else [record for record in records if record.offset < end]
