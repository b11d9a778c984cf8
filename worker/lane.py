"""One partition's two steps, each a task with a bounded queue before it, in order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from aiokafka.consumer.consumer import ConsumerRecord
from aiokafka.structs import TopicPartition

#: Batches that may wait for the first step: one, so that it never starves and memory stays small.
_WAITING_BATCHES = 1


class Prepared(Protocol):
    """What the first step makes of a batch."""

    @property
    def next_offset(self) -> int: ...


B = TypeVar("B", bound=Prepared)


class Lane(Generic[B]):
    """Takes batches of one partition: `prepare` (CPU, never waits) and `finish` (waits) overlap for successive batches.

    An exception in either ends the lane and is given to `fail`; the batch is not counted as finished.
    """

    def __init__(
        self,
        partition: TopicPartition,
        next_offset: int,
        prepare: Callable[[list[ConsumerRecord]], B],
        finish: Callable[[B], Awaitable[None]],
        fail: Callable[[BaseException], None],
        room: asyncio.Event,
    ) -> None:
        self.partition = partition
        self.taken = next_offset  # below this, records were taken
        self.finished = next_offset  # below this, records are done with
        self.idle = asyncio.Event()
        self.idle.set()
        self._first_ms: deque[int] = deque()  # Kafka timestamp of the first record of each batch that is not finished
        self._room = room
        self._incoming: asyncio.Queue[list[ConsumerRecord]] = asyncio.Queue(_WAITING_BATCHES)
        self._prepared: asyncio.Queue[B] = asyncio.Queue(1)
        self._tasks = [
            asyncio.create_task(_guarded(self._prepare(prepare), fail)),
            asyncio.create_task(_guarded(self._finish(finish), fail)),
        ]

    @property
    def has_room(self) -> bool:
        """Whether `take` may be called."""
        return not self._incoming.full()

    @property
    def oldest_ms(self) -> int | None:
        """The Kafka timestamp of the oldest record that is not finished."""
        return self._first_ms[0] if self._first_ms else None

    def take(self, records: list[ConsumerRecord]) -> None:
        """Queue a batch. Raises QueueFull if there is no room."""
        self._incoming.put_nowait(records)
        self._first_ms.append(records[0].timestamp)
        self.taken = records[-1].offset + 1
        self.idle.clear()

    async def close(self) -> None:
        """Give up what is not finished."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _prepare(self, prepare: Callable[[list[ConsumerRecord]], B]) -> None:
        while True:
            records = await self._incoming.get()
            self._room.set()
            await self._prepared.put(prepare(records))

    async def _finish(self, finish: Callable[[B], Awaitable[None]]) -> None:
        while True:
            batch = await self._prepared.get()
            await finish(batch)
            self.finished = batch.next_offset
            self._first_ms.popleft()
            if self.finished == self.taken:
                self.idle.set()


async def _guarded(steps: Awaitable[Any], fail: Callable[[BaseException], None]) -> None:
    try:
        await steps
    except Exception as error:
        fail(error)
