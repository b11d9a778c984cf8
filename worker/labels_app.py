"""The outcome join as a Faust app of its own: reads scores and clicks, writes what really happened."""

import asyncio
import contextlib
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from structlog import get_logger

from worker import kafka, metrics
from worker.errors import ConfigurationError
from worker.fetched import Fetched
from worker.http import process_routes, serve
from worker.labels_partition import PartitionJoin
from worker.quality import OnlineQuality
from worker.settings import Settings
from worker.stream import batch_app, run_app

log = get_logger()

_ROOM_WAIT_S = 0.05
#: Online figures are over thousands of labels: computed now and then, not with each.
_FIGURES_EVERY_S = 3.0
_PACK_BYTES = 500_000
#: What a partition may take to end by itself.
_CLOSE_S = 5.0


async def run_labels(settings: Settings, stop: asyncio.Event) -> None:
    """Join until `stop` is set. Raises ConfigurationError when Kafka or a topic is missing, and what a partition failed with."""
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with contextlib.AsyncExitStack() as parts:
        producer = AIOKafkaProducer(**kafka.connection(settings.kafka), acks="all", linger_ms=0, max_batch_size=_PACK_BYTES)
        parts.push_async_callback(producer.stop)
        await _start(producer, settings)
        quality = OnlineQuality()
        joins = PartitionJoins(settings, producer, quality, failed)
        parts.push_async_callback(joins.close)
        figures = asyncio.create_task(_show_figures(joins, quality))
        parts.callback(figures.cancel)
        if settings.metrics.labels_port:
            server = await serve(
                settings.metrics.host,
                settings.metrics.labels_port,
                process_routes(joins.readiness),
                setting="INKLING_METRICS__LABELS_PORT",
            )
            parts.push_async_callback(server.close)
        app = batch_app(settings, settings.labels.group, [settings.topics.clicks, settings.topics.scores], joins)
        log.info("labels started", group=settings.labels.group)
        await run_app(app, stop, failed)
    log.info("labels stopped")


class PartitionJoins:
    """The joins of all partitions that this process owns: the `BatchHandler` of the app.

    `failed` gets the exception when a partition cannot go on.
    """

    def __init__(
        self, settings: Settings, producer: AIOKafkaProducer, quality: OnlineQuality, failed: "asyncio.Future[None]"
    ) -> None:
        self._settings = settings
        self._producer = producer
        self._quality = quality
        self._failed = failed
        self._room = asyncio.Event()
        self._joins: dict[int, PartitionJoin] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._joined = False

    @property
    def pending(self) -> int:
        """Scores with outcomes still to come."""
        return sum(join.pending for join in self._joins.values())

    def readiness(self) -> tuple[bool, str]:
        """Ready once every partition's log is folded; a member without any stays a spare and says so."""
        if not self._joined:
            return False, "waiting for the consumer group"
        behind = sum(not join.ready for join in self._joins.values())
        return not behind, f"reading the log of {behind} partitions" if behind else f"{len(self._joins)} partitions"

    async def assigned(self, partitions: set[TopicPartition]) -> None:
        numbers = {tp.partition for tp in partitions}
        for number in self._joins.keys() - numbers:
            await self._forget(number)
        for number in numbers - self._joins.keys():
            # Folding a long log takes a while; the group must not wait for it.
            join = PartitionJoin(self._settings, number, self._producer, self._quality, self._room)
            self._joins[number] = join
            self._tasks[number] = asyncio.create_task(self._run(join), name=f"labels-{number}")
        self._joined = True
        log.info("partitions assigned", owned=sorted(numbers))

    async def drain(self) -> None:
        """Finish what was taken. A partition that cannot in time is given up: its owner folds the log anew."""
        waits = {asyncio.ensure_future(join.idle.wait()): number for number, join in self._joins.items()}
        if not waits:
            return
        _, late = await asyncio.wait(waits, timeout=self._settings.worker.drain_s)
        for wait in late:
            wait.cancel()
            log.warning("partition not drained in time, given up", partition=waits[wait])
            await self._forget(waits[wait])

    def has_room(self, partition: TopicPartition) -> bool:
        join = self._joins.get(partition.partition)
        return join is not None and join.has_room

    async def wait_for_room(self) -> None:
        self._room.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._room.wait(), _ROOM_WAIT_S)

    def taken(self, partition: TopicPartition) -> int:
        return self._joins[partition.partition].taken[partition.topic]

    def take(self, partition: TopicPartition, records: Fetched) -> None:
        self._joins[partition.partition].take(records)

    def finished(self) -> Mapping[TopicPartition, int]:
        return {
            TopicPartition(topic, number): offset
            for number, join in self._joins.items()
            for topic, offset in join.finished.items()
        }

    async def close(self) -> None:
        """Stop all partitions."""
        for number in list(self._joins):
            await self._forget(number)

    async def _run(self, join: PartitionJoin) -> None:
        try:
            await join.run()
        except Exception as error:
            if not self._failed.done():
                self._failed.set_exception(error)

    async def _forget(self, number: int) -> None:
        self._joins.pop(number).close()
        task = self._tasks.pop(number)
        await asyncio.wait([task], timeout=_CLOSE_S)
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=1)


async def _start(producer: AIOKafkaProducer, settings: Settings) -> None:
    """Connect, and see that the topics can be joined: partition by partition."""
    topics = settings.topics
    try:
        await producer.start()
        counts = {name: len(await producer.partitions_for(name)) for name in (topics.clicks, topics.scores, topics.outcomes)}
    except KafkaError as error:
        raise ConfigurationError(
            f"Kafka at {settings.kafka.bootstrap_servers} is away or has no topics {topics.clicks}, {topics.scores}, "
            f"{topics.outcomes}: start it, make them, or set INKLING_KAFKA__BOOTSTRAP_SERVERS ({error!r})"
        ) from error
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ConfigurationError(f"topics must have the same number of partitions to be joined, but have: {told}")


async def _show_figures(joins: PartitionJoins, quality: OnlineQuality) -> None:
    while True:
        started = time.monotonic()
        quality.publish()
        metrics.labels_pending.set(joins.pending)
        # Never more than a tenth of the time on figures.
        await asyncio.sleep(max(_FIGURES_EVERY_S, 10 * (time.monotonic() - started)))
