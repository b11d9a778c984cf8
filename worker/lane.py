"""One partition's four steps, each a task with a bounded queue before it, in order.

A large batch is prepared in a thread: nearly all of that is compiled code, which runs beside the event loop.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from aiokafka.structs import TopicPartition

from worker.fetched import Fetched

#: Batches that may wait for the first step: one, so that it never starves and memory stays small.
_WAITING_BATCHES = 1
#: Batches of a partition without a score, and events in them, with which another is taken: so that the next is folded while a
#: small one is scored. What comes meanwhile waits for the batch after that, which so is larger: more of them would only queue.
_UNSCORED_BATCHES, _UNSCORED_EVENTS = 1, 256
#: Batches of more events are large.
_LARGE = 256
#: Batches that may wait to be published, and are then published as one: the dearer a publication is beside a batch, the
#: fewer there are of them.
_PUBLISHED_AT_ONCE = 8
#: Batches that may wait until their state is kept.
_KEPT_AT_ONCE = 16


class Ending(Protocol):
    """What steps make of a batch."""

    @property
    def next_offset(self) -> int: ...


P = TypeVar("P", bound=Ending)
S = TypeVar("S", bound=Ending)


class Steps(Protocol[P, S]):
    """What is done with the batches of one partition."""

    def prepare(self, records: Fetched) -> P:
        """The first step: CPU, never waits. Called in any thread, for one batch after the other."""

    async def score(self, batch: P) -> S:
        """The second step, for one batch after the other."""

    async def publish(self, batches: Sequence[S]) -> None:
        """The third step, for all batches that have come to it meanwhile."""

    async def keep(self, batches: Sequence[S]) -> None:
        """The last step, likewise. They are finished when it returns."""


class Room:
    """What all lanes together may hold: so that it never is long until all is scored, when partitions go to another worker."""

    def __init__(self, most: int) -> None:
        self.grew = asyncio.Event()
        self._most = most
        self._unscored = 0

    @property
    def is_left(self) -> bool:
        return self._unscored <= self._most

    def take(self, events: int) -> None:
        self._unscored += events

    def give_back(self, events: int) -> None:
        self._unscored -= events
        self.grew.set()


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
        room: Room,
        keep_every_s: float = 0.0,
    ) -> None:
        """`keep_every_s`: so long it takes at least from one `keep` to the next."""
        self.partition = partition
        self.taken = next_offset  # below this, records were taken
        self.finished = next_offset  # below this, records are done with
        self.idle = asyncio.Event()  # all that was taken is done with, or the lane has ended
        self.idle.set()
        self._ended = False
        self._first_ms: deque[int] = deque()  # Kafka timestamp of the first record of each batch that is not finished
        self._unscored: deque[int] = deque()  # events of each batch that has no scores yet
        self._room = room
        self._incoming: asyncio.Queue[Fetched] = asyncio.Queue(_WAITING_BATCHES)
        self._prepared: asyncio.Queue[P] = asyncio.Queue(1)
        self._scored: asyncio.Queue[S] = asyncio.Queue(_PUBLISHED_AT_ONCE)
        self._published: asyncio.Queue[S] = asyncio.Queue(_KEPT_AT_ONCE)
        self._keep_every_s = keep_every_s
        work = (self._prepare, self._score, self._publish, self._keep)
        self._tasks = [asyncio.create_task(self._guarded(step, steps, fail)) for step in work]

    @property
    def has_room(self) -> bool:
        """Whether `take` may be called."""
        return (
            not self._ended
            and self._room.is_left
            and not self._incoming.full()
            and len(self._unscored) <= _UNSCORED_BATCHES
            and sum(self._unscored) <= _UNSCORED_EVENTS
        )

    @property
    def oldest_ms(self) -> int | None:
        """The Kafka timestamp of the oldest record that is not finished."""
        return self._first_ms[0] if self._first_ms else None

    def take(self, records: Fetched) -> None:
        """Queue a batch. Raises QueueFull if there is no room."""
        self._incoming.put_nowait(records)
        self._first_ms.append(int(records.timestamps_ms[0]))
        self._unscored.append(len(records))
        self._room.take(len(records))
        self.taken = int(records.offsets[-1]) + 1
        if not self._ended:
            self.idle.clear()

    async def close(self) -> None:
        """Give up what is not finished."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._room.give_back(sum(self._unscored))
        self._unscored.clear()

    async def _prepare(self, steps: Steps[P, S]) -> None:
        while True:
            records = await self._incoming.get()
            self._room.grew.set()
            large = len(records) > _LARGE
            await self._prepared.put(await asyncio.to_thread(steps.prepare, records) if large else steps.prepare(records))

    async def _score(self, steps: Steps[P, S]) -> None:
        while True:
            batch = await steps.score(await self._prepared.get())
            self._room.give_back(self._unscored.popleft())
            await self._scored.put(batch)

    async def _publish(self, steps: Steps[P, S]) -> None:
        while True:
            batches = await _all_of(self._scored)
            await steps.publish(batches)
            for batch in batches:
                await self._published.put(batch)

    async def _keep(self, steps: Steps[P, S]) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            batches = await _all_of(self._published)
            next_s = clock() + self._keep_every_s
            await steps.keep(batches)
            self.finished = batches[-1].next_offset
            for _ in batches:
                self._first_ms.popleft()
            if self.finished == self.taken:
                self.idle.set()
            await asyncio.sleep(next_s - clock())

    async def _guarded(self, step: Callable[[Any], Awaitable[Any]], steps: Any, fail: Callable[[BaseException], None]) -> None:
        try:
            await step(steps)
        except Exception as error:
            self._ended = True
            self.idle.set()
            fail(error)


async def _all_of(queue: "asyncio.Queue[S]") -> list[S]:
    """What is in the queue; waits until there is something."""
    some = [await queue.get()]
    while not queue.empty():
        some.append(queue.get_nowait())
    return some
