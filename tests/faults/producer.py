"""aiokafka's producer, and any other request, over a connection that loses and delays."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError
from aiokafka.record import MemoryRecords

from tests.faults.broker import Broker, Payload
from tests.faults.clicks import PARTITIONS
from tests.faults.network import Network, Process
from worker.record_batch import RecordBatch

T = TypeVar("T")

#: Records that fit a batch of dead letters, and bytes that fit one of scores, which is about as many: few, so that a batch of
#: events goes out in several requests.
_RECORDS_A_BATCH, PACK_BYTES = 3, 2200
_RETRY_S = 0.05


class Link:
    """A process's connection to the broker."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process

    async def call(self, act: Callable[[], T], sent: str = "") -> T:
        """One request: `act` is what it does at the broker, `sent` the failpoint right after that.

        Raises KafkaError when no answer comes, and then it may have been done, or be done later.
        """
        await self._process.awake()
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def arrive(heard: bool) -> None:
            result, failure = None, None
            try:
                result = act()
            except KafkaError as error:
                failure = error
            else:
                if sent:
                    self._process.reach(sent)
            if heard:
                self._network.answer(answer, result, failure)

        self._network.send(arrive, answer)
        try:
            result = await answer
        except KafkaError:
            await self._process.awake()
            raise
        await self._process.awake()
        return result

    async def insist(self, act: Callable[[], T], sent: str = "") -> T:
        """A request that is sent until it is answered: `act` must bear copies."""
        while True:
            try:
                return await self.call(act, sent)
            except (RequestTimedOutError, KafkaConnectionError):
                await asyncio.sleep(_RETRY_S)


class Builder:
    """A batch to be filled."""

    def __init__(self, room: int) -> None:
        self.payloads: list[Payload] = []
        self._room = room

    def append(
        self, *, key: bytes | None, value: bytes | None, timestamp: None, headers: Sequence[tuple[str, bytes | None]] = ()
    ) -> object | None:
        if len(self.payloads) == self._room:
            return None
        self.payloads.append((key, value, headers))
        return self

    def record_count(self) -> int:
        return len(self.payloads)

    def size(self) -> int:
        return sum(len(value or b"") for _, value, _ in self.payloads)


def _payloads(batch: RecordBatch) -> list[Payload]:
    """The records of a finished batch, as aiokafka's consumer reads them."""
    read = MemoryRecords(bytes(batch._build()))
    payloads: list[Payload] = []
    while read.has_next():
        payloads += [(record.key, record.value, ()) for record in read.next_batch()]
    return payloads


class FakeProducer:
    """What Delivery and Owner use of `AIOKafkaProducer`. Requests to one partition go out one after another."""

    def __init__(self, link: Link, process: Process, broker: Broker, transactional_id: str | None = None, **_: Any) -> None:
        self._link = link
        self._process = process
        self._broker = broker
        self._id = transactional_id
        self._epoch = -1
        self.room = _RECORDS_A_BATCH if transactional_id is None else 1_000_000
        self._sequence = 0
        self._transaction = 0
        self._order: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._sending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        name = self._id
        if name is not None:
            self._epoch = await self._link.insist(lambda: self._broker.open(name), "owned")

    async def stop(self) -> None:
        await self._process.awake()

    async def partitions_for(self, _: str) -> set[int]:
        return set(range(PARTITIONS))

    def create_batch(self) -> Builder:
        return Builder(self.room)

    async def send_batch(self, batch: Builder | RecordBatch, topic: str, *, partition: int) -> "asyncio.Future[None]":
        """The future is the request's answer; giving it up does not call the request back."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        payloads = batch.payloads if isinstance(batch, Builder) else _payloads(batch)
        sending = asyncio.create_task(self._send(payloads, topic, partition, answer))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)
        return answer

    async def begin_transaction(self) -> None:
        self._process.reach("scores-confirmed")
        await self._process.awake()

    async def commit_transaction(self) -> None:
        name, epoch, number = self._id, self._epoch, self._transaction
        self._transaction += 1
        if name is not None:
            await self._link.insist(lambda: self._broker.commit(name, epoch, number), "state-committed")
        self._process.reach_soon("state-confirmed")

    async def _send(self, payloads: list[Payload], topic: str, partition: int, answer: "asyncio.Future[None]") -> None:
        name, epoch = self._id, self._epoch
        try:
            async with self._order[topic, partition]:
                if name is None:
                    await self._link.call(lambda: self._broker.produce(topic, partition, payloads), "scores-sent")
                else:
                    self._sequence += 1
                    number = self._sequence
                    await self._link.insist(lambda: self._broker.begin(name, epoch))
                    write = (name, epoch, number, topic, partition, payloads)
                    await self._link.insist(lambda: self._broker.write(*write), "state-sent")
        except KafkaError as error:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # seen, even if whoever asked has been given up
        else:
            if not answer.done():
                answer.set_result(None)
