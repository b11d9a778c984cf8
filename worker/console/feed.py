"""Kafka into the aggregator: five topics, no consumer group, never far behind.

Reading starts a little back, so that the page is not empty when it opens. When more arrives than can be read, the rest is counted
but not read: the page shows now, not the past.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.consumer.consumer import ConsumerRecord
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from worker.console.state import WINDOW_S, Aggregator, Column, PointerRecord
from worker.contract.codec import decode
from worker.contract.events import OutcomeEvent, ScoreEvent
from worker.dead import parse_dead, parse_dropped
from worker.kafka import connection
from worker.settings import Settings

_log = structlog.get_logger(__name__)

#: How often topics and end offsets are looked up: finds new topics, a lost broker, and records to skip.
_PULSE_S = 2.0
#: The broker is called lost when it did not answer for so long.
_ANSWER_S = 4.0
#: Behind by more than this on one partition, the rest is skipped.
_MAX_BEHIND = 20_000
# Records handled before others get their turn on the loop: about 20 ms.
_AT_ONCE = 2_000
# What an absent broker shows itself by.
_AWAY = (KafkaError, OSError, TimeoutError)


@dataclass(frozen=True)
class _Source:
    """One topic: how many records of each partition are read back at most, and what a record does."""

    topic: str
    look_back: int
    column: Column | None
    handle: Callable[[ConsumerRecord, int], None]


class Feed:
    """Follows the topics until it is cancelled, whatever happens to the broker."""

    def __init__(self, settings: Settings, aggregator: Aggregator) -> None:
        topics = settings.topics
        self._settings = settings
        self._aggregator = aggregator
        self._max_future_ms = int(settings.session.max_future_s * 1000)
        self._scores = msgspec.json.Decoder(ScoreEvent)
        self._outcomes = msgspec.json.Decoder(OutcomeEvent)
        self._pointers = msgspec.json.Decoder(PointerRecord)
        sources = (
            _Source(topics.clicks, 5_000, "events", self._click),
            _Source(topics.scores, 5_000, "scores", self._score),
            _Source(topics.outcomes, 10_000, "outcomes", self._outcome),
            _Source(topics.dead, 1_000, "dead", self._dead),
            _Source(topics.control, 1_000, None, self._pointer),
        )
        self._sources = {source.topic: source for source in sources}
        self._answers = True
        self._next: dict[TopicPartition, int] = {}  # where to go on

    async def run(self) -> None:
        """Connects and follows. Once connected, the clients find a broker that comes back by themselves."""
        while True:
            client = connection(self._settings.kafka)
            admin = AIOKafkaAdminClient(**client)
            consumer = AIOKafkaConsumer(**client, enable_auto_commit=False, fetch_max_wait_ms=250, max_poll_records=_AT_ONCE)
            try:
                await admin.start()
                await consumer.start()
                await self._follow(admin, consumer)
            except _AWAY as error:
                self._lost(error)
            finally:
                await _stopped(consumer.stop())
                await _stopped(admin.close())
            await asyncio.sleep(_PULSE_S)

    async def _follow(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
        pulse_at = 0.0
        while True:
            if time.monotonic() >= pulse_at:
                try:
                    async with asyncio.timeout(_ANSWER_S):
                        await self._pulse(admin, consumer)
                except _AWAY as error:
                    self._lost(error)
                pulse_at = time.monotonic() + _PULSE_S
            if not consumer.assignment():
                await asyncio.sleep(_PULSE_S)
                continue
            batches = await consumer.getmany(timeout_ms=200)
            now_ms = _now_ms()
            for partition, records in batches.items():
                self._take(partition.topic, records, now_ms)
                self._next[partition] = records[-1].offset + 1
            await asyncio.sleep(0)

    def _lost(self, error: Exception) -> None:
        where = self._settings.kafka.bootstrap_servers
        if self._answers:
            _log.warning("Kafka does not answer, trying again", servers=where, error=repr(error))
        self._answers = False
        self._aggregator.connection("lost", f"Kafka does not answer at {where}. Trying again.")

    async def _pulse(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
        # All topics, not ours by name: asking for one by name may make it.
        there = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
        missing = [topic for topic in self._sources if topic not in there]
        partitions = {
            TopicPartition(topic, partition["partition"]) for topic in self._sources for partition in there.get(topic, ())
        }
        if partitions != consumer.assignment():
            await self._assign(consumer, partitions)
        if partitions:
            await self._skip(consumer, partitions)
        self._answers = True
        if missing:
            self._aggregator.connection("waiting", f"Not there yet: {', '.join(missing)}. The worker makes them when it starts.")
        else:
            self._aggregator.connection("live", f"Kafka at {self._settings.kafka.bootstrap_servers}")

    async def _assign(self, consumer: AIOKafkaConsumer, partitions: set[TopicPartition]) -> None:
        new = partitions - self._next.keys()
        begin, end = await consumer.beginning_offsets(list(new)), await consumer.end_offsets(list(new))
        since_ms = _now_ms() - WINDOW_S * 1000
        timed = [
            partition for partition in new if partition.topic in (self._settings.topics.clicks, self._settings.topics.scores)
        ]
        recent = await consumer.offsets_for_times(dict.fromkeys(timed, since_ms)) if timed else {}
        consumer.assign(list(partitions))
        for partition in new:
            start = end[partition] - self._sources[partition.topic].look_back
            if partition in recent:
                found = recent[partition]
                start = max(start, end[partition] if found is None else found.offset)
            self._next[partition] = max(start, begin[partition])
        for partition in partitions:
            consumer.seek(partition, self._next[partition])

    async def _skip(self, consumer: AIOKafkaConsumer, partitions: set[TopicPartition]) -> None:
        end = await consumer.end_offsets(list(partitions))
        for partition in partitions:
            source = self._sources[partition.topic]
            behind = end[partition] - self._next[partition]
            if source.column is not None and behind > _MAX_BEHIND:
                self._go_to(consumer, partition, end[partition])
                self._aggregator.skip(source.column, behind, _now_ms())
            elif behind < 0:
                # The topic was made anew: its offsets count from the beginning again.
                self._go_to(consumer, partition, 0)

    def _go_to(self, consumer: AIOKafkaConsumer, partition: TopicPartition, offset: int) -> None:
        consumer.seek(partition, offset)
        self._next[partition] = offset

    def _take(self, topic: str, records: list[ConsumerRecord], now_ms: int) -> None:
        handle = self._sources[topic].handle
        for record in records:
            try:
                handle(record, min(record.timestamp, now_ms))
            except (msgspec.DecodeError, UnicodeError):
                # Somebody else's record on our topic. The page is no place to judge it; `inkling audit` is.
                continue

    def _click(self, record: ConsumerRecord, at_ms: int) -> None:
        self._aggregator.click(decode(record.value, record.key, record.timestamp, self._max_future_ms), at_ms)

    def _score(self, record: ConsumerRecord, at_ms: int) -> None:
        self._aggregator.score(self._scores.decode(record.value or b""), at_ms)

    def _outcome(self, record: ConsumerRecord, at_ms: int) -> None:
        self._aggregator.outcome(self._outcomes.decode(record.value or b""), at_ms)

    def _dead(self, record: ConsumerRecord, at_ms: int) -> None:
        if parse_dropped(record.headers):
            return
        letter = parse_dead(record.value, record.key, record.headers)
        self._aggregator.dead(letter.reason if letter else None, at_ms)

    def _pointer(self, record: ConsumerRecord, at_ms: int) -> None:
        if record.key == self._settings.model.name.encode():
            self._aggregator.pointer(self._pointers.decode(record.value or b""))


async def _stopped(stopping: Coroutine[Any, Any, None]) -> None:
    """Waits until a client is stopped, whatever comes of it: with the broker away, aiokafka's own fetch tasks may raise
    CancelledError out of `stop()`, which would pass for a cancellation of ours."""
    await asyncio.gather(asyncio.wait_for(stopping, _ANSWER_S), return_exceptions=True)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
