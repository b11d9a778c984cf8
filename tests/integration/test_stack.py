"""The local stack with real processes: starting, stopping, crashing."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from worker.settings import TopicSettings


def test_kafka_carries_a_record(kafka: str, topics: TopicSettings) -> None:
    """What is sent to a topic of the fixture is read back."""

    async def round_trip() -> bytes | None:
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            await producer.send_and_wait(topics.clicks, b"hello")
        async with AIOKafkaConsumer(topics.clicks, bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer:
            return (await asyncio.wait_for(consumer.getone(), 10)).value

    assert asyncio.run(round_trip()) == b"hello"


def test_changelog_takes_ten_megabytes_in_one_record(kafka: str, topics: TopicSettings) -> None:
    """The changelog's limit is 16 MiB, although the topics beside it stay at Kafka's 1 MiB."""

    async def send(topic: str) -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka, max_request_size=16 * 1024 * 1024) as producer:
            await producer.send_and_wait(topic, b"x" * 10_000_000, key=b"k")

    asyncio.run(send(topics.changelog))
