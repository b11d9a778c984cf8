"""The control topic: reading and writing the pointer, and a task that follows it."""

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import chain

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError

from worker.contract.features import FeatureSpec
from worker.errors import ConfigurationError, DeliveryError
from worker.kafka import connection
from worker.pin import ModelServer, PinKeeper
from worker.pointer import Pointer
from worker.scoring.guarded import Pin
from worker.settings import Settings
from worker.topic import records_to_end, whole_topic
from worker.versions import Version, open_version

__all__ = ["ControlFollower", "Pointer", "point_at", "pointer_to", "read_pointer", "write_pointer"]

_log = structlog.get_logger(__name__)

_POLL_MS = 250
_PAUSE_S = 1.0


async def read_pointer(settings: Settings) -> Pointer | None:
    """The pointer that holds now, None when there is none yet. Raises DeliveryError when Kafka cannot be read."""
    try:
        async with whole_topic(settings.kafka, settings.topics.control) as consumer:
            return await _read_to_end(consumer, settings.model.name)
    except KafkaError as error:
        raise DeliveryError(f"cannot read {settings.topics.control} at {settings.kafka.bootstrap_servers}: {error}") from error


async def write_pointer(settings: Settings, pointer: Pointer) -> None:
    """Write the record, confirmed by Kafka. Raises DeliveryError."""
    producer = AIOKafkaProducer(**connection(settings.kafka), acks="all", enable_idempotence=True)
    try:
        await producer.start()
        key, value = pointer.model.encode(), msgspec.json.encode(pointer)
        await producer.send_and_wait(settings.topics.control, value, key=key)
    except KafkaError as error:
        raise DeliveryError(f"cannot write {settings.topics.control} at {settings.kafka.bootstrap_servers}: {error}") from error
    finally:
        await producer.stop()


async def point_at(settings: Settings, version: str, by: str, why: str) -> Pointer:
    """Make a version of the repository the champion; what was it becomes `previous`. Returns the record written.

    Nothing is loaded: that the model server has the version is the caller's part. Raises ModelError when the version's
    folder is not sound, DeliveryError when Kafka is away.
    """
    found = open_version(settings.model.repository / settings.model.name, version)
    before = await read_pointer(settings)
    pointer = pointer_to(found, before, by, why)
    await write_pointer(settings, pointer)
    return pointer


def pointer_to(version: Version, before: Pointer | None, by: str, why: str) -> Pointer:
    """The record that makes `version` the champion after `before`."""
    champion = version.manifest.version
    # Pointing at the champion again keeps the way back.
    previous = None if before is None else before.previous if before.champion == champion else before.champion
    return Pointer(
        model=version.manifest.model,
        champion=champion,
        previous=previous,
        by=by,
        why=why,
        at=time.time_ns() // 1_000_000,
        spec=version.manifest.spec,
        manifest_sha256=version.manifest_sha256,
        trained_until=version.manifest.trained_until_ms,
        fallback=version.fallback,
        golden=version.golden.to_json(),
    )


class ControlFollower:
    """Follows the pointer in a task of its own, and keeps the pin where it should be.

    `start`, then `wait_first`; from then on `pin` is what a GuardedScorer asks for. `on_change` gets each pointer that is
    followed.
    """

    def __init__(self, settings: Settings, server: ModelServer, on_change: Callable[[Pointer], None] = lambda _: None) -> None:
        self._settings = settings
        self._keeper = PinKeeper(server, on_change)
        self._first = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def pin(self) -> Pin:
        """The version that scores come from. Only after `wait_first`."""
        if self._keeper.pin is None:
            raise ConfigurationError("no pointer was read yet: await ControlFollower.wait_first()")
        return self._keeper.pin

    @property
    def pointer(self) -> Pointer | None:
        """The record that is followed now."""
        return self._keeper.pointer

    @property
    def spec(self) -> FeatureSpec:
        """The feature spec of the pinned version. It never changes while a worker runs. Only after `wait_first`."""
        if self._keeper.pointer is None:
            raise ConfigurationError("no pointer was read yet: await ControlFollower.wait_first()")
        return self._keeper.pointer.spec

    def start(self) -> "asyncio.Task[None]":
        """Start following. The task that is returned ends only by `stop`, or by a fault in this code."""
        self._task = asyncio.create_task(self._follow(), name="control-follower")
        self._task.add_done_callback(_say_if_died)
        return self._task

    async def wait_first(self, timeout_s: float) -> None:
        """Wait until a pointer was read and its version tried once. Raises ConfigurationError when that does not come in time."""
        assert self._task is not None, "start() comes first"
        first = asyncio.ensure_future(self._first.wait())
        done, _ = await asyncio.wait([first, self._task], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self._task in done:
            self._task.result()
        if not done:
            first.cancel()
            where = f"{self._settings.topics.control} at {self._settings.kafka.bootstrap_servers}"
            if self._keeper.refused:
                raise ConfigurationError(f"{where} names a version that this worker cannot follow: {self._keeper.refused}")
            raise ConfigurationError(f"{where} names no version of {self._settings.model.name}: run `inkling promote 1`")

    async def stop(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                async with whole_topic(self._settings.kafka, self._settings.topics.control) as consumer:
                    await self._read(consumer)
            except KafkaError as error:
                # The pin stays; only news is missing.
                _log.warning("cannot read the control topic", reason=str(error))
                await self._keeper.step()
                await asyncio.sleep(_PAUSE_S)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        """Go to the end first, so that an old pointer is never followed, then on from there."""
        model = self._settings.model.name
        newest = await _read_to_end(consumer, model)
        while True:
            if newest is not None and newest != self._keeper.wanted:
                self._keeper.want(newest)
            await self._keeper.step()
            if self._keeper.pin is not None:
                self._first.set()
            fetched = await consumer.getmany(timeout_ms=_POLL_MS)
            newest = _newest(chain.from_iterable(fetched.values()), model)


def _say_if_died(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the control topic is no longer followed; restart this worker", reason=repr(error))


async def _read_to_end(consumer: AIOKafkaConsumer, model: str) -> Pointer | None:
    """The newest pointer among all records there are now."""
    newest = None
    async for records in records_to_end(consumer):
        newest = _newest(records, model) or newest
    return newest


def _newest(records: Iterable[ConsumerRecord], model: str) -> Pointer | None:
    """The last pointer of the model. Its key decides the partition, so all of them are in one, in order."""
    newest = None
    for record in records:
        if record.key != model.encode() or record.value is None:
            continue
        try:
            newest = msgspec.json.decode(record.value, type=Pointer)
        except msgspec.MsgspecError as error:
            _log.error("a record of the control topic is no pointer and is passed over", offset=record.offset, reason=str(error))
    return newest
