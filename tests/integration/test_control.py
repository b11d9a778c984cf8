"""The control topic on genuine Kafka."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from tests.unit.test_pin import Server, pointer
from tests.unit.version_folder import make_version
from worker.contract.features import FeatureSpec
from worker.control import ControlFollower, Pointer, point_at, read_pointer, write_pointer
from worker.errors import ConfigurationError, DeliveryError, ModelError
from worker.settings import KafkaSettings, ModelSettings, Settings, TopicSettings


@pytest.fixture
def settings(kafka: str, topics: TopicSettings, tmp_path: Path) -> Settings:
    return Settings(kafka=KafkaSettings(bootstrap_servers=kafka), topics=topics, model=ModelSettings(repository=tmp_path))


@asynccontextmanager
async def following(settings: Settings, server: Server, seen: list[Pointer] | None = None) -> AsyncIterator[ControlFollower]:
    follower = ControlFollower(settings, server, on_change=(seen if seen is not None else []).append)
    follower.start()
    try:
        yield follower
    finally:
        await follower.stop()


async def until(follower: ControlFollower, version: str, timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while follower.pin().version != version:  # noqa: ASYNC110 - only the pin tells
            await asyncio.sleep(0.02)


async def send(settings: Settings, key: bytes | None, value: bytes | None) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(settings.topics.control, value, key=key)


async def test_the_newest_record_is_the_pointer(settings: Settings) -> None:
    """None at first; then the last one written, as it was written."""
    assert await read_pointer(settings) is None
    for version in ("1", "2"):
        await write_pointer(settings, pointer(version))
    assert await read_pointer(settings) == pointer("2")


async def test_other_models_and_records_that_are_no_pointer_are_passed_over(settings: Settings) -> None:
    """A slip of somebody's hand on the topic must not stop the workers."""
    await write_pointer(settings, pointer("1"))
    await write_pointer(settings, pointer("9", model="other"))
    for key, value in ((b"intent", b"{}"), (b"intent", b"\xff"), (b"intent", None)):
        await send(settings, key, value)
    found = await read_pointer(settings)
    assert found is not None
    assert found.champion == "1"


async def test_point_at_takes_all_from_the_version_folder(settings: Settings, tmp_path: Path) -> None:
    """And keeps the way back: pointing at the champion again does not lose its predecessor."""
    make_version(tmp_path, "1")
    make_version(tmp_path, "2")
    first = await point_at(settings, "1", "me", "because")
    assert (first.champion, first.previous, first.by, first.why, first.trained_until) == ("1", None, "me", "because", 5000)
    assert first.fallback["kind"] == "logistic"
    assert (await point_at(settings, "2", "me", "")).previous == "1"
    assert (await point_at(settings, "2", "me", "")).previous == "1"
    assert await read_pointer(settings) == await read_pointer(settings)


async def test_point_at_refuses_a_damaged_version(settings: Settings, tmp_path: Path) -> None:
    """The pointer does not move."""
    folder = make_version(tmp_path, "1")
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelError):
        await point_at(settings, "1", "me", "")
    assert await read_pointer(settings) is None


async def test_a_follower_moves_with_the_pointer(settings: Settings) -> None:
    """From the newest at its start, never by way of older ones."""
    seen: list[Pointer] = []
    for version in ("3", "1"):
        await write_pointer(settings, pointer(version))
    async with following(settings, Server(v1=0.5, v2=0.7, v3=0.5), seen) as follower:
        await follower.wait_first(20)
        assert follower.pin().version == "1"
        assert follower.pin().verified
        await write_pointer(settings, pointer("2", 0.7))
        await until(follower, "2")
        assert follower.pointer == pointer("2", 0.7)
    assert [record.champion for record in seen] == ["1", "2"]


async def test_a_follower_waits_for_the_first_pointer_and_says_how_to_write_one(settings: Settings) -> None:
    """A fresh stack has none."""
    async with following(settings, Server(v1=0.5)) as follower:
        with pytest.raises(ConfigurationError, match="promote"):
            await follower.wait_first(2)
        with pytest.raises(ConfigurationError):
            follower.pin()
        await write_pointer(settings, pointer("1"))
        await follower.wait_first(20)
        assert follower.pin().version == "1"


async def test_a_follower_says_why_it_cannot_follow_the_first_pointer(settings: Settings) -> None:
    """As after an upgrade whose rows the champion was not trained on: there is a version, and it is the wrong one."""
    await write_pointer(settings, pointer("1", spec=FeatureSpec(version=1)))
    async with following(settings, Server(v1=0.5, v2=0.5)) as follower:
        with pytest.raises(ConfigurationError, match=r"version 1 of intent wants rows by feature spec 1.*inkling train"):
            await follower.wait_first(2)
        await write_pointer(settings, pointer("2"))
        await follower.wait_first(20)
        assert follower.pin().version == "2"


async def test_no_kafka_is_said_in_one_line(settings: Settings) -> None:
    """With its address; a follower goes on trying meanwhile."""
    away = settings.model_copy(update={"kafka": KafkaSettings(bootstrap_servers="127.0.0.1:1")})
    with pytest.raises(DeliveryError, match=r"127\.0\.0\.1:1"):
        await read_pointer(away)
    with pytest.raises(DeliveryError, match=r"127\.0\.0\.1:1"):
        await write_pointer(away, pointer("1"))
    async with following(away, Server(v1=0.5)) as follower:
        with pytest.raises(ConfigurationError):
            await follower.wait_first(1.5)


async def test_a_fault_in_our_own_code_is_not_waited_out(settings: Settings) -> None:
    """`wait_first` raises it at once."""

    class Broken(Server):
        async def score(self, *_: Any) -> Any:
            raise ZeroDivisionError

    await write_pointer(settings, pointer("1"))
    async with following(settings, Broken()) as follower:
        with pytest.raises(ZeroDivisionError):
            await follower.wait_first(20)
