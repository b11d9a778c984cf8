"""Replay to genuine Kafka: everything arrives once, in order, on the right partition, in the time asked for."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord
from aiokafka.partitioner import murmur2

from worker.errors import ConfigurationError, DeliveryError
from worker.replay import replay
from worker.send import KeyedValue, send_records
from worker.settings import KafkaSettings, Settings, TopicSettings
from worker.topic import records_to_end, whole_topic

_T = 1_700_000_000_000


@pytest.fixture
def settings(kafka: str, topics: TopicSettings) -> Settings:
    return Settings(kafka=KafkaSettings(bootstrap_servers=kafka), topics=topics)


async def _read(settings: Settings) -> list[ConsumerRecord]:
    async with whole_topic(settings.kafka, settings.topics.clicks) as consumer:
        return [record async for batch in records_to_end(consumer) for record in batch]


def _events(count: int, visitors: int = 50, step_ms: int = 10) -> list[dict[str, object]]:
    return [
        {"event_id": f"e{n}", "event_time": _T + n * step_ms, "visitor_id": f"v{n * 7 % visitors}", "event_type": "view"}
        for n in range(count)
    ]


def _file(path: Path, events: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


async def test_everything_arrives_once_and_in_order(settings: Settings, tmp_path: Path) -> None:
    """Thirty thousand events of two files: each once, each visitor in order on the default partitioner's partition."""
    events = _events(30_000)
    files = [_file(tmp_path / "even", events[::2]), _file(tmp_path / "odd", events[1::2])]
    report, notes = await replay(settings, files, settings.topics.clicks)
    assert (report.records, report.keyless, notes.unreadable) == (30_000, 0, 0)
    records = await _read(settings)
    arrived = defaultdict(list)
    for record in records:
        assert record.key is not None
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % 4
        arrived[record.key.decode()].append(json.loads(record.value))
    expected = defaultdict(list)
    for event in events:
        expected[event["visitor_id"]].append(event)
    assert arrived == expected


async def test_unreadable_lines_arrive_without_key(settings: Settings, tmp_path: Path) -> None:
    """They reach the topic as they are, so that the worker can refuse them."""
    path = tmp_path / "f"
    path.write_bytes(b'nonsense\n{"visitor_id":7}\n' + json.dumps(_events(1)[0]).encode())
    report, notes = await replay(settings, [path], settings.topics.clicks)
    assert (report.records, report.keyless, notes.unreadable) == (3, 2, 2)
    assert {record.value for record in await _read(settings) if record.key is None} == {b"nonsense", b'{"visitor_id":7}'}


async def test_a_rate_is_kept(settings: Settings) -> None:
    """400 records at 200 a second take two seconds, evenly."""
    records: list[KeyedValue] = [(b"v", b"%d" % n) for n in range(400)]
    report = await send_records(settings, records, settings.topics.clicks, rate=200)
    assert 1.9 < report.seconds < 3
    times = [record.timestamp for record in await _read(settings)]
    assert 800 < times[200] - times[0] < 1200


async def test_event_time_can_be_sped_up(settings: Settings, tmp_path: Path) -> None:
    """Ten seconds of event time ten times as fast take one second; with --now they begin now."""
    path = _file(tmp_path / "f", _events(11, step_ms=1000))
    before_ms = time.time() * 1000
    report, _ = await replay(settings, [path], settings.topics.clicks, speedup=10, shift_to_now=True)
    assert 0.95 < report.seconds < 2.5
    first = min(json.loads(record.value)["event_time"] for record in await _read(settings))
    assert before_ms - 1 <= first <= before_ms + 5000


async def test_a_slow_source_is_not_held_back(settings: Settings) -> None:
    """Records of a source that pauses are confirmed meanwhile, not at its end."""

    async def source() -> AsyncIterator[KeyedValue]:
        yield b"v", b"first"
        await asyncio.sleep(1.5)
        yield b"v", b"second"

    sending = asyncio.create_task(send_records(settings, source(), settings.topics.clicks))
    await asyncio.sleep(1)
    assert [record.value for record in await _read(settings)] == [b"first"]
    assert (await sending).records == 2


async def test_events_past_the_workers_limit_are_counted(settings: Settings, tmp_path: Path) -> None:
    """With --now a long file runs ahead of the clock: whoever sends it is told."""
    path = _file(tmp_path / "f", _events(4, step_ms=20 * 3_600_000))
    _, notes = await replay(settings, [path], settings.topics.clicks, shift_to_now=True)
    assert notes.ahead == 2


async def test_limit_takes_the_first(settings: Settings, tmp_path: Path) -> None:
    """Of the merged events, not of each file."""
    path = _file(tmp_path / "f", _events(10))
    report, _ = await replay(settings, [path], settings.topics.clicks, limit=3)
    assert report.records == 3


async def test_a_record_too_large_is_refused(settings: Settings) -> None:
    """Before Kafka refuses it in the middle of a pack."""
    with pytest.raises(ConfigurationError, match="larger than Kafka takes"):
        await send_records(settings, [(b"v", b"x" * 1_200_000)], settings.topics.clicks)


async def test_kafka_away_is_one_error(settings: Settings) -> None:
    """No traceback of a client library."""
    away = settings.model_copy(update={"kafka": KafkaSettings(bootstrap_servers="127.0.0.1:1")})
    with pytest.raises(DeliveryError, match=r"127\.0\.0\.1:1"):
        await send_records(away, [(b"v", b"x")], "clicks")
