"""Publishing a batch in the one order that loses nothing."""

import asyncio
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from structlog import get_logger
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from worker import kafka, metrics
from worker.errors import DeliveryError
from worker.owner import PACK_BYTES, Connect, Owner
from worker.record_batch import Records, record_batches
from worker.send import Record, by_partition, packed
from worker.settings import Settings

log = get_logger()

#: A single record may be larger.
_RECORD_BYTES = 12_000_000
#: How long to wait at the end for connections that are still closing.
_CLOSE_S = 5.0


class Delivery:
    """At-least-once with ids that make copies harmless:

    1. the batch's scores, dead letters and copies of clicks are confirmed by the broker, tried again until they are (`publish`),
    2. then its changed state, in one piece, by the partition's one owner (`keep`), for several batches together if need be,
    3. then the caller may count the batch's offsets as finished, and they are committed.

    Never 2 before 1: state says that everything below its offset has a score. Never 3 before 2.
    Whoever goes on after a failure begins at 1; score ids and values are the same, so copies do no harm.

    Exactly once, if the settings ask for it: 1 and 2 are one transaction of the partition's owner. Readers of what is
    committed then see no copies at all, and each score only when the state that counts it in is safe, too.
    """

    def __init__(self, settings: Settings, connect: Connect = AIOKafkaProducer, pack_bytes: int = PACK_BYTES) -> None:
        self._settings = settings
        self._connect = connect
        self._pack_bytes = pack_bytes
        self._records = connect(
            **kafka.connection(settings.kafka),
            acks="all",
            linger_ms=0,
            max_batch_size=pack_bytes,
            max_request_size=_RECORD_BYTES,
        )
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect. Raises KafkaError when no broker answers."""
        await self._records.start()

    async def stop(self) -> None:
        """Close the connections; what was not confirmed is sent again by whoever owns the partition next."""
        await self._records.stop()
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSE_S)

    async def own(self, partition: int) -> Owner:
        """Become the partition's owner. Only what is read from the changelog after this is sure to last."""
        owner = Owner(self._settings, partition, self._connect)
        try:
            await owner.open()
        except BaseException:
            self.disown(owner)
            raise
        return owner

    def disown(self, owner: Owner) -> None:
        """Let go of a partition, without waiting: the broker may be away, and nobody depends on it."""
        closing = asyncio.create_task(owner.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    @property
    def at_once(self) -> bool:
        """Whether `keep` does step 1 as well."""
        return self._settings.worker.delivery == "exactly_once"

    async def publish(self, partition: int, scores: Records, dead: list[Record], copies: Sequence[Record]) -> None:
        """Step 1, unless `keep` does it. The partition is that of scores and dead letters; copies go by their keys."""
        if self.at_once:
            return
        topics = self._settings.topics
        left: dict[tuple[str, int], Callable[[], Iterable[Any]]] = {
            (topics.scores, partition): lambda: record_batches(scores, False, self._pack_bytes),
            (topics.dead, partition): lambda: packed(self._records, dead),
        }
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((DeliveryError, KafkaError)),
            wait=wait_exponential(multiplier=0.1, max=5),
            before_sleep=lambda _: metrics.delivery_retries.inc(),
        ):
            with attempt:
                for number, some in (await by_partition(self._records, topics.clicks, copies)).items():
                    left[topics.clicks, number] = functools.partial(packed, self._records, some)
                copies = ()
                # While one topic is away, another is not filled with what it has already.
                answers = await asyncio.gather(
                    *(self._send(*place, packs()) for place, packs in left.items()), return_exceptions=True
                )
                left = {place: left[place] for place, answer in zip(list(left), answers, strict=True) if answer is not None}
                for error in filter(None, answers):
                    if not isinstance(error, KafkaError | TimeoutError):
                        raise error
                    log.warning("Kafka did not confirm a batch, sending it again", partition=partition, error=repr(error))
                    raise DeliveryError(str(error)) from error

    async def keep(self, owner: Owner, scores: Records, dead: list[Record], copies: Sequence[Record], state: Records) -> None:
        """Step 2; the caller does step 3. Raises OwnershipError when the partition has moved."""
        if self.at_once:
            await owner.write(state, scores, dead, copies)
        else:
            await owner.write(state)

    async def _send(self, topic: str, partition: int, packs: Iterable[Any]) -> None:
        """Send packs, each confirmed before the next is sent: what is sent again must not fall behind what comes after."""
        for pack in packs:
            await (await self._records.send_batch(pack, topic, partition=partition))
