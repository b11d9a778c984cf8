"""Single clicks, read again from their topic by offset.

A session keeps what the model sees of its events, and not what they are called: an id of each in the state would be a third of
it. Those who need more are few: scores made anew after a late event, and the clicks before a login.
"""

import asyncio
from collections.abc import Mapping, Sequence, Set
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from structlog import get_logger
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from worker.contract.codec import decode
from worker.contract.events import ClickEvent
from worker.kafka import connection
from worker.settings import Settings

log = get_logger()

#: Clicks of one session mostly lie close together; what is not among so many is asked for by itself.
_AT_ONCE = 500
_POLL_MS = 500
_FETCH_BYTES = 256 * 1024


class ClickLog(Protocol):
    """The clicks topic, asked for single records (`KafkaClicks`)."""

    async def events(self, partition: int, offsets: Set[int]) -> Mapping[int, ClickEvent]:
        """These clicks, by offset. Those that have left the topic are left out."""


class KafkaClicks:
    """Reads clicks by offset. The connection is made when it is first needed, as most workers hardly ever need it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._max_future_ms = int(settings.session.max_future_s * 1000)
        self._consumer: AIOKafkaConsumer | None = None
        self._turn = asyncio.Lock()  # one partition's question at a time: there is one place where the consumer stands

    async def events(self, partition: int, offsets: Set[int]) -> dict[int, ClickEvent]:
        """As `ClickLog` says; waits for Kafka as long as it is away."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((KafkaError, TimeoutError)),
            wait=wait_exponential(multiplier=0.1, max=5),
            before_sleep=_tell,
        ):
            with attempt:
                async with self._turn:
                    return await self._read(TopicPartition(self._settings.topics.clicks, partition), sorted(offsets))
        raise AssertionError("it is tried until there is an answer")

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def _read(self, tp: TopicPartition, offsets: Sequence[int]) -> dict[int, ClickEvent]:
        consumer = await self._connected()
        consumer.assign([tp])
        start = (await consumer.beginning_offsets([tp]))[tp]
        found: dict[int, ClickEvent] = {}
        seen = start - 1
        for offset in offsets:
            if offset <= seen:
                continue
            consumer.seek(tp, offset)
            while seen < offset:
                # There is a later record in any case: the one that made somebody ask.
                for record in (await consumer.getmany(tp, timeout_ms=_POLL_MS, max_records=_AT_ONCE)).get(tp, ()):
                    seen = record.offset
                    event = decode(record.value, record.key, record.timestamp, self._max_future_ms)
                    if isinstance(event, ClickEvent):
                        found[seen] = event
        return {offset: found[offset] for offset in offsets if offset in found}

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **connection(self._settings.kafka),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=_FETCH_BYTES,
            )
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            self._consumer = consumer
        return self._consumer


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("cannot read clicks again, trying once more", error=repr(error))
