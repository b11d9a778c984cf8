"""Reading a whole topic from its beginning: no group, nothing committed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from worker.kafka import connection
from worker.settings import KafkaSettings

_POLL_MS = 500
# For a request, and for a topic to be seen.
_TIMEOUT_MS = 10_000


@asynccontextmanager
async def whole_topic(kafka: KafkaSettings, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer at the first offset of every partition. Raises KafkaError, also when there is no such topic."""
    # Named here, all its partitions are assigned at the start; `partitions_for_topic` knows nothing of a topic never asked for.
    consumer = AIOKafkaConsumer(
        topic,
        **connection(kafka),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=_TIMEOUT_MS,
    )
    try:
        await consumer.start()
        await consumer.seek_to_beginning()
        yield consumer
    except UnknownTopicOrPartitionError as error:
        raise UnknownTopicOrPartitionError(f"there is no topic {topic}") from error
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
