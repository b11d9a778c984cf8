"""The console against a genuine Kafka: what it reads, from where, and what it does when things are missing."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from deploy.local.stack import LocalStack
from deploy.local.topics import create_topics, standard_topics
from worker.console import feed as feed_module
from worker.console.feed import Feed
from worker.console.snapshot import Snapshot
from worker.console.state import Aggregator
from worker.contract.codec import encode
from worker.contract.events import ClickEvent, OutcomeEvent, Reason, ScoreEvent
from worker.dead import Origin, dead_letter, drop_record
from worker.settings import KafkaSettings, Settings, TopicSettings


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def settings_for(kafka: str, topics: TopicSettings) -> Settings:
    return Settings(kafka=KafkaSettings(bootstrap_servers=kafka), topics=topics)


@asynccontextmanager
async def following(settings: Settings) -> AsyncIterator[Aggregator]:
    """An aggregator that a feed fills."""
    aggregator = Aggregator()
    task = asyncio.create_task(Feed(settings, aggregator).run())
    try:
        yield aggregator
    finally:
        task.cancel()
        await asyncio.wait([task])


async def snapshot_when(aggregator: Aggregator, holds: Callable[[Snapshot], bool], within_s: float = 20) -> Snapshot:
    """The first snapshot of which it holds. Counts are of whole seconds, so the next second is looked at."""
    deadline = time.monotonic() + within_s
    while not holds(snapshot := aggregator.snapshot(now_ms() + 1000)):
        assert time.monotonic() < deadline, f"never seen: {snapshot}"
        await asyncio.sleep(0.1)
    return snapshot


@asynccontextmanager
async def producer(kafka: str) -> AsyncIterator[AIOKafkaProducer]:
    made = AIOKafkaProducer(bootstrap_servers=kafka)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def click(number: int) -> ClickEvent:
    return ClickEvent(f"e{number}", now_ms(), "ann", "purchase" if number == 2 else "view", item_id="shoe")


def score(number: int) -> ScoreEvent:
    scores: dict[str, dict[str, float] | float] = {"purchase": {"session": 0.2 + number / 10}}
    return ScoreEvent(
        f"clicks:0:{number}",
        f"e{number}",
        "ann",
        "s1",
        number + 1,
        now_ms(),
        now_ms(),
        40,
        True,
        "intent",
        "7",
        "model",
        "",
        scores,
    )


def outcome(number: int) -> OutcomeEvent:
    return OutcomeEvent(
        f"o{number}", f"clicks:0:{number}", "e", "ann", "purchase", "session", number % 2, False, None, 0, 0.5, "7", "model"
    )


async def test_records_of_every_topic_reach_the_page(kafka: str, topics: TopicSettings) -> None:
    """Clicks, scores, outcomes, dead letters and pointers are all shown; what is no record of ours does no harm."""
    pointer = b'{"champion":"7","previous":"6","by":"finetune","why":"better","at":1,"trained_until":2,"new_field":3}'
    stamp = dict(topic=topics.clicks, partition=0, offset=9, timestamp_ms=now_ms(), detail="", stage="decode", worker_version="0")
    dead_key, dead_value, dead_headers = dead_letter(b"{", b"k", (), reason=str(Reason.NOT_JSON), **stamp)  # type: ignore[arg-type]
    async with producer(kafka) as to:
        for topic in (topics.scores, topics.outcomes, topics.control, topics.dead):
            await to.send_and_wait(topic, b"\xff no record of ours", key=b"intent")
        await to.send_and_wait(topics.control, pointer, key=b"intent")
        await to.send_and_wait(topics.control, pointer.replace(b'"7"', b'"99"'), key=b"another model")
        async with following(settings_for(kafka, topics)) as aggregator:
            for number in range(3):
                await to.send_and_wait(topics.clicks, encode(click(number)), key=b"ann")
                await to.send_and_wait(topics.scores, encode(score(number)), key=b"ann")
            for number in range(30):
                await to.send(topics.outcomes, encode(outcome(number)), key=b"ann")
            await to.send_and_wait(topics.dead, dead_value, key=dead_key, headers=dead_headers)
            await to.send_and_wait(topics.dead, b"", headers=drop_record([Origin(topics.clicks, 0, 9)])[2])
            await to.flush()
            seen = await snapshot_when(
                aggregator,
                lambda shot: bool(shot.sessions and shot.quality and shot.dead.reasons) and len(shot.sessions[0].steps) == 3,
            )
    assert seen.feed.state == "live"
    assert [step.type for step in seen.sessions[0].steps] == ["view", "view", "purchase"]
    assert seen.sessions[0].bought
    assert [step.p for step in seen.sessions[0].steps] == pytest.approx([0.2, 0.3, 0.4])
    assert seen.quality[0].logloss == pytest.approx(0.6931, abs=1e-3)
    assert seen.dead.reasons == [("not_json", 1)]
    assert [(swap.version, swap.why) for swap in seen.versions.swaps] == [("7", "better")]


async def test_reading_starts_a_little_back(kafka: str, topics: TopicSettings) -> None:
    """What happened in the two minutes before the page was opened is on it; what is older is not."""
    async with producer(kafka) as to:
        await to.send_and_wait(topics.clicks, encode(click(0)), key=b"ann", timestamp_ms=now_ms() - 600_000)
        await to.send_and_wait(topics.clicks, encode(click(1)), key=b"ann", timestamp_ms=now_ms() - 20_000)
        async with following(settings_for(kafka, topics)) as aggregator:
            seen = await snapshot_when(aggregator, lambda shot: any(shot.traffic.series))
    assert sum(seen.traffic.series) == 1
    assert sum(seen.traffic.series[-30:-10]) == 1


async def test_topics_that_come_later_are_found(kafka: str, topic_names: TopicSettings) -> None:
    """The console may be started before the worker: it names what is missing, makes nothing, and goes on by itself."""
    async with following(settings_for(kafka, topic_names)) as aggregator, producer(kafka) as to:
        waiting = await snapshot_when(aggregator, lambda shot: shot.feed.state == "waiting")
        assert topic_names.clicks in waiting.feed.detail
        await asyncio.to_thread(create_topics, kafka, standard_topics(topic_names))
        await snapshot_when(aggregator, lambda shot: shot.feed.state == "live")
        await to.send_and_wait(topic_names.clicks, encode(click(0)), key=b"ann")
        await snapshot_when(aggregator, lambda shot: sum(shot.traffic.series) == 1)


async def test_too_much_to_read_is_counted_and_skipped(
    kafka: str, topics: TopicSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far behind, the console jumps to now: every record is counted, few are read, and the page says so."""
    monkeypatch.setattr(feed_module, "_MAX_BEHIND", 500)
    many = 6_000
    async with producer(kafka) as to:
        for number in range(many):
            await to.send(topics.clicks, encode(click(number)), key=b"ann", timestamp_ms=now_ms())
        await to.flush()
        async with following(settings_for(kafka, topics)) as aggregator:
            seen = await snapshot_when(aggregator, lambda shot: shot.feed.skipped > 0 and any(shot.traffic.series))
    # One partition holds them all; the look-back takes the newest 5,000 of it.
    assert seen.feed.skipped == 5_000
    assert sum(seen.traffic.series) == 5_000


async def test_a_kafka_that_is_away_is_named(topic_names: TopicSettings) -> None:
    """Without a broker the page says which address does not answer."""
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody_listens.getsockname()[1]}"
        async with following(settings_for(address, topic_names)) as aggregator:
            seen = await snapshot_when(aggregator, lambda shot: shot.feed.state == "lost")
    assert address in seen.feed.detail


async def test_a_kafka_that_goes_away_comes_back_by_itself(tmp_path: Path) -> None:
    """When the broker stops the page says so within seconds; when it is back, so is the page, without a record lost."""
    with LocalStack(tmp_path, with_triton=False, with_prometheus=False) as stack:
        topics = TopicSettings()
        await asyncio.to_thread(stack.create_topics, standard_topics(topics))
        async with following(settings_for(stack.addresses.kafka, topics)) as aggregator:
            await snapshot_when(aggregator, lambda shot: shot.feed.state == "live")
            assert stack.kafka is not None
            await asyncio.to_thread(stack.kafka.stop)
            await snapshot_when(aggregator, lambda shot: shot.feed.state == "lost")
            await asyncio.to_thread(stack.kafka.launch, print)
            await asyncio.to_thread(stack.kafka.wait_ready)
            async with producer(stack.addresses.kafka) as to:
                await to.send_and_wait(topics.clicks, encode(click(0)), key=b"ann")
            await snapshot_when(aggregator, lambda shot: shot.feed.state == "live" and sum(shot.traffic.series) == 1, within_s=30)
