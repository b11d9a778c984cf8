"""Reading a whole topic from its beginning (no group, nothing committed), and asking what a group has committed."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError, GroupLoadInProgressError, UnknownTopicOrPartitionError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from worker.fetched import Fetched, fetch_columns
from worker.kafka import admin_client, connection, undamaged
from worker.settings import KafkaSettings

_POLL_MS = 500
# For a request, and for a topic to be seen.
_TIMEOUT_MS = 10_000
#: Records of a `Fetched`: more than a fetch brings.
_COLUMN = 1 << 30


@asynccontextmanager
async def whole_topic(
    kafka: KafkaSettings, topic: str, partitions: Collection[int] | None = None, *, columns: bool = False
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer at the first offset of the partitions (all, if None). Raises KafkaError, also when there is no such topic.

    With `columns`, of named partitions only, it is for `columns_to_end`.
    """
    # Named here, all its partitions are assigned at the start; `partitions_for_topic` knows nothing of a topic never asked for.
    names = [topic] if partitions is None else []
    consumer = AIOKafkaConsumer(
        *names,
        **connection(kafka),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",  # what the owner of a changelog did not finish is not there
        request_timeout_ms=_TIMEOUT_MS,
    )
    try:
        await consumer.start()
        if columns:
            fetch_columns(consumer, _COLUMN)
        if partitions is not None:
            consumer.assign([TopicPartition(topic, partition) for partition in partitions])
        await consumer.seek_to_beginning()
        yield consumer
    except UnknownTopicOrPartitionError as error:
        raise UnknownTopicOrPartitionError(f"there is no topic {topic}") from error
    finally:
        await consumer.stop()


async def records_to_end(consumer: AIOKafkaConsumer, at_once: int = 2000) -> AsyncIterator[list[ConsumerRecord]]:
    """From where the consumer stands to what is the end now, a batch of one partition at a time, in the order of its offsets.

    Raises LogError where Kafka's files are damaged.
    """
    async for end, records in _up_to_end(consumer, at_once):
        if known := [record for record in records if record.offset < end]:
            yield known


async def columns_to_end(consumer: AIOKafkaConsumer) -> AsyncIterator[Fetched]:
    """`records_to_end`, what a fetch brought of a partition at a time."""
    async for end, columns in _up_to_end(consumer, at_once=1):
        for records in columns:
            if len(known := records.before(end)):
                yield known


async def _up_to_end(consumer: AIOKafkaConsumer, at_once: int) -> AsyncIterator[tuple[int, list[Any]]]:
    """Of one partition at a time where its end was, and what the consumer hands over of it, which may lie behind that."""
    ends: dict[TopicPartition, int] = await consumer.end_offsets(consumer.assignment())
    # Compaction and transaction markers leave gaps: the position says when the end is reached, not the last record.
    while unread := [tp for tp, end in ends.items() if await consumer.position(tp) < end]:
        with undamaged():
            found = await consumer.getmany(*unread, timeout_ms=_POLL_MS, max_records=at_once)
        for tp, records in found.items():
            yield ends[tp], records


# A cluster that has just started makes the topic of the offsets only when it is first asked.
@retry(
    retry=retry_if_exception_type((GroupCoordinatorNotAvailableError, GroupLoadInProgressError)),
    wait=wait_fixed(0.2),
    stop=stop_after_delay(30),
    reraise=True,
)
async def committed_offsets(kafka: KafkaSettings, group: str, topic: str) -> dict[int, int]:
    """What the group has committed of the topic, by partition; partitions without a commit are left out. Raises KafkaError."""
    async with admin_client(kafka) as admin:
        offsets = await admin.list_consumer_group_offsets(group)
    return {tp.partition: known.offset for tp, known in offsets.items() if tp.topic == topic and known.offset >= 0}


async def partition_counts(kafka: KafkaSettings, topics: Collection[str]) -> dict[str, int]:
    """How many partitions the topics have; those that there are not are left out. Raises KafkaError."""
    async with admin_client(kafka) as admin:
        found = await admin.describe_topics(list(topics))
    return {topic["topic"]: len(topic["partitions"]) for topic in found if topic["partitions"]}
