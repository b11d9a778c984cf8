"""Scores made anew after a late event: which clicks they are about, and how they are written.

A session keeps what the model sees of its events, and not what they are called; that is read again from the clicks topic. Late
events are few, and an id of each event in the state would be a third of it.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from structlog import get_logger
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from worker import metrics
from worker.batch import FoldedBatch
from worker.contract.clicks import in_quotes
from worker.contract.codec import decode
from worker.contract.events import ClickEvent
from worker.contract.features import ModelInputs, encode_rows
from worker.contract.packed import key_of
from worker.contract.revision import Revision
from worker.kafka import connection
from worker.record_batch import Records
from worker.scoring.base import Scores
from worker.scoring.lines import Scored, score_lines
from worker.settings import Settings

log = get_logger()

#: Clicks of one session mostly lie close together; what is not among so many is asked for by itself.
_AT_ONCE = 500
_POLL_MS = 500
_FETCH_BYTES = 256 * 1024


class ClickLog(Protocol):
    """The clicks topic, asked for single records (`KafkaClicks`)."""

    async def event_ids(self, partition: int, offsets: Set[int]) -> Mapping[int, str]:
        """The event id of each of these clicks, by offset. Those that have left the topic are left out."""


class RevisedPart(NamedTuple):
    """B revisions to be scored at once."""

    revisions: Sequence[Revision]
    event_ids: list[str]
    timestamps_ms: npt.NDArray[np.int64]  # [B] of the late events' records
    inputs: ModelInputs


def revised_parts(batch: FoldedBatch, event_ids: Mapping[int, str], most: int) -> Iterator[RevisedPart]:
    """A batch's revisions in parts of at most so many. Those whose click has left the topic are counted and left out."""
    known = [revision for revision in batch.revisions if revision.offset in event_ids]
    metrics.revisions.labels("gone").inc(len(batch.revisions) - len(known))
    for start in range(0, len(known), most):
        some = known[start : start + most]
        causes = np.searchsorted(batch.offsets, [revision.cause for revision in some])
        yield RevisedPart(
            some,
            [event_ids[revision.offset] for revision in some],
            batch.timestamps_ms[causes],
            encode_rows([revision.window for revision in some]),
        )


def revised_records(part: RevisedPart, scores: Scores, partition: int, settings: Settings, now_ms: int) -> Records:
    """The ScoreEvents as Kafka records. Their age is that of the late event: until it came, there was nothing to mend."""
    some = part.revisions
    text, names = in_quotes([*part.event_ids, *(revision.visitor_id for revision in some)])
    scored = Scored(
        f"{settings.topics.clicks}:{partition}:",
        np.array([revision.offset for revision in some], np.int64),
        text,
        names[: len(some)],
        names[len(some) :],
        np.array([int(revision.session_id, 16) for revision in some], np.uint64),
        np.array([revision.position for revision in some], np.int64),
        np.array([revision.event_time for revision in some], np.int64),
        np.maximum(now_ms - part.timestamps_ms, 0),
        np.array([revision.input_hash for revision in some], np.uint64),
        np.array([revision.number for revision in some], np.int64),
    )
    keys = [key_of(revision.visitor_id) for revision in some]
    return Records(keys, *score_lines(scored, scores, settings.model.name, now_ms, settings.scoring.deadline_ms))


class KafkaClicks:
    """Reads clicks by offset. The connection is made when it is first needed, as most workers hardly ever need it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._max_future_ms = int(settings.session.max_future_s * 1000)
        self._consumer: AIOKafkaConsumer | None = None
        self._turn = asyncio.Lock()  # one partition's question at a time: there is one place where the consumer stands

    async def event_ids(self, partition: int, offsets: Set[int]) -> dict[int, str]:
        """As `ClickLog` says; waits for Kafka as long as it is away."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((KafkaError, TimeoutError)),
            wait=wait_exponential(multiplier=0.1, max=5),
            before_sleep=_tell,
        ):
            with attempt:
                async with self._turn:
                    return await self._read(TopicPartition(self._settings.topics.clicks, partition), sorted(offsets))
        raise AssertionError("it is tried until there is an answer")

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def _read(self, tp: TopicPartition, offsets: Sequence[int]) -> dict[int, str]:
        consumer = await self._connected()
        consumer.assign([tp])
        start = (await consumer.beginning_offsets([tp]))[tp]
        found: dict[int, str] = {}
        seen = start - 1
        for offset in offsets:
            if offset <= seen:
                continue
            consumer.seek(tp, offset)
            while seen < offset:
                # There is a later record in any case: the late event.
                for record in (await consumer.getmany(tp, timeout_ms=_POLL_MS, max_records=_AT_ONCE)).get(tp, ()):
                    seen = record.offset
                    event = decode(record.value, record.key, record.timestamp, self._max_future_ms)
                    if isinstance(event, ClickEvent):
                        found[seen] = event.event_id
        return {offset: found[offset] for offset in offsets if offset in found}

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **connection(self._settings.kafka),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=_FETCH_BYTES,
            )
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            self._consumer = consumer
        return self._consumer


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("cannot read clicks again, trying once more", error=repr(error))
