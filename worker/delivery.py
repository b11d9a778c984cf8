"""Publishing a batch in the one order that loses nothing."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from structlog import get_logger
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from worker import kafka, metrics
from worker.errors import DeliveryError, StateError
from worker.settings import Settings
from worker.store import Change

log = get_logger()

#: Records of one topic are packed up to this size: small batches cost, large ones delay.
_RECORDS_BYTES = 900_000
#: A batch's state goes out as one Kafka record batch, so it must fit whole.
_STATE_BYTES = 12_000_000

#: One record to send: key, value, headers.
Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]


class Delivery:
    """At-least-once with ids that make copies harmless:

    1. the batch's scores and dead letters are confirmed by the broker,
    2. then its changed state, in one piece,
    3. then the caller may count the batch's offsets as finished, and they are committed.

    Never 2 before 1: state says that everything below its offset has a score. Never 3 before 2.
    A failure at any step starts again at 1; score ids and values are the same, so copies do no harm.
    """

    def __init__(self, settings: Settings) -> None:
        self._topics = settings.topics
        common: dict[str, Any] = {**kafka.connection(settings.kafka), "acks": "all", "linger_ms": 0}
        self._records = AIOKafkaProducer(**common, max_batch_size=_RECORDS_BYTES, max_request_size=_STATE_BYTES)
        self._state = AIOKafkaProducer(**common, max_batch_size=_STATE_BYTES, max_request_size=_STATE_BYTES)

    async def start(self) -> None:
        """Connect. Raises KafkaError when no broker answers."""
        await self._records.start()
        await self._state.start()

    async def stop(self) -> None:
        """Close the connections; what was not confirmed is sent again by whoever owns the partition next."""
        await self._records.stop()
        await self._state.stop()

    async def publish(self, partition: int, scores: list[Record], dead: list[Record], state: list[Change]) -> None:
        """Steps 1 and 2 for one batch, tried until they succeed. The caller does step 3."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(DeliveryError),
            wait=wait_exponential(multiplier=0.1, max=5),
            before_sleep=lambda _: metrics.delivery_retries.inc(),
        ):
            with attempt:
                try:
                    # 1 scores and dead letters
                    await asyncio.gather(
                        self._send(self._topics.scores, partition, scores), self._send(self._topics.dead, partition, dead)
                    )
                    # 2 state
                    await self._send_whole(partition, state)
                except (KafkaError, TimeoutError) as error:
                    log.warning("Kafka did not confirm a batch, sending it again", partition=partition, error=repr(error))
                    raise DeliveryError(str(error)) from error

    async def _send(self, topic: str, partition: int, records: list[Record]) -> None:
        confirmations = []
        builder = self._records.create_batch()
        for key, value, headers in records:
            if builder.append(key=key, value=value, timestamp=None, headers=headers) is None:
                confirmations.append(await self._records.send_batch(builder, topic, partition=partition))
                builder = self._records.create_batch()
                if builder.append(key=key, value=value, timestamp=None, headers=headers) is None:
                    # Larger than a whole batch: aiokafka sends a single record of any size that the broker takes.
                    confirmations.append(await self._records.send(topic, value, key=key, headers=headers, partition=partition))
        if builder.record_count():
            confirmations.append(await self._records.send_batch(builder, topic, partition=partition))
        await asyncio.gather(*confirmations)

    async def _send_whole(self, partition: int, state: list[Change]) -> None:
        builder = self._state.create_batch()
        for key, value in state:
            if builder.append(key=key, value=value, timestamp=None) is None:
                raise StateError(f"a batch changed more than {_STATE_BYTES} bytes of sessions: lower INKLING_WORKER__MAX_BATCH")
        metrics.state_bytes.inc(builder.size())
        await (await self._state.send_batch(builder, self._topics.changelog, partition=partition))
