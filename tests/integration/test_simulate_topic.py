"""`inkling simulate --topic` against a genuine Kafka."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.cli_simulate import app
from worker.contract.codec import decode
from worker.contract.events import ClickEvent
from worker.settings import Settings, TopicSettings
from worker.topic import records_to_end, whole_topic


def test_simulated_clicks_arrive_keyed_and_no_later_than_now(
    kafka: str, topics: TopicSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every event arrives once, keyed by visitor, in its visitor's order, with a truth, and the worker takes it."""
    monkeypatch.setenv("INKLING_KAFKA__BOOTSTRAP_SERVERS", kafka)
    truth = tmp_path / "truth.jsonl"
    arguments = ["--sessions", "300", "--seed", "5", "--topic", topics.clicks, "--truth", str(truth), "--rate", "2000"]
    started = time.monotonic()
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output

    records = asyncio.run(_records(topics.clicks))
    assert time.monotonic() - started > len(records) / 2000
    events = [decode(value, key, timestamp, max_future_ms=0) for key, value, timestamp in records]
    assert all(isinstance(event, ClickEvent) for event in events)
    known = sorted(json.loads(line)["event_id"] for line in truth.read_bytes().splitlines())
    assert known == sorted(event.event_id for event in events if isinstance(event, ClickEvent))
    latest: dict[str, int] = {}
    for event in events:
        assert isinstance(event, ClickEvent)
        assert event.event_time > latest.get(event.visitor_id, 0)
        latest[event.visitor_id] = event.event_time


async def _records(topic: str) -> list[tuple[bytes | None, bytes | None, int]]:
    async with whole_topic(Settings().kafka, topic) as consumer:
        return [(r.key, r.value, r.timestamp) async for records in records_to_end(consumer) for r in records]
