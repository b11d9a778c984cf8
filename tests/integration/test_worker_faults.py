"""The whole worker while Kafka or Triton goes away and comes back."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from deploy.local.topics import standard_topics
from tests.support.topics import read_scores, send, shop_records, wait_committed
from worker.app import run_worker
from worker.control import point_at
from worker.settings import (
    KafkaSettings,
    MetricsSettings,
    ModelSettings,
    Settings,
    TopicSettings,
    TritonSettings,
    WorkerSettings,
)


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[LocalStack]:
    """A stack that the test may harm."""
    with LocalStack(tmp_path, with_prometheus=False, require_model=True, topics=standard_topics(TopicSettings())) as stack:
        yield stack


@asynccontextmanager
async def _worker(stack: LocalStack) -> AsyncIterator[Settings]:
    addresses = stack.addresses
    assert addresses.triton_grpc is not None
    settings = Settings(
        kafka=KafkaSettings(bootstrap_servers=addresses.kafka),
        triton=TritonSettings(url=addresses.triton_grpc),
        model=ModelSettings(repository=Path(addresses.model_repository)),
        metrics=MetricsSettings(port=0),
        worker=WorkerSettings(commit_interval_s=0.2, session_timeout_s=3.0),
    )
    await point_at(settings, "1", by="test", why="the default version")
    stop = asyncio.Event()
    task = asyncio.create_task(run_worker(settings, stop))
    try:
        yield settings
    finally:
        stop.set()
        await task


async def test_a_killed_triton_is_bridged_by_the_fallback_and_taken_back(own_stack: LocalStack) -> None:
    """Scores go on without the model server and say so, and come from the model again by themselves."""
    records = shop_records(120)
    third = len(records) // 3
    triton = own_stack.triton
    assert triton is not None
    assert triton.child is not None
    assert triton.child.id is not None
    async with _worker(own_stack) as settings:
        await send(settings, records[:third])
        await wait_committed(settings, third)
        os.kill(triton.child.id.pid, signal.SIGKILL)
        await send(settings, records[third : 2 * third])
        await wait_committed(settings, 2 * third)
        await asyncio.to_thread(triton.stop)
        await asyncio.to_thread(triton.launch, print)
        await asyncio.to_thread(triton.wait_ready)
        # One request at a time finds out whether the server is back; meanwhile the fallback answers the rest.
        sent = 2 * third
        while (await read_scores(settings))[-1].path == "fallback":
            sent += await send(settings, records[sent : sent + 1])
            await wait_committed(settings, sent)
        await send(settings, records[sent:])
        await wait_committed(settings, len(records))
        scores = {score.event_id: score for score in await read_scores(settings)}
    paths = [scores[_event_id(value)].path for _, value in records]
    assert set(paths[:third]) == {"model"}
    assert set(paths[third : 2 * third]) == {"fallback"}
    assert set(paths[sent:]) == {"model"}


async def test_a_killed_kafka_is_waited_for(own_stack: LocalStack) -> None:
    """The worker neither dies nor loses a record when the only broker is killed and started again."""
    records = shop_records(400)
    half = len(records) // 2
    broker = own_stack.kafka
    assert broker is not None
    assert broker.child is not None
    assert broker.child.id is not None
    async with _worker(own_stack) as settings:
        await send(settings, records[:half])
        await wait_committed(settings, half // 4)
        os.kill(broker.child.id.pid, signal.SIGKILL)
        await asyncio.to_thread(broker.stop)
        await asyncio.sleep(2)
        await asyncio.to_thread(broker.launch, print)
        await asyncio.to_thread(broker.wait_ready)
        await send(settings, records[half:])
        await wait_committed(settings, len(records), timeout_s=90)
        scores = await read_scores(settings)
    assert {score.event_id for score in scores} == {_event_id(value) for _, value in records}


def _event_id(value: bytes | None) -> str:
    assert value is not None
    return str(json.loads(value)["event_id"])
