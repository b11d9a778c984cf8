"""The right to write a partition's changelog: one worker has it at a time, and Kafka sees to that."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from worker import kafka, metrics
from worker.errors import OwnershipError, StateError
from worker.record_batch import Records, record_batches
from worker.send import Record, by_partition, send_packed
from worker.settings import Settings

#: Makes a producer from aiokafka's arguments: `AIOKafkaProducer`, or what behaves like it.
Connect = Callable[..., Any]

_NOTHING = Records.of([])

#: Scores go out in Kafka record batches of up to this size: small ones cost, large ones delay.
PACK_BYTES = 900_000
#: State goes out as one Kafka record batch, so it must fit whole: more than the settings let a batch of events change.
STATE_BYTES = 20_000_000
#: How long Kafka keeps a write that was begun before it undoes it and shuts its writer out: Kafka's own upper limit, as
#: a broker that was away must find us still the owner. The next owner undoes it at once.
_UNFINISHED_MS = 900_000


class Owner:
    """Writes one partition's changelog, and is the only one that can.

    A worker that was paused or cut off does not know that its partitions have moved, and a request that was given up may
    still reach the broker. What such a late write holds would land behind newer state and, once compacted, replace it.
    So all owners of a partition use the same transactional id: when one opens it, Kafka undoes what the owner before it
    had begun and refuses whatever that one sends from then on. What is read after `open` is all that there is.
    """

    def __init__(self, settings: Settings, partition: int, connect: Connect = AIOKafkaProducer) -> None:
        self._topics = settings.topics
        self._partition = partition
        self._producer = connect(
            **kafka.connection(settings.kafka),
            acks="all",
            linger_ms=0,
            max_batch_size=STATE_BYTES,
            max_request_size=STATE_BYTES,
            # The changelog's name too: groups that keep their state apart must not shut each other out.
            transactional_id=f"{settings.worker.group}.{settings.topics.changelog}.{partition}",
            transaction_timeout_ms=_UNFINISHED_MS,
        )

    async def open(self) -> None:
        """Become the owner. Raises KafkaError when no broker answers."""
        await self._producer.start()

    async def write(
        self, state: Records, scores: Records | None = None, dead: Sequence[Record] = (), copies: Sequence[Record] = ()
    ) -> None:
        """Append state to the changelog as a whole, and with it scores and dead letters to the same partition of their topics,
        and copies of clicks by their keys. Returns when Kafka has confirmed it. Waits for a broker that is away.

        State is one record batch, though a transaction could hold several: an end of the transaction before, sent twice and
        late the second time, may end this one early. Kafka knows them apart only with clients newer than ours (KIP-890).

        Raises StateError when it is too large, and OwnershipError when another worker has become the owner: nothing is
        written then, and never will be by this one.
        """
        producer, partition = self._producer, self._partition
        pack, *more = record_batches(state, True, STATE_BYTES)
        if more:
            raise StateError(f"a batch changed more than {STATE_BYTES} bytes of sessions: lower INKLING_WORKER__MAX_BATCH")
        metrics.state_bytes.inc(pack.size())
        try:
            await producer.begin_transaction()
            sent = [
                await producer.send_batch(some, self._topics.scores, partition=partition)
                for some in record_batches(scores or _NOTHING, True, PACK_BYTES)
            ]
            clicks = self._topics.clicks
            users = (await by_partition(producer, clicks, copies)).items()
            await asyncio.gather(
                *sent,
                send_packed(producer, self._topics.dead, partition, dead),
                *(send_packed(producer, clicks, number, some) for number, some in users),
            )
            await (await producer.send_batch(pack, self._topics.changelog, partition=partition))
            await producer.commit_transaction()
        except KafkaError as error:
            # aiokafka has tried again whatever is worth it, so this is final. An unfinished write is never read.
            raise OwnershipError(
                f"partition {partition} of {self._topics.changelog} has another owner now, or Kafka refuses its state "
                f"({error!r}): start this worker again"
            ) from error

    async def close(self) -> None:
        """Let go of the connection. A write that was cut short is undone by the next owner."""
        await self._producer.stop()
