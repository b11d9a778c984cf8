"""One partition's three steps, each a task with a bounded queue before it, in order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from aiokafka.consumer.consumer import ConsumerRecord
from aiokafka.structs import TopicPartition

#: Batches that may wait for the first step: one, so that it never starves and memory stays small.
_WAITING_BATCHES = 1
#: Events without a score with which another batch is taken: so that the next is folded while small ones are scored, and so
#: that it never is long until all that was taken is scored, when the partition goes to another worker.
_UNSCORED_EVENTS = 256
#: Batches that may wait to be published, and are then published as one: the dearer a publication is beside a batch, the
#: fewer there are of them.
_PUBLISHED_AT_ONCE = 8


class Ending(Protocol):
    """What steps make of a batch."""

    @property
    def next_offset(self) -> int: ...


P = TypeVar("P", bound=Ending)
S = TypeVar("S", bound=Ending)


class Steps(Protocol[P, S]):
    """What is done with the batches of one partition."""

    def prepare(self, records: list[ConsumerRecord]) -> P:
        """The first step: CPU, never waits."""

    async def score(self, batch: P) -> S:
        """The second step, for one batch after the other."""

    async def publish(self, batches: Sequence[S]) -> None:
        """The last step, for all batches that have come to it meanwhile. They are finished when it returns."""


class Lane(Generic[P, S]):
    """Takes batches of one partition; their steps overlap for successive batches.

    An exception in any ends the lane and is given to `fail`; what it was about is not counted as finished.
    """

    def __init__(
        self,
        partition: TopicPartition,
        next_offset: int,
        steps: Steps[P, S],
        fail: Callable[[BaseException], None],
        room: asyncio.Event,
    ) -> None:
        self.partition = partition
        self.taken = next_offset  # below this, records were taken
        self.finished = next_offset  # below this, records are done with
        self.idle = asyncio.Event()
        self.idle.set()
        self._first_ms: deque[int] = deque()  # Kafka timestamp of the first record of each batch that is not finished
        self._unscored: deque[int] = deque()  # events of each batch that has no scores yet
        self._room = room
        self._incoming: asyncio.Queue[list[ConsumerRecord]] = asyncio.Queue(_WAITING_BATCHES)
        self._prepared: asyncio.Queue[P] = asyncio.Queue(1)
        self._scored: asyncio.Queue[S] = asyncio.Queue(_PUBLISHED_AT_ONCE)
        work = (self._prepare(steps), self._score(steps), self._publish(steps))
        self._tasks = [asyncio.create_task(_guarded(step, fail)) for step in work]

    @property
    def has_room(self) -> bool:
        """Whether `take` may be called."""
        return not self._incoming.full() and sum(self._unscored) <= _UNSCORED_EVENTS

    @property
    def oldest_ms(self) -> int | None:
        """The Kafka timestamp of the oldest record that is not finished."""
        return self._first_ms[0] if self._first_ms else None

    def take(self, records: list[ConsumerRecord]) -> None:
        """Queue a batch. Raises QueueFull if there is no room."""
        self._incoming.put_nowait(records)
        self._first_ms.append(records[0].timestamp)
        self._unscored.append(len(records))
        self.taken = records[-1].offset + 1
        self.idle.clear()

    async def close(self) -> None:
        """Give up what is not finished."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _prepare(self, steps: Steps[P, S]) -> None:
        while True:
            records = await self._incoming.get()
            self._room.set()
            await self._prepared.put(steps.prepare(records))

    async def _score(self, steps: Steps[P, S]) -> None:
        while True:
            batch = await steps.score(await self._prepared.get())
            self._unscored.popleft()
            self._room.set()
            await self._scored.put(batch)

    async def _publish(self, steps: Steps[P, S]) -> None:
        while True:
            batches = [await self._scored.get()]
            while not self._scored.empty():
                batches.append(self._scored.get_nowait())
            await steps.publish(batches)
            self.finished = batches[-1].next_offset
            for _ in batches:
                self._first_ms.popleft()
            if self.finished == self.taken:
                self.idle.set()


async def _guarded(steps: Awaitable[Any], fail: Callable[[BaseException], None]) -> None:
    try:
        await steps
    except Exception as error:
        fail(error)
