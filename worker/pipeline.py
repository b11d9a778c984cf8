"""One batch from bytes to committed scores, readable top to bottom.

    records -> fold_batch (decode, fold, encode) -> score -> score_records -> Delivery.publish -> Delivery.keep -> finished

While one batch of a partition is published the next is scored and, if that one is small, the one after it folded; what waits to be
published, or for its state to be kept, goes out together. A large batch is scored in parts. Order is kept.
"""

import asyncio
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from aiokafka.consumer.consumer import ConsumerRecord
from aiokafka.structs import TopicPartition
from structlog import get_logger

from worker import __version__, metrics, record_batch
from worker.contract import slab
from worker.contract.clicks import Clicks, read
from worker.contract.events import InvalidRecord
from worker.contract.features import FeatureSpec, ModelInputs, padded_steps
from worker.contract.revision import Revision
from worker.contract.slab import Step
from worker.dead import dead_letter
from worker.delivery import Delivery
from worker.lane import Lane, Room
from worker.owner import Owner
from worker.record_batch import Records
from worker.revise import ClickLog, revised_parts, revised_records
from worker.scoring import lines
from worker.scoring.base import Path, Scores
from worker.scoring.lines import Scored, score_lines
from worker.scoring.shared import SharedScorer
from worker.send import Record
from worker.settings import Settings
from worker.store import PartitionState, Source, restore

log = get_logger()

_ROOM_WAIT_S = 0.05
#: Largest batches that may wait for their scores when another is taken.
_LARGEST_BATCHES = 2
#: What is looked at of each record.
_FIELDS = operator.attrgetter("value", "key", "offset", "timestamp")
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


class FoldedBatch(NamedTuple):
    """A batch after decode, fold and encode: B events to score, dead letters, and the state to keep."""

    next_offset: int
    clicks: Clicks  # [B]
    records: list[ConsumerRecord]  # [B]
    offsets: npt.NDArray[np.int64]  # [B]
    timestamps_ms: npt.NDArray[np.int64]  # [B] of the records
    sessions: npt.NDArray[np.uint64]  # [B] id of each event's session as a number; this and the next two right after the event
    positions: npt.NDArray[np.int64]  # [B]
    input_hashes: npt.NDArray[np.uint64]  # [B]
    inputs: ModelInputs | None  # None when B is 0
    dead: list[Record]
    changes: Records
    revisions: list[Revision]  # earlier events to score anew, for the late ones among the B

    def parts(self, most: int) -> Iterator["FoldedBatch"]:
        """The events to score in parts of at most so many."""
        if self.inputs is None or len(self.records) <= most:
            yield from () if self.inputs is None else (self,)
            return
        for start in range(0, len(self.records), most):
            rows = slice(start, start + most)
            steps = padded_steps(int(self.inputs.length[rows].max()))
            yield self._replace(
                clicks=self.clicks.at(np.arange(len(self.records))[rows]),
                records=self.records[rows],
                offsets=self.offsets[rows],
                timestamps_ms=self.timestamps_ms[rows],
                sessions=self.sessions[rows],
                positions=self.positions[rows],
                input_hashes=self.input_hashes[rows],
                inputs=ModelInputs(self.inputs.codes[rows, :steps], self.inputs.numbers[rows, :steps], self.inputs.length[rows]),
            )


class ScoredBatch(NamedTuple):
    """A batch ready to be published."""

    next_offset: int
    scores: Records  # of the events, and behind them those of earlier events that were scored anew
    paths: list[tuple[Path, int]]  # how many of the events' scores came by which
    timestamps_ms: npt.NDArray[np.int64]  # of the records that were scored
    dead: list[Record]
    changes: Records


def fold_batch(state: PartitionState, records: list[ConsumerRecord], max_future_ms: int) -> FoldedBatch:
    """Decode a partition's records and fold them into its state, in order."""
    dead: list[Record] = []
    values, keys, *numbers = zip(*map(_FIELDS, records), strict=True)
    offsets, timestamps_ms = (np.array(column, np.int64) for column in numbers)
    taken = read(values, keys, timestamps_ms, state.fold.spec, max_future_ms)
    for row, invalid in taken.invalid:
        metrics.dead_letters.labels(invalid.reason.value).inc()
        dead.append(_dead_letter(records[row], invalid))
    at, clicks = taken.at, taken.clicks
    step = state.fold.fold(clicks, offsets[at])
    _count(step)
    if len(step.at) < len(at):
        at, clicks = at[step.at], clicks.at(step.at)
    next_offset = records[-1].offset + 1
    return FoldedBatch(
        next_offset,
        clicks,
        records if len(at) == len(records) else [records[row] for row in at.tolist()],
        offsets[at],
        timestamps_ms[at],
        step.session,
        step.position,
        step.chain,
        step.inputs,
        dead,
        state.changes(next_offset),
        step.revisions,
    )


def score_records(batch: FoldedBatch, scores: Scores, settings: Settings, now_ms: int) -> Records:
    """The batch's ScoreEvents as Kafka records. There must be one at least."""
    first = batch.records[0]
    scored = Scored(
        f"{first.topic}:{first.partition}:",
        batch.offsets,
        batch.clicks.text,
        batch.clicks.event_id,
        batch.clicks.visitor_id,
        batch.sessions,
        batch.positions,
        batch.clicks.time_ms,
        # Age by the record's own timestamp: event time may run faster than the clock.
        np.maximum(now_ms - batch.timestamps_ms, 0),
        batch.input_hashes,
        np.zeros(len(batch.records), np.int64),
    )
    return Records(batch.clicks.keys, *score_lines(scored, scores, settings.model.name, now_ms, settings.scoring.deadline_ms))


def warm_up() -> None:
    """Compile what works on batches, or load it from disk where that was done before: no partition should wait for it."""
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
    ) -> None:
        self._settings = settings
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
            states = await restore(self._source, self._settings, [tp.partition for tp in new], self._spec) if new else {}
        except Exception as error:
            # Faust would log an exception of a rebalance callback and go on without state.
            self._fail(error)
            return
        for tp in new:
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

    def take(self, partition: TopicPartition, records: list[ConsumerRecord]) -> None:
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

    def prepare(self, records: list[ConsumerRecord]) -> FoldedBatch:
        metrics.events.labels(self._partition).inc(len(records))
        metrics.batch_events.observe(len(records))
        with metrics.stage.labels("fold").time():
            batch = fold_batch(self._state, records, self._max_future_ms)
        metrics.live_sessions.labels(self._partition).set(len(self._state.fold))
        return batch

    async def score(self, batch: FoldedBatch) -> ScoredBatch:
        scores: list[Records] = []
        paths: list[tuple[Path, int]] = []
        for part in batch.parts(_SCORED_AT_ONCE):
            assert part.inputs is not None
            answer = await self._ask(part.inputs)
            paths.append((answer.path, len(part.records)))
            scores.append(score_records(part, answer, self._settings, self._clock()))
        if batch.revisions:
            scores += await self._score_anew(batch)
        return ScoredBatch(batch.next_offset, Records.joined(scores), paths, batch.timestamps_ms, batch.dead, batch.changes)

    async def _score_anew(self, batch: FoldedBatch) -> list[Records]:
        """Scores of events that stand behind the batch's late ones. They follow on those of the batch, which is their order."""
        records: list[Records] = []
        event_ids = await self._clicks.event_ids(self._partition, {revision.offset for revision in batch.revisions})
        for part in revised_parts(batch, event_ids, _SCORED_AT_ONCE):
            answer = await self._ask(part.inputs)
            metrics.revisions.labels(answer.path).inc(len(part.revisions))
            records.append(revised_records(part, answer, self._partition, self._settings, self._clock()))
        return records

    async def _ask(self, inputs: ModelInputs) -> Scores:
        with metrics.stage.labels("score").time():
            return await self._scorer.score(inputs)

    async def publish(self, batches: Sequence[ScoredBatch]) -> None:
        with metrics.stage.labels("publish").time():
            await self._delivery.publish(self._partition, *_scores_and_dead(batches))
        if not self._delivery.at_once:
            self._count(batches)

    async def keep(self, batches: Sequence[ScoredBatch]) -> None:
        for some in _fitting(batches):
            changes = Records.joined([batch.changes for batch in some])
            with metrics.stage.labels("keep").time():
                await self._delivery.keep(self._owner, *_scores_and_dead(some), changes)
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


def _scores_and_dead(batches: Sequence[ScoredBatch]) -> tuple[Records, list[Record]]:
    return Records.joined([batch.scores for batch in batches]), [letter for batch in batches for letter in batch.dead]


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


def _count(step: Step) -> None:
    for outcome, events in step.outcomes().items():
        if events:
            metrics.outcomes.labels(outcome.value).inc(events)
            if not outcome.changed:
                metrics.dropped.labels(outcome.value).inc(events)


def _dead_letter(record: ConsumerRecord, invalid: InvalidRecord) -> Record:
    return dead_letter(
        record.value,
        record.key,
        record.headers,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        reason=invalid.reason.value,
        detail=invalid.detail,
        stage="decode",
        worker_version=__version__,
    )
