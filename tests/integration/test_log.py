"""The clicks topic read back for training, on genuine Kafka."""

import asyncio
from collections import defaultdict

import pytest
from aiokafka import AIOKafkaProducer

from training.log import ClickLog
from worker.contract.codec import encode
from worker.contract.events import ClickEvent, Reason
from worker.errors import DeliveryError
from worker.settings import KafkaSettings, Settings, TopicSettings

T0 = 1_700_000_000_000


@pytest.fixture
def settings(kafka: str, topics: TopicSettings) -> Settings:
    return Settings(kafka=KafkaSettings(bootstrap_servers=kafka), topics=topics)


def event(number: int) -> ClickEvent:
    return ClickEvent(f"e{number}", T0 + number, f"v{number % 7}", "view")


async def send(settings: Settings, events: int, bad: int = 0) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
        for number in range(events):
            click = event(number)
            await producer.send(settings.topics.clicks, encode(click), key=click.visitor_id.encode(), timestamp_ms=T0 + number)
        for _ in range(bad):
            await producer.send(settings.topics.clicks, b"{", key=b"v1")
        await producer.flush()


def test_reads_all_of_it_in_the_order_of_each_partition(settings: Settings) -> None:
    """Every event once, with offsets that rise; what the worker would send to the dead letters is counted and left out."""
    asyncio.run(send(settings, 5000, bad=3))
    log = ClickLog(settings)
    by_partition = defaultdict(list)
    seen = set()
    for click, partition, offset in log:
        by_partition[partition].append(offset)
        seen.add(click.event_id)
    assert seen == {f"e{number}" for number in range(5000)}
    assert len(by_partition) > 1
    for offsets in by_partition.values():
        assert offsets == sorted(set(offsets))
    assert log.invalid == {Reason.NOT_JSON: 3}
    assert sum(1 for _ in log) == 5000, "it can be read again"


def test_reads_the_newest_only_when_asked(settings: Settings) -> None:
    """The same share of every partition, up to its end."""
    asyncio.run(send(settings, 1000))
    newest = [click.event_id for click, _, _ in ClickLog(settings, newest=100)]
    assert 96 <= len(newest) <= 104
    assert "e999" in newest
    assert "e0" not in newest


def test_an_empty_topic_is_an_empty_log(settings: Settings) -> None:
    """No waiting for what is not there."""
    assert list(ClickLog(settings)) == []


def test_a_topic_that_is_not_there_is_named(settings: Settings) -> None:
    """In one line."""
    nowhere = settings.model_copy(update={"topics": TopicSettings(clicks="nowhere")})
    with pytest.raises(DeliveryError, match="nowhere"):
        list(ClickLog(nowhere))
