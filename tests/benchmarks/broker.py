"""Topics on the benchmark's Kafka, and asking it how far things are. Its clock is the one that all times are taken by."""

import asyncio
import secrets
from collections.abc import Iterable
from dataclasses import replace

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from deploy.local.topics import TopicSpec, create_topics, standard_topics
from worker.kafka import admin_client
from worker.settings import KafkaSettings, Settings, TopicSettings
from worker.topic import committed_offsets, records_to_end, whole_topic

#: Records carry the broker's time of their append, not what a client says; and a topic that is dropped is off the disk at once.
_TIMED = {"message.timestamp.type": "LogAppendTime", "file.delete.delay.ms": "0"}


def fresh_topics(bootstrap: str, clicks: str | None = None) -> TopicSettings:
    """Topics of new names (but for `clicks`, if given), made; every one but clicks keeps append times."""
    unique = secrets.token_hex(4)
    names = TopicSettings(**{name: f"{name}-{unique}" for name in ("scores", "dead", "outcomes", "changelog", "control")})
    names = names.model_copy(update={"clicks": clicks or f"clicks-{unique}"})
    specs = [spec if spec.name == names.clicks else _append_timed(spec) for spec in standard_topics(names)]
    create_topics(bootstrap, specs)
    return names


def make_append_timed(bootstrap: str, names: Iterable[str], partitions: int) -> None:
    """Make plain topics with append times."""
    create_topics(bootstrap, [TopicSpec(name, partitions, _TIMED) for name in names])


def drop_topics(bootstrap: str, names: Iterable[str]) -> None:
    """Away with them: what still has to be written to disk of one run would slow the next one."""
    asyncio.run(_drop(bootstrap, list(names)))


async def _drop(bootstrap: str, names: list[str]) -> None:
    async with admin_client(KafkaSettings(bootstrap_servers=bootstrap)) as admin:
        await admin.delete_topics(names)


async def ends(bootstrap: str, topic: str) -> dict[TopicPartition, int]:
    """The end offset of each partition."""
    async with whole_topic(KafkaSettings(bootstrap_servers=bootstrap), topic) as consumer:
        found: dict[TopicPartition, int] = await consumer.end_offsets(consumer.assignment())
        return found


async def last_append(bootstrap: str, topics: Iterable[str]) -> float:
    """When the newest record of the topics was appended, in seconds since the epoch."""
    newest: int = 0
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        for topic in topics:
            for tp, end in (await ends(bootstrap, topic)).items():
                if end:
                    consumer.assign([tp])
                    # The very last offset may be a transaction's marker, which no consumer is given.
                    consumer.seek(tp, max(end - 2, 0))
                    newest = max(newest, (await consumer.getmany(tp, timeout_ms=10_000))[tp][-1].timestamp)
    finally:
        await consumer.stop()
    return newest / 1000


async def committed(settings: Settings) -> int:
    """The sum of what the worker's group has committed of clicks."""
    return sum((await committed_offsets(settings.kafka, settings.worker.group, settings.topics.clicks)).values())


async def read(settings: Settings, topic: str) -> list[ConsumerRecord]:
    """Every record of a topic."""
    async with whole_topic(settings.kafka, topic) as consumer:
        return [record async for records in records_to_end(consumer) for record in records]


def _append_timed(spec: TopicSpec) -> TopicSpec:
    return replace(spec, config={**spec.config, **_TIMED})
