"""Reading whole topics from genuine Kafka."""

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import UnknownTopicOrPartitionError

from worker.settings import KafkaSettings, TopicSettings
from worker.topic import columns_to_end, records_to_end, whole_topic


async def test_reads_every_record_of_every_partition(kafka: str, topics: TopicSettings) -> None:
    """All that was sent before the reading began is read, each record once."""
    sent = {b"%d" % number for number in range(50)}
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for value in sent:
            await producer.send_and_wait(topics.clicks, value, key=value)
    async with whole_topic(KafkaSettings(bootstrap_servers=kafka), topics.clicks) as consumer:
        read = [record.value async for batch in records_to_end(consumer) for record in batch]
    assert len(consumer.assignment()) == topics.partitions
    assert sorted(read) == sorted(sent)
    partitions = range(topics.partitions)
    async with whole_topic(KafkaSettings(bootstrap_servers=kafka), topics.clicks, partitions, columns=True) as consumer:
        pairs = [pair async for records in columns_to_end(consumer) for pair in records.pairs()]
    assert sorted(pairs) == [(value, value) for value in sorted(sent)]


async def test_empty_topic_ends_at_once(kafka: str, topics: TopicSettings) -> None:
    """A topic without records is read to its end without waiting for one."""
    async with whole_topic(KafkaSettings(bootstrap_servers=kafka), topics.control) as consumer:
        assert [batch async for batch in records_to_end(consumer)] == []


async def test_missing_topic_is_an_error_that_names_it(
    kafka: str, topic_names: TopicSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topic that is not there is neither made nor taken for an empty one."""
    monkeypatch.setattr("worker.topic._TIMEOUT_MS", 500)
    with pytest.raises(UnknownTopicOrPartitionError, match=topic_names.clicks):
        async with whole_topic(KafkaSettings(bootstrap_servers=kafka), topic_names.clicks):
            pass
