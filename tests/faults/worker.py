"""One worker: the real pipeline, delivery and restore, driven as `worker.stream` drives them from Faust's consumer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Set
from functools import partial

import numpy as np
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaConnectionError, RequestTimedOutError

from tests.faults.broker import Broker, Entry, Log, as_record
from tests.faults.clicks import TOPIC, ClickTopic, now_ms
from tests.faults.group import Assignment, Group
from tests.faults.network import Network, Process
from tests.faults.producer import PACK_BYTES, FakeProducer, Link
from tests.faults.schedule import SETTINGS, SPEC, Schedule
from tests.faults.scoring import HashScorer
from worker import stream
from worker.contract.cold import InMemory
from worker.contract.events import ClickEvent
from worker.contract.features import ModelInputs
from worker.delivery import Delivery
from worker.errors import OwnershipError
from worker.fetched import Fetched
from worker.pipeline import Pipeline
from worker.scoring.base import Scores

_HEARTBEAT_S = 0.13
_COMMIT_S = 0.15
_IDLE_S = 0.07
_MAX_FETCH = 6

Note = Callable[..., None]


class World:
    """What all workers share. `on_restore` is told whenever a worker has read a partition's state back."""

    def __init__(
        self,
        broker: Broker,
        clicks: ClickTopic,
        group: Group,
        network: Network,
        schedule: Schedule,
        note: Note,
        on_restore: Callable[[int], None],
    ) -> None:
        self.broker = broker
        self.clicks = clicks
        self.group = group
        self.network = network
        self.settings = schedule.settings
        self.note = note
        self.on_restore = on_restore


class _ColdInMemory:
    """In place of a disk."""

    def __init__(self, most_hot: int) -> None:
        self.most_hot = most_hot

    def sessions(self, _: dict[bytes, int]) -> InMemory:
        return InMemory()


class SimWorker:
    """A worker process from its start to its end. `stop` is its SIGTERM."""

    def __init__(self, process: Process, world: World) -> None:
        self.process = process
        self.stop = asyncio.Event()
        self._world = world
        self._link = Link(world.network, process)
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._generation = -1
        self._flow = False
        self._rejoin = asyncio.Event()
        self._positions: dict[TopicPartition, int] = {}
        self._committed: dict[int, int] = {}

    async def run(self) -> None:
        """Returns when told to stop, or when another worker has become the owner of a partition. Raises what it failed with."""
        connect = partial(FakeProducer, self._link, self.process, self._world.broker)
        settings = self._world.settings
        delivery = Delivery(settings, connect, PACK_BYTES)
        await delivery.start()
        self._pipeline = Pipeline(
            settings,
            SPEC,
            _SlowScorer(self.process),
            delivery,
            _Source(self._link, self._world),
            _Clicks(self.process, self._link, self._world),
            self._failed,
            self._now_ms,
            None if settings.state.hot_sessions is None else _ColdInMemory(settings.state.hot_sessions),
        )
        tasks = [asyncio.create_task(steps) for steps in (self._heartbeats(), self._fetches(), self._commits())]
        stopping = asyncio.create_task(self.stop.wait())
        ends = [stopping, self._failed, *tasks]
        try:
            while not any(end.done() for end in ends):
                await self._join()
                rejoining = asyncio.create_task(self._rejoin.wait())
                await asyncio.wait([rejoining, *ends], return_when=asyncio.FIRST_COMPLETED)
                rejoining.cancel()
                await self._revoke()
            await self._link.insist(lambda: self._world.group.leave(self.process.name))
        finally:
            for task in [*tasks, stopping]:
                task.cancel()
        await self._pipeline.close()
        await delivery.stop()
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()
        if self._failed.done():
            with contextlib.suppress(OwnershipError):
                self._failed.result()

    def _now_ms(self) -> int:
        return now_ms(asyncio.get_running_loop().time())

    async def _join(self) -> None:
        answer: asyncio.Future[Assignment] = asyncio.get_running_loop().create_future()
        await self._link.insist(lambda: self._world.group.join(self.process.name, answer))
        generation, partitions = await answer
        await self.process.awake()
        mine = {TopicPartition(TOPIC, partition) for partition in partitions}
        self._world.note(self.process.name, "assigned", generation, partitions)
        before, self._generation = self._generation, generation
        self._rejoin.clear()  # heartbeats of the generation before do not count any more
        await stream.reassign(self._pipeline, mine, generation, before)
        # Faust seeks every partition back to its commit.
        committed = await self._link.insist(lambda: dict(self._world.group.committed))
        self._positions = {tp: committed.get(tp.partition, 0) for tp in sorted(mine)}
        self._committed = committed
        self._flow = True

    async def _revoke(self) -> None:
        self._flow = False
        self.process.reach("revoked")
        await self.process.awake()
        await self._pipeline.drain()
        self.process.reach("drained")
        await self.process.awake()
        await self._commit()

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            generation = self._generation
            try:
                alright = await self._link.call(lambda: self._world.group.heartbeat(self.process.name, generation))  # noqa: B023
            except (RequestTimedOutError, KafkaConnectionError):
                continue
            if not alright and generation == self._generation:
                self._rejoin.set()

    async def _fetches(self) -> None:
        while True:
            if not self._flow:
                await asyncio.sleep(_IDLE_S)
                continue
            generation = self._generation
            wanted = [tp for tp in self._positions if self._pipeline.has_room(tp)]
            if not wanted:
                await self._pipeline.wait_for_room()
                continue
            records = await self._fetch(wanted)
            if not self._is_current(generation):
                self._positions.update(stream.put_back(self._pipeline, records))
                continue
            stream.hand_over(self._pipeline, {tp: Fetched.of(batch) for tp, batch in records.items()})
            if records:
                self.process.reach("take")
                await self.process.awake()

    def _is_current(self, generation: int) -> bool:
        return self._flow and generation == self._generation

    async def _fetch(self, wanted: Collection[TopicPartition]) -> dict[TopicPartition, list[ConsumerRecord]]:
        positions = dict(self._positions)
        clicks = self._world.clicks
        try:
            records = await self._link.call(
                lambda: clicks.fetch(positions, wanted, asyncio.get_running_loop().time(), _MAX_FETCH)
            )
        except (RequestTimedOutError, KafkaConnectionError):
            records = {}
        if not records:
            await asyncio.sleep(_IDLE_S)
            await self.process.awake()
        for tp, batch in records.items():
            if positions.get(tp) == self._positions.get(tp):
                self._positions[tp] = batch[-1].offset + 1
        return records

    async def _commits(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_S)
            if self._flow:
                await self._commit()

    async def _commit(self) -> None:
        self.process.reach("before-commit")
        await self.process.awake()
        finished = self._pipeline.finished()
        offsets = {tp.partition: offset for tp, offset in sorted(finished.items()) if tp in self._positions}
        generation = self._generation
        if offsets.items() <= self._committed.items():
            return
        try:
            await self._link.call(lambda: self._world.group.commit(self.process.name, generation, offsets))
        except (CommitFailedError, RequestTimedOutError, KafkaConnectionError):
            return
        self._committed.update(offsets)
        self.process.reach("after-commit")
        await self.process.awake()


class _SlowScorer:
    """Scores by a hash of the inputs, after a while."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._scorer = HashScorer()

    async def score(self, inputs: ModelInputs) -> Scores:
        self._process.reach("fold")
        await self._process.awake()
        # As long as its inputs say: no dice, so that a schedule stays the same when a batch is scored once more.
        await asyncio.sleep(0.002 + 0.004 * (int(np.sum(inputs.length)) % 7))
        self._process.reach("score")
        await self._process.awake()
        return self._scorer.score(inputs)


class _Source:
    """Reads the changelog as `KafkaSource` does: up to what is the end at the beginning, in several requests."""

    def __init__(self, link: Link, world: World) -> None:
        self._link = link
        self._world = world

    async def records(self, partitions: Collection[int]) -> AsyncIterator[Fetched]:
        for partition in partitions:
            log = self._world.broker.log(SETTINGS.topics.changelog, partition)
            end = await self._link.insist(partial(_end, log))
            at = 0
            while at < end:
                entries = await self._link.insist(partial(_read, log, at, end))
                at = entries[-1].offset + 1 if entries else end
                if entries:
                    yield Fetched.of([as_record(SETTINGS.topics.changelog, partition, entry) for entry in entries])
            self._world.on_restore(partition)

    async def committed(self) -> Mapping[int, int]:
        return await self._link.insist(lambda: dict(self._world.group.committed))


class _Clicks:
    """Reads clicks by offset."""

    def __init__(self, process: Process, link: Link, world: World) -> None:
        self._process = process
        self._link = link
        self._clicks = world.clicks

    async def events(self, partition: int, offsets: Set[int]) -> dict[int, ClickEvent]:
        answer = await self._link.insist(lambda: self._clicks.events(partition, offsets))
        await self._process.awake()
        return answer


def _end(log: Log) -> int:
    return log.stable_end


def _read(log: Log, at: int, end: int) -> list[Entry]:
    return [entry for entry in log.committed() if at <= entry.offset < end][:_MAX_FETCH]
