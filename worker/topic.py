"""Reading a whole topic from its beginning: no group, nothing committed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from worker.kafka import connection
from worker.settings import KafkaSettings

_POLL_MS = 500


@asynccontextmanager
async def whole_topic(kafka: KafkaSettings, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer at the first offset of every partition. Raises KafkaError, also when there is no such topic."""
    consumer = AIOKafkaConsumer(**connection(kafka), enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        await consumer.start()
        partitions = consumer.partitions_for_topic(topic)
        if not partitions:
            raise UnknownTopicOrPartitionError(f"there is no topic {topic}")
        consumer.assign([TopicPartition(topic, partition) for partition in sorted(partitions)])
        await consumer.seek_to_beginning()
        yield consumer
    finally:
        await consumer.stop()


async def records_to_end(consumer: AIOKafkaConsumer, at_once: int = 2000) -> AsyncIterator[list[ConsumerRecord]]:
    """From where the consumer stands to what is the end now, a batch of one partition at a time, in the order of its offsets."""
    ends: dict[TopicPartition, int] = await consumer.end_offsets(consumer.assignment())
    while unread := [tp for tp, end in ends.items() if await consumer.position(tp) < end]:
        for tp, records in (await consumer.getmany(*unread, timeout_ms=_POLL_MS, max_records=at_once)).items():
            # Compaction and transaction markers leave gaps: the position says when the end is reached, not the last record.
            if known := [record for record in records if record.offset < ends[tp]]:
                yield known
