"""Batches out of Faust's consumer: the one file that touches Faust's internals.

Faust keeps the group membership, rebalancing, seeking and the commit timer. What it does per event (streams, agents,
acks) is replaced by one hand-over per partition and batch:

    consumer thread --records--> BatchConsumer --(partition, records)--> BatchHandler
                     <--commit--              <--next offset to commit--

The rules that keep it right:
 1. On revoke: stop the flow, let the handler finish what it has, commit, and only then let Faust forget.
 2. On assign: the handler first restores a partition's state; no record is handed over before.
 3. After every await, generation and flow are checked again; records of an older generation are thrown away. Faust seeks
    every partition back to its committed offset when the flow resumes; where a fetch ended after that, we do.
 4. So records come again. The handler says how far it has taken each partition; what lies below is skipped.
 5. What it had is kept over a rebalance only if no other member can have had it in between: a member that missed a
    generation (it was paused, or cut off) forgets everything first.
 6. Only offsets that the handler calls finished are committed, as ranges: gaps in the log need no care.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol, cast

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.exceptions import ConsumerNotStarted
from faust.transport.consumer import Fetcher
from faust.transport.drivers import aiokafka as driver
from mode import Service
from mode.threads import ServiceThread, WorkerThread
from structlog import get_logger

from worker import kafka
from worker.fetched import Fetched, fetch_columns
from worker.pace import pace
from worker.settings import Settings

log = get_logger()

#: How long one fetch may wait for records where all partitions have room, and where some may get room meanwhile: which of them
#: are asked for is fixed for the length of a fetch.
_FETCH_WAIT_S = 0.1
_SHORT_FETCH_WAIT_S = 0.005
#: How long the broker may hold a request without an answer. While it does, partitions that are not in it cannot be asked for.
_BROKER_WAIT_MS = 20
#: How long to wait at most, while a rebalance has stopped the flow or for a commit, before looking whether it goes on at all.
_FLOW_WAIT_S = 0.5
#: A member learns from the answer to its heartbeat that the group meets again, so this long a take-over waits for it.
_HEARTBEAT_S = 0.3
#: Bytes a fetch may bring per partition: bounds what is prefetched.
_FETCH_BYTES = 2 * 1024 * 1024


class BatchHandler(Protocol):
    """What takes the batches. All methods are called on the app's event loop."""

    async def assigned(self, partitions: set[TopicPartition]) -> None:
        """Own exactly these partitions now: restore what is new, forget what is lost."""

    async def drain(self) -> None:
        """Finish what was handed over, within a bounded time; what is not finished by then is given up."""

    def has_room(self, partition: TopicPartition) -> bool:
        """Whether a batch of the partition can be taken now."""

    async def wait_for_room(self) -> None:
        """Return when a partition may have got room, or after a short while."""

    def taken(self, partition: TopicPartition) -> int:
        """The offset below which records of the partition were already taken."""

    def take(self, partition: TopicPartition, records: Fetched) -> None:
        """Take a batch: records of one partition, in order."""

    def finished(self) -> Mapping[TopicPartition, int]:
        """The next offset to commit, by partition."""


async def reassign(handler: BatchHandler, partitions: set[TopicPartition], generation: int, before: int) -> None:
    """Give the handler its partitions of a generation; `before` is the last generation that it was in, -1 if none.

    The group may have met without us, and our partitions had another owner: then nothing of ours is valid any more.
    """
    if before >= 0 and generation != before + 1:
        await handler.assigned(set())
    await handler.assigned(partitions)


def hand_over(handler: BatchHandler, records: Mapping[TopicPartition, Fetched]) -> None:
    """Give the handler what it has not taken yet of the records, each partition's in order."""
    for tp, batch in records.items():
        fresh = batch.since(handler.taken(tp))
        if len(fresh):
            handler.take(tp, fresh)


def put_back(handler: BatchHandler, records: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """Where to go on in partitions of which records were fetched and thrown away.

    The consumer stands behind them. Faust's seek may already have been, if the fetch lasted longer than the rebalance.
    """
    return {tp: handler.taken(tp) for tp in handler.finished().keys() & set(records)}


def batch_app(settings: Settings, group: str, topics: Iterable[str], handler: BatchHandler) -> faust.App:
    """A Faust app whose consumer hands batches of the topics to the handler.

    All topics must have the same number of partitions; partition p of each is assigned together.
    """
    app = _App(
        group,
        env={},  # Faust's own environment variables would override what is passed here
        broker=[f"kafka://{server}" for server in settings.kafka.bootstrap_servers.split(",")],
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        broker_commit_interval=settings.worker.commit_interval_s,
        broker_session_timeout=settings.worker.session_timeout_s,
        broker_heartbeat_interval=min(settings.worker.session_timeout_s / 5, _HEARTBEAT_S),
        broker_max_poll_records=settings.worker.max_batch,
        stream_recovery_delay=0.0,
        stream_wait_empty=False,
    )
    app.transport = _BatchTransport(app.conf.broker_consumer, app, settings, handler)
    app.boot_strategy.enable_kafka_producer = False  # delivery has a producer of its own
    for topic in topics:
        app.topics.add(app.topic(topic, key_serializer="raw", value_serializer="raw"))
    return app


class _App(faust.App):
    def _create_directories(self) -> None:
        """None: Faust would make folders for tables where it is started, and there are no tables."""


class _BatchConsumer(driver.Consumer):
    """Faust's consumer, handing over batches."""

    _generation = -1  # the last one that gave us an assignment

    def _new_consumer_thread(self) -> "_ConsumerThread":
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _handler(self) -> BatchHandler:
        return cast(_BatchTransport, self.transport).handler

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._hand_over()
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise

    async def _hand_over(self) -> None:
        if not self.flow_active:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.can_resume_flow.wait(), _FLOW_WAIT_S)
            return
        generation = self.app.consumer_generation_id
        active = self._get_active_partitions()
        wanted = {tp for tp in active if self._handler.has_room(tp)}
        if not wanted:
            # An empty set would mean "all partitions" to the fetcher.
            await self._handler.wait_for_room()
            return
        with kafka.undamaged():
            records = await self._getmany(wanted, timeout=_FETCH_WAIT_S if len(wanted) == len(active) else _SHORT_FETCH_WAIT_S)
        if not self.flow_active or self.app.consumer_generation_id != generation:
            for tp, offset in put_back(self._handler, records).items():
                with suppress(IllegalStateError):  # not ours any more
                    await self.seek(tp, offset)
            return
        hand_over(self._handler, cast(Mapping[TopicPartition, Fetched], records))
        await asyncio.sleep(0)  # so that what was taken is begun, and there is room again

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self.stop_flow()
        await self._handler.drain()
        # Faust drops what it knows of the partitions before its own last commit, so ours comes first.
        await self.commit()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition], generation_id: int = 0) -> None:
        before, self._generation = self._generation, generation_id
        await reassign(self._handler, assigned, generation_id, before)
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_stop(self) -> None:
        self.stop_flow()
        await self._handler.drain()
        await super().on_stop()

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TopicPartition]:
        return (tp for tp in self._handler.finished() if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TopicPartition) -> int | None:
        return self._handler.finished().get(tp)

    async def _commit_offsets(self, offsets: Mapping[TopicPartition, int], start_new_transaction: bool = True) -> bool:
        # Stock Faust takes an offset for committed even when the commit failed; we try again at the next interval.
        assignment = self.assignment()
        mine = {tp: offset for tp, offset in offsets.items() if tp in assignment}
        if not mine or not await self._commit(mine):
            return False
        self._committed_offset.update(mine)
        return True

    async def _commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        return await cast(_ConsumerThread, self._thread).commit_once(offsets)

    def verify_event_path(self, now: float, tp: TopicPartition) -> None:
        """Faust's check for stuck streams looks at streams, which we do not have. Lag is a metric of ours."""


class _Thread(WorkerThread):
    """Ends with the process. Stopped while it joins the group it may not end by itself: a worker that has given up would go on
    sending heartbeats and keep its partitions from everybody else."""

    def __init__(self, service: ServiceThread, **kwargs: Any) -> None:
        super().__init__(service, **kwargs)
        self.daemon = True


class _Consumer(AIOKafkaConsumer):  # type: ignore[misc]  # it has no types
    """Asks a broker for more of some partitions while records of others wait to be taken, and hands them over as columns. Under
    load it asks for larger batches.

    aiokafka would wait for up to 0.1 s until all are taken, and offers no setting for that.
    """

    async def start(self) -> None:
        await super().start()
        self._fetcher._prefetch_backoff = 0.0
        fetch_columns(self, self._max_poll_records)
        pace(self)


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that fetches and sends heartbeats, so that CPU work on the app's loop does not starve them."""

    Worker = _Thread

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        settings = cast(_BatchTransport, transport).settings
        conf = self.app.conf
        self._assignor = RangePartitionAssignor
        return _Consumer(
            **kafka.connection(settings.kafka),
            group_id=conf.id,
            # Range puts partition p of every topic on the same member.
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            isolation_level="read_committed",  # what a producer took back is no event
            auto_offset_reset="earliest",
            max_poll_records=conf.broker_max_poll_records,
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=_BROKER_WAIT_MS,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            rebalance_timeout_ms=int(settings.worker.drain_s * 2000) + 10_000,
            metadata_max_age_ms=10_000,
        )

    async def on_partitions_assigned(self, assigned: set[TopicPartition], generation_id: int = 0) -> None:
        # aiokafka itself begins with that when this returns: too late where to read the state back takes longer than a session.
        self._ensure_consumer()._coordinator._start_heartbeat_task()
        await super().on_partitions_assigned(assigned, generation_id)

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TopicPartition],
        timeout: float | None = None,  # noqa: ASYNC109  # Faust's
        max_records: int | None = None,
    ) -> Any:
        """By partition `Fetched`, of each up to `max_records` records, and not many more of all."""
        assert max_records is not None
        found: dict[TopicPartition, Fetched] = {}
        # An empty set would mean "all partitions" to the fetcher.
        while (left := active_partitions - found.keys()) and sum(map(len, found.values())) < max_records:
            try:
                some = await super()._fetch_records(consumer, left, timeout=0.0 if found else timeout, max_records=1)
            except KafkaError:
                if not found:
                    raise
                break  # it will come again
            if not some:
                break
            found |= {tp: records for tp, [records] in some.items()}
        return found

    async def commit_once(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Commit; False when it did not happen. aiokafka itself retries what is worth retrying."""
        aiokafka_offsets = {TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
        try:
            commit = asyncio.ensure_future(self.call_thread(self._ensure_consumer().commit, aiokafka_offsets))
            while not (await asyncio.wait({commit}, timeout=_FLOW_WAIT_S))[0]:
                if self._thread is None or not self._thread.is_alive():
                    commit.cancel()  # a thread that has crashed answers nobody, and we could not even stop
                    return False
            await commit
        except (CommitFailedError, IllegalStateError):
            return False  # the group has rebalanced: the new owner goes on from the last commit
        except KafkaError as error:
            log.warning("commit failed, will be tried again", error=repr(error))
            return False
        return True


class _Fetcher(Fetcher):
    """The task around `_drain_messages`. Stock, it fails on its own error handling when stopped during a rebalance."""

    @Service.task
    async def _fetcher(self) -> None:
        try:
            await cast(_BatchConsumer, self.app.consumer)._drain_messages(self)
        finally:
            self.set_shutdown()


class _BatchTransport(driver.Transport):
    Consumer = _BatchConsumer
    Fetcher = _Fetcher

    def __init__(self, url: Any, app: faust.App, settings: Settings, handler: BatchHandler) -> None:
        super().__init__(url, app)
        self.settings = settings
        self.handler = handler


def end_offset(app: faust.App, tp: TopicPartition) -> int | None:
    """Where the partition ended at the last fetch; None when there was none yet, or the partition is not ours."""
    try:
        end = app.consumer.highwater(tp)
    except (AssertionError, AttributeError, ConsumerNotStarted):
        return None
    return None if end is None else int(end)


async def run_app(app: faust.App, stop: asyncio.Event, failed: "asyncio.Future[None]") -> None:
    """Run the app until `stop` is set; drain and commit at the end.

    A crash of the app, or an exception put into `failed`, ends it as well and is raised.
    """
    await app.start()
    ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(_ended(app))]
    try:
        await asyncio.wait([*ends, failed], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
        await app.stop()
    if failed.done():
        failed.result()
    if app.crash_reason is not None:
        raise app.crash_reason


async def _ended(app: faust.App) -> None:
    # mode's own wait leaves a task behind when it is cancelled.
    while not app.should_stop:  # noqa: ASYNC110  # Faust sets no asyncio event
        await asyncio.sleep(_FETCH_WAIT_S)
