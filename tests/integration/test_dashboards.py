"""The dashboard's queries and the rules on a live Prometheus."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.grafana.dashboards import queries
from deploy.grafana.learning import SWAPS
from deploy.local.ports import HOST, free_ports
from deploy.local.stack import LocalStack
from deploy.local.topics import standard_topics
from tests.support.metric_samples import exporter
from tests.support.prometheus import ask, filled, has_data, prometheus, wait_answered
from tests.support.topics import send, shop_records
from worker.control import point_at
from worker.settings import KafkaSettings, ModelSettings, Settings, TopicSettings, TritonSettings


def test_every_query_and_rule_finds_synthetic_samples(tmp_path: Path) -> None:
    """With samples on every metric no panel is empty, and no rule fails."""
    with exporter() as address, prometheus(tmp_path, {"worker": [address]}) as url:
        wait_answered(url, queries())
        ask(url, "query", query=filled(SWAPS[0]))
        rules: list[dict[str, Any]] = []
        while not rules or any(rule["health"] == "unknown" for rule in rules):
            rules = [rule for group in ask(url, "rules")["groups"] for rule in group["rules"]]
        assert len(rules) > 30
        assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


def test_a_query_without_data_is_found_out(tmp_path: Path) -> None:
    """The check itself can fail: a metric that nobody exposes has no data, and neither has a ratio of nothing."""
    with exporter() as address, prometheus(tmp_path, {"worker": [address]}) as url:
        wait_answered(url, [("up", "up == 1")])
        assert not has_data(url, "sum(inkling_no_such_metric)")
        assert not has_data(url, "vector(0) / vector(0)")


@pytest.fixture
def whole_stack(tmp_path: Path) -> Iterator[LocalStack]:
    """Kafka, Triton and the topics by their usual names."""
    topics = standard_topics(TopicSettings())
    with LocalStack(tmp_path / "stack", with_prometheus=False, require_model=True, topics=topics) as stack:
        yield stack


async def test_every_query_finds_data_of_the_real_system(whole_stack: LocalStack, tmp_path: Path) -> None:
    """Kafka, Triton, two workers of which one leaves, the outcome join, good and bad traffic: no panel is empty."""
    first, second, labels = free_ports(3)
    settings = _settings(whole_stack)
    await point_at(settings, "1", by="test", why="the default version")
    targets = {
        "worker": [f"{HOST}:{first}", f"{HOST}:{second}"],
        "labels": [f"{HOST}:{labels}"],
        "triton": [str(whole_stack.addresses.triton_metrics)],
    }
    with prometheus(tmp_path / "prometheus", targets) as url:
        async with _running(settings, "worker", METRICS__PORT=first), _running(settings, "labels", METRICS__LABELS_PORT=labels):
            await _until_up(url, f"{HOST}:{first}")
            async with _running(settings, "worker", METRICS__PORT=second):
                await _until_up(url, f"{HOST}:{second}")
            traffic = asyncio.create_task(_traffic(settings))
            try:
                await asyncio.to_thread(wait_answered, url, queries(), 90)
            finally:
                traffic.cancel()
                await asyncio.wait([traffic])


def _settings(stack: LocalStack) -> Settings:
    assert stack.addresses.triton_grpc is not None
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=stack.addresses.kafka),
        triton=TritonSettings(url=stack.addresses.triton_grpc),
        model=ModelSettings(repository=Path(stack.addresses.model_repository)),
    )


@asynccontextmanager
async def _running(settings: Settings, command: str, **ports: int) -> AsyncIterator[None]:
    environment = {
        "INKLING_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "INKLING_TRITON__URL": settings.triton.url,
        "INKLING_WORKER__SESSION_TIMEOUT_S": "6",
        **{f"INKLING_{name}": str(port) for name, port in ports.items()},
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "worker", command, env={**os.environ, **environment})
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def _until_up(url: str, instance: str) -> None:
    deadline = time.monotonic() + 60
    while not await asyncio.to_thread(has_data, url, f'up{{instance="{instance}"}} == 1'):
        assert time.monotonic() < deadline, f"{instance} never answered"
        await asyncio.sleep(0.5)
    # A scrape or two with counters as they are, so that what comes next is an increase.
    await asyncio.sleep(3)


async def _traffic(settings: Settings) -> None:
    """A shop's day in pieces, each with a record that is no event."""
    records = shop_records(2_000)
    for start in range(0, len(records), 150):
        await send(settings, [*records[start : start + 150], (b"nobody", b"{")])
        await asyncio.sleep(1)
