"""Membership in the group on genuine Kafka: it does not depend on how long the handler takes."""

import asyncio
from collections.abc import Mapping

from aiokafka.consumer.consumer import ConsumerRecord
from aiokafka.structs import TopicPartition

from worker.settings import KafkaSettings, Settings, TopicSettings, WorkerSettings
from worker.stream import batch_app, run_app


class SlowRestore:
    """A handler that takes long to read the state of its partitions back, and notes what it is given."""

    def __init__(self, takes_s: float) -> None:
        self._takes_s = takes_s
        self.given: list[set[TopicPartition]] = []

    async def assigned(self, partitions: set[TopicPartition]) -> None:
        await asyncio.sleep(self._takes_s)
        self.given.append(partitions)

    async def drain(self) -> None:
        return

    def has_room(self, partition: TopicPartition) -> bool:
        return False

    async def wait_for_room(self) -> None:
        await asyncio.sleep(0.05)

    def taken(self, partition: TopicPartition) -> int:
        return 0

    def take(self, partition: TopicPartition, records: list[ConsumerRecord]) -> None:
        raise AssertionError("there is no room")

    def finished(self) -> Mapping[TopicPartition, int]:
        return {}


async def test_a_restore_longer_than_the_session_keeps_the_partitions(kafka: str, topics: TopicSettings) -> None:
    """Else a worker with much state loses them while it reads, reads again, and never gets to work."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=kafka), topics=topics, worker=WorkerSettings(session_timeout_s=1.5))
    handler, stop, failed = SlowRestore(4.0), asyncio.Event(), asyncio.get_running_loop().create_future()
    app = batch_app(settings, f"group-{topics.clicks}", [topics.clicks], handler)
    running = asyncio.create_task(run_app(app, stop, failed))
    await asyncio.sleep(9)
    stop.set()
    await running
    assert handler.given == [{TopicPartition(topics.clicks, partition) for partition in range(topics.partitions)}]
