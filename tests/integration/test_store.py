"""State is read back from genuine Kafka as a whole, or not at all."""

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.support.topics import delete_records
from worker.contract.features import FeatureSpec
from worker.errors import StateError
from worker.kafka import admin_client
from worker.settings import KafkaSettings, Settings, TopicSettings, WorkerSettings
from worker.store import KafkaSource, PartitionState, restore


@pytest.fixture
def settings(kafka: str, topics: TopicSettings) -> Settings:
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=kafka), topics=topics, worker=WorkerSettings(group=f"group-{topics.clicks}")
    )


async def test_a_truncated_changelog_is_refused(settings: Settings) -> None:
    """What a retention deletes are the oldest sessions; what is left reads as if there had never been any."""
    state = PartitionState(FeatureSpec(), settings.session.policy)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
        for next_offset in range(1, 5):
            for key, value in state.changes(next_offset):
                await producer.send_and_wait(settings.topics.changelog, value, key=key, partition=1)
    assert (await restore(KafkaSource(settings), settings, [0, 1], FeatureSpec()))[1].next_offset == 4
    changelog = settings.topics.changelog
    async with admin_client(settings.kafka) as admin:
        kinds = {"cleanup.policy": "compact,delete"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, changelog, kinds)])
        await delete_records(admin, {TopicPartition(changelog, 1): 2})
    with pytest.raises(StateError, match=rf"beginning of {changelog} is deleted in partitions \[1\]"):
        await restore(KafkaSource(settings), settings, [0, 1], FeatureSpec())


async def test_a_partition_without_a_changelog_is_refused(settings: Settings) -> None:
    """Partitions that were added to the clicks are told from a broker that does not answer."""
    async with admin_client(settings.kafka) as admin:
        await admin.create_partitions({settings.topics.clicks: NewPartitions(6)})
    with pytest.raises(StateError, match=r"has 6 partitions and .* has 4: partitions were added"):
        await restore(KafkaSource(settings), settings, [3, 4, 5], FeatureSpec())
