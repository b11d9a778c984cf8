"""Owners of a changelog on genuine Kafka: one at a time, and what is unfinished is never read."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from tests.support.topics import read
from worker.errors import OwnershipError
from worker.owner import Owner
from worker.record_batch import Records
from worker.settings import KafkaSettings, Settings, TopicSettings, WorkerSettings


@pytest.fixture
def settings(kafka: str, topics: TopicSettings) -> Settings:
    """Settings with topics and a group of its own."""
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=kafka), topics=topics, worker=WorkerSettings(group=f"group-{topics.clicks}")
    )


@contextlib.asynccontextmanager
async def _owner(settings: Settings, partition: int = 0) -> AsyncIterator[Owner]:
    owner = Owner(settings, partition)
    try:
        await owner.open()
        yield owner
    finally:
        await owner.close()


async def _values(settings: Settings, least: int = 0) -> list[bytes | None]:
    """What is in the changelog, when that is so much at least: Kafka confirms a transaction a moment before readers see it."""
    deadline = time.monotonic() + 10
    while True:
        values = [record.value for record in await read(settings, settings.topics.changelog)]
        if len(values) >= least or time.monotonic() > deadline:
            return values


async def test_a_new_owner_shuts_the_earlier_one_out(settings: Settings) -> None:
    """A worker that was paused cannot write behind the one that took over, not even with what it had not sent yet."""
    async with _owner(settings) as first:
        await first.write(Records.of([(b"v", b"first")]))
        async with _owner(settings) as second:
            with pytest.raises(OwnershipError, match="another owner"):
                await first.write(Records.of([(b"v", b"late")]))
            await second.write(Records.of([(b"v", b"second")]))
            assert await _values(settings, 2) == [b"first", b"second"]


async def test_an_unfinished_write_is_never_read(settings: Settings) -> None:
    """What an owner wrote and did not finish is undone by the next one before it reads."""
    async with _owner(settings) as first:
        producer = first._producer
        await producer.begin_transaction()
        await producer.send_and_wait(settings.topics.changelog, b"unfinished", key=b"v", partition=0)
        assert await asyncio.wait_for(_values(settings), 20) == []
        async with _owner(settings) as second:
            assert await asyncio.wait_for(_values(settings), 20) == []
            await second.write(Records.of([(b"v", b"second")]))
            assert await _values(settings, 1) == [b"second"]


async def test_partitions_have_owners_of_their_own(settings: Settings) -> None:
    """Taking over one partition leaves the owner of another alone."""
    async with _owner(settings, 0) as one, _owner(settings, 1) as other:
        await one.write(Records.of([(b"v", b"one")]))
        await other.write(Records.of([(b"w", b"other")]))
        assert sorted(await _values(settings, 2)) == [b"one", b"other"]
