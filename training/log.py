"""The clicks topic as the worker read it: every event with the partition and offset that it was folded at."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Iterator

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError

from training.read import LoggedEvent
from worker.contract.codec import decode
from worker.contract.events import InvalidRecord, Reason
from worker.errors import DeliveryError
from worker.settings import Settings
from worker.topic import records_to_end, whole_topic

log = logging.getLogger(__name__)


class ClickLog:
    """Iterates over the topic from its beginning, or its newest `newest` records, to what is its end when iteration starts.

    Within a partition events come in the order of their offsets, which is all that the fold asks for; partitions are mixed
    as Kafka hands them over. Only one batch is in memory at a time; what is kept of it is up to the caller.
    What the worker sends to the dead letters is left out here as well, by the same rules, and counted in `invalid`.

    Beginning in the middle, because of `newest` or because Kafka has deleted older segments, sessions and counters start
    empty there: the first events have fewer counts than the worker saw. Leave room for that ahead of what is evaluated.

    Iterating raises DeliveryError when Kafka cannot be read. It runs an event loop of its own: not for use inside another.
    """

    def __init__(self, settings: Settings, newest: int | None = None) -> None:
        self.invalid: Counter[Reason] = Counter()
        self._kafka = settings.kafka
        self._topic = settings.topics.clicks
        self._max_future_ms = round(settings.session.max_future_s * 1000)
        self._newest = newest

    def __iter__(self) -> Iterator[LoggedEvent]:
        self.invalid.clear()
        with asyncio.Runner() as runner:
            batches = self._batches()
            try:
                while (records := runner.run(_next(batches))) is not None:
                    yield from self._events(records)
            except KafkaError as error:
                raise DeliveryError(f"cannot read {self._topic} at {self._kafka.bootstrap_servers}: {error}") from error
            finally:
                runner.run(_close(batches))

    async def _batches(self) -> AsyncGenerator[list[ConsumerRecord], None]:
        async with whole_topic(self._kafka, self._topic) as consumer:
            if self._newest is not None:
                await _skip_to_newest(consumer, self._newest)
            async for records in records_to_end(consumer):
                yield records

    def _events(self, records: list[ConsumerRecord]) -> Iterator[LoggedEvent]:
        for record in records:
            event = decode(record.value, record.key, record.timestamp, self._max_future_ms)
            if isinstance(event, InvalidRecord):
                self.invalid[event.reason] += 1
            else:
                yield LoggedEvent(event, record.partition, record.offset)


async def _next(batches: AsyncGenerator[list[ConsumerRecord], None]) -> list[ConsumerRecord] | None:
    return await anext(batches, None)


async def _close(batches: AsyncGenerator[list[ConsumerRecord], None]) -> None:
    await batches.aclose()


async def _skip_to_newest(consumer: AIOKafkaConsumer, newest: int) -> None:
    """Leave out the older records, in each partition the same share of the log's length."""
    partitions = consumer.assignment()
    begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    total = sum(ends[tp] - begins[tp] for tp in partitions)
    share = min(newest / total, 1.0) if total else 1.0
    for tp in partitions:
        consumer.seek(tp, ends[tp] - round(share * (ends[tp] - begins[tp])))
    if share < 1:
        log.info("reading the newest %d of %d records", newest, total)
