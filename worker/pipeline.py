"""One batch from bytes to committed scores, readable top to bottom.

    records -> fold_batch (decode, fold, encode) -> score -> score_records -> Delivery.publish -> Delivery.keep -> finished

While one batch of a partition is published the next is scored and, if that one is small, the one after it folded; what waits to
be published, or for its state to be kept, goes out together. A large batch is scored in parts. Order is kept.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from aiokafka.structs import TopicPartition
from structlog import get_logger

from worker import fetched, follow, metrics, record_batch
from worker.batch import FoldedBatch, ScoredBatch, fold_batch, score_records
from worker.click_log import ClickLog
from worker.contract import slab
from worker.contract.features import FeatureSpec, ModelInputs
from worker.delivery import Delivery
from worker.fetched import Fetched
from worker.lane import Lane, Room
from worker.owner import Owner
from worker.record_batch import Records
from worker.revise import revised_parts, revised_records
from worker.scoring import lines
from worker.scoring.base import Path, Scores
from worker.scoring.shared import SharedScorer
from worker.send import Record
from worker.settings import Settings
from worker.store import ColdPlace, PartitionState, Source, restore

log = get_logger()

_ROOM_WAIT_S = 0.05
#: Largest batches that may wait for their scores when another is taken.
_LARGEST_BATCHES = 2
#: Events that the scorer is asked for at once: what its deadline and the model server's batches are chosen for.
_SCORED_AT_ONCE = 256
#: Questions to the scorer at once. More would only queue in the model server, where waiting counts against the deadline.
_SCORING_AT_ONCE = 2
#: From one writing of a partition's state to the next: it costs Kafka more than a small batch's scores, and nobody waits for it.
_KEEP_EVERY_S = 0.1
#: State of several batches that is written at once, below what Kafka takes by default. A single batch may have more.
_STATE_AT_ONCE_BYTES = 800_000


class Scorer(Protocol):
    """What the pipeline asks for scores. Always answers, by the fallback if need be (`scoring.guarded`)."""

    async def score(self, inputs: ModelInputs) -> Scores: ...


def warm_up() -> None:
    """Compile what works on batches, or load it from disk where that was done before: no partition should wait for it."""
    fetched.warm_up()
    slab.warm_up()
    lines.warm_up()
    record_batch.warm_up()


def wall_ms() -> int:
    """What the clock on the wall shows, in ms since the epoch."""
    return time.time_ns() // 1_000_000


class Pipeline:
    """Runs the walk for every partition that this worker owns: the `BatchHandler` of the scoring worker.

    `failed` gets the exception when a partition cannot go on: the worker then stops rather than skip.
    """

    def __init__(
        self,
        settings: Settings,
        spec: FeatureSpec,
        scorer: Scorer,
        delivery: Delivery,
        source: Source,
        clicks: ClickLog,
        failed: "asyncio.Future[None]",
        clock: Callable[[], int] = wall_ms,
        place: ColdPlace | None = None,
    ) -> None:
        self._settings = settings
        self._place = place
        self._spec = spec
        self._delivery = delivery
        self._source = source
        self._clicks = clicks
        self._failed = failed
        self._clock = clock
        self._room = Room(_LARGEST_BATCHES * settings.worker.max_batch)
        self._scorer = SharedScorer(scorer.score, _SCORED_AT_ONCE, _SCORING_AT_ONCE)
        self._lanes: dict[TopicPartition, Lane[FoldedBatch, ScoredBatch]] = {}
        self._owners: dict[TopicPartition, Owner] = {}
        self._states: dict[TopicPartition, PartitionState] = {}
        self.joined = False  # whether the group has given us an assignment, be it an empty one

    async def assigned(self, partitions: set[TopicPartition]) -> None:
        started = time.monotonic()
        for tp in self._lanes.keys() - partitions:
            await self._forget(tp)
        new = partitions - self._lanes.keys()
        try:
            # Own first: what an earlier owner still has under way must not land behind what is read here.
            for tp in sorted(new):
                self._owners[tp] = await self._delivery.own(tp.partition)
            numbers = [tp.partition for tp in new]
            states = await restore(self._source, self._settings, numbers, self._spec, self._place) if new else {}
        except Exception as error:
            # Faust would log an exception of a rebalance callback and go on without state.
            self._fail(error)
            return
        for tp in new:
            self._states[tp] = states[tp.partition]
            self._lanes[tp] = self._lane(tp, states[tp.partition])
        self.joined = True
        metrics.rebalance.observe(time.monotonic() - started)
        log.info("partitions assigned", owned=sorted(tp.partition for tp in partitions), restored=len(new))

    async def drain(self) -> None:
        """Finish what was taken. A partition that cannot in time is given up: its owner goes on from its changelog."""
        waits = {asyncio.ensure_future(lane.idle.wait()): tp for tp, lane in self._lanes.items()}
        if not waits:
            return
        _, late = await asyncio.wait(waits, timeout=self._settings.worker.drain_s)
        for wait in late:
            wait.cancel()
            log.warning("partition not drained in time, given up", partition=waits[wait].partition)
            await self._forget(waits[wait])

    def has_room(self, partition: TopicPartition) -> bool:
        lane = self._lanes.get(partition)
        return lane is not None and lane.has_room

    async def wait_for_room(self) -> None:
        self._room.grew.clear()
        try:
            await asyncio.wait_for(self._room.grew.wait(), _ROOM_WAIT_S)
        except TimeoutError:
            return

    def taken(self, partition: TopicPartition) -> int:
        return self._lanes[partition].taken

    def take(self, partition: TopicPartition, records: Fetched) -> None:
        self._lanes[partition].take(records)

    def finished(self) -> Mapping[TopicPartition, int]:
        return {tp: lane.finished for tp, lane in self._lanes.items()}

    def oldest_ms(self) -> Mapping[TopicPartition, int]:
        """The Kafka timestamp of the oldest record that was taken and is not finished."""
        return {tp: lane.oldest_ms for tp, lane in self._lanes.items() if lane.oldest_ms is not None}

    async def close(self) -> None:
        """Stop all partitions."""
        for tp in list(self._lanes):
            await self._forget(tp)
        while self._owners:  # of partitions that could not be restored
            self._delivery.disown(self._owners.popitem()[1])
        await self._scorer.close()

    def _lane(self, tp: TopicPartition, state: PartitionState) -> Lane[FoldedBatch, ScoredBatch]:
        steps = _Steps(
            self._settings,
            tp.partition,
            state,
            self._owners[tp],
            self._scorer,
            self._delivery,
            self._clicks,
            self._clock,
        )
        keep_every_s = 0.0 if self._delivery.at_once else _KEEP_EVERY_S
        return Lane(tp, state.next_offset, steps, self._fail, self._room, keep_every_s)

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    async def _forget(self, tp: TopicPartition) -> None:
        # A worker that ends while its group rebalances drains twice at once.
        if (lane := self._lanes.pop(tp, None)) is not None:
            await lane.close()
            self._states.pop(tp).close()
            self._delivery.disown(self._owners.pop(tp))


class _Steps:
    """The walk of one partition's batches."""

    def __init__(
        self,
        settings: Settings,
        partition: int,
        state: PartitionState,
        owner: Owner,
        scorer: Scorer,
        delivery: Delivery,
        clicks: ClickLog,
        clock: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._partition = partition
        self._state = state
        self._owner = owner
        self._scorer = scorer
        self._delivery = delivery
        self._clicks = clicks
        self._clock = clock
        self._max_future_ms = int(settings.session.max_future_s * 1000)

    def prepare(self, records: Fetched) -> FoldedBatch:
        metrics.events.labels(self._partition).inc(len(records))
        metrics.batch_events.observe(len(records))
        with metrics.stage.labels("fold").time():
            batch = fold_batch(self._state, records, self._max_future_ms, self._settings.session.follow_users)
        metrics.live_sessions.labels(self._partition).set(len(self._state.fold))
        return batch

    async def score(self, batch: FoldedBatch) -> ScoredBatch:
        scores: list[Records] = []
        paths: list[tuple[Path, int]] = []
        for part in batch.parts(_SCORED_AT_ONCE):
            assert part.inputs is not None
            answer = await self._ask(part.inputs)
            paths.append((answer.path, len(part.offsets)))
            scores.append(score_records(part, answer, self._partition, self._settings, self._clock()))
        if batch.revisions:
            scores += await self._score_anew(batch)
        copies = await self._copies(batch) if batch.followed else []
        return ScoredBatch(
            batch.next_offset, Records.joined(scores), paths, batch.timestamps_ms, batch.dead, batch.changes, copies
        )

    async def _score_anew(self, batch: FoldedBatch) -> list[Records]:
        """Scores of events that stand behind the batch's late ones. They follow on those of the batch, which is their order."""
        records: list[Records] = []
        clicks = await self._clicks.events(self._partition, {revision.offset for revision in batch.revisions})
        for part in revised_parts(batch, clicks, _SCORED_AT_ONCE):
            answer = await self._ask(part.inputs)
            metrics.revisions.labels(answer.path).inc(len(part.revisions))
            records.append(revised_records(part, answer, self._partition, self._settings, self._clock()))
        return records

    async def _copies(self, batch: FoldedBatch) -> list[Record]:
        """The clicks of users once more, for the users' own sequences."""
        wanted = {offset for one in batch.followed for offset in one.earlier["offset"].tolist()}
        earlier = await self._clicks.events(self._partition, wanted) if wanted else {}
        return follow.copies(batch.followed, earlier, f"{self._settings.topics.clicks}:{self._partition}:")

    async def _ask(self, inputs: ModelInputs) -> Scores:
        with metrics.stage.labels("score").time():
            return await self._scorer.score(inputs)

    async def publish(self, batches: Sequence[ScoredBatch]) -> None:
        with metrics.stage.labels("publish").time():
            await self._delivery.publish(self._partition, *_results(batches))
        if not self._delivery.at_once:
            self._count(batches)

    async def keep(self, batches: Sequence[ScoredBatch]) -> None:
        for some in _fitting(batches):
            changes = Records.joined([batch.changes for batch in some])
            with metrics.stage.labels("keep").time():
                await self._delivery.keep(self._owner, *_results(some), changes)
        if self._delivery.at_once:
            self._count(batches)

    def _count(self, batches: Sequence[ScoredBatch]) -> None:
        """Scores that are out."""
        done_ms = self._clock()
        for batch in batches:
            for path, scores_by_it in batch.paths:
                metrics.scores.labels(path).inc(scores_by_it)
            if batch.paths:
                ages_ms = np.maximum(done_ms - batch.timestamps_ms, 0)
                metrics.event_to_score.observe_all(ages_ms / 1000)


def _results(batches: Sequence[ScoredBatch]) -> tuple[Records, list[Record], list[Record]]:
    """What is written beside the state: scores, dead letters and copies."""
    return (
        Records.joined([batch.scores for batch in batches]),
        [letter for batch in batches for letter in batch.dead],
        [copy for batch in batches for copy in batch.copies],
    )


def _fitting(batches: Iterable[ScoredBatch]) -> Iterator[list[ScoredBatch]]:
    """The batches in groups whose state can be written at once."""
    group: list[ScoredBatch] = []
    room = _STATE_AT_ONCE_BYTES
    for batch in batches:
        if group and batch.changes.size > room:
            yield group
            group, room = [], _STATE_AT_ONCE_BYTES
        group.append(batch)
        room -= batch.changes.size
    yield group
