"""The right to write a partition's changelog: one worker has it at a time, and Kafka sees to that."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from worker import kafka, metrics
from worker.errors import OwnershipError, StateError
from worker.send import Record, send_packed
from worker.settings import Settings
from worker.store import Change

#: Makes a producer from aiokafka's arguments: `AIOKafkaProducer`, or what behaves like it.
Connect = Callable[..., Any]
NOTHING: Mapping[str, Sequence[Record]] = MappingProxyType({})

#: State goes out as one Kafka record batch, so it must fit whole.
STATE_BYTES = 12_000_000
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
        self._topic = settings.topics.changelog
        self._partition = partition
        self._producer = connect(
            **kafka.connection(settings.kafka),
            acks="all",
            linger_ms=0,
            max_batch_size=STATE_BYTES,
            max_request_size=STATE_BYTES,
            # The changelog's name too: groups that keep their state apart must not shut each other out.
            transactional_id=f"{settings.worker.group}.{self._topic}.{partition}",
            transaction_timeout_ms=_UNFINISHED_MS,
        )

    async def open(self) -> None:
        """Become the owner. Raises KafkaError when no broker answers."""
        await self._producer.start()

    async def write(self, state: Sequence[Change], others: Mapping[str, Sequence[Record]] = NOTHING) -> None:
        """Append state to the changelog as a whole, and with it `others` to the same partition of other topics. Returns when
        Kafka has confirmed it. Waits for a broker that is away.

        State is one record batch, though a transaction could hold several: an end of the transaction before, sent twice and
        late the second time, may end this one early. Kafka knows them apart only with clients newer than ours (KIP-890).

        Raises StateError when it is too large, and OwnershipError when another worker has become the owner: nothing is
        written then, and never will be by this one.
        """
        producer = self._producer
        pack = producer.create_batch()
        for key, value in state:
            if pack.append(key=key, value=value, timestamp=None) is None:
                raise StateError(f"a batch changed more than {STATE_BYTES} bytes of sessions: lower INKLING_WORKER__MAX_BATCH")
        metrics.state_bytes.inc(pack.size())
        try:
            await producer.begin_transaction()
            await asyncio.gather(*(send_packed(producer, name, self._partition, records) for name, records in others.items()))
            await (await producer.send_batch(pack, self._topic, partition=self._partition))
            await producer.commit_transaction()
        except KafkaError as error:
            # aiokafka has tried again whatever is worth it, so this is final. An unfinished write is never read.
            raise OwnershipError(
                f"partition {self._partition} of {self._topic} has another owner now, or Kafka refuses its state ({error!r}): "
                "start this worker again"
            ) from error

    async def close(self) -> None:
        """Let go of the connection. A write that was cut short is undone by the next owner."""
        await self._producer.stop()
