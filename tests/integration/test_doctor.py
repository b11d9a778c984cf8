"""The doctor on genuine Kafka."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaProducer

from deploy.local.topics import TopicSpec, create_topics
from worker.doctor import check_clock, check_kafka, check_model, check_topics
from worker.settings import KafkaSettings, Settings, TopicSettings


@pytest.fixture
def settings(kafka: str, topics: TopicSettings) -> Settings:
    """Settings that fit the Kafka and its topics."""
    return Settings(kafka=KafkaSettings(bootstrap_servers=kafka), topics=topics)


async def test_sound_kafka_is_ok(settings: Settings) -> None:
    """Nothing is blamed where nothing is wrong."""
    findings = [await check(settings) for check in (check_kafka, check_topics, check_clock)]
    assert [finding.status for finding in findings] == ["ok", "ok", "ok"], findings


async def test_missing_topics_are_named_and_not_made(kafka: str, topic_names: TopicSettings) -> None:
    """Looking twice finds them missing twice."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=kafka), topics=topic_names)
    for _ in range(2):
        finding = await check_topics(settings)
        assert finding.status == "fail"
        assert topic_names.clicks in finding.what
        assert topic_names.control in finding.what


async def test_unequal_partitions_are_named(settings: Settings, kafka: str, topics: TopicSettings) -> None:
    """A topic with more partitions than clicks would never be joined right."""
    other = TopicSpec(f"{topics.clicks}-other", 7)
    await asyncio.to_thread(create_topics, kafka, [other])
    unequal = settings.model_copy(update={"topics": topics.model_copy(update={"scores": other.name})})
    finding = await check_topics(unequal)
    assert finding.status == "fail"
    assert f"{other.name} 7" in finding.what


async def test_clock_that_is_behind_is_told(settings: Settings, kafka: str, topics: TopicSettings) -> None:
    """A record from a minute ahead means that two clocks disagree."""
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        await producer.send_and_wait(topics.clicks, b"{}", timestamp_ms=int((time.time() + 60) * 1000))
    finding = await check_clock(settings)
    assert finding.status == "warn"
    assert "s ahead of this machine" in finding.what


async def test_no_champion_is_told(settings: Settings) -> None:
    """An empty control topic means that nothing but the fallback can score."""
    finding = await check_model(settings)
    assert finding.status == "fail"
    assert "names no version of intent" in finding.what
    assert "inkling promote" in finding.mend
