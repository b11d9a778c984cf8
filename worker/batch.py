"""One batch of a partition on its way: folded, then scored. What is CPU, and waits for nothing."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from aiokafka import ConsumerRecord

from worker import __version__, metrics
from worker.contract.clicks import Clicks, read
from worker.contract.events import InvalidRecord
from worker.contract.features import ModelInputs
from worker.contract.revision import Revision
from worker.contract.step import Step
from worker.dead import dead_letter
from worker.fetched import Fetched
from worker.follow import Followed, followed, of_users
from worker.record_batch import Records
from worker.scoring.base import Path, Scores
from worker.scoring.lines import Scored, score_lines
from worker.send import Record
from worker.settings import Settings
from worker.store import PartitionState


class FoldedBatch(NamedTuple):
    """A batch after decode, fold and encode: B events to score, dead letters, and the state to keep."""

    next_offset: int
    clicks: Clicks  # [B]
    offsets: npt.NDArray[np.int64]  # [B]
    timestamps_ms: npt.NDArray[np.int64]  # [B] of the records
    sessions: npt.NDArray[np.uint64]  # [B] id of each event's session as a number; this and the next two right after the event
    positions: npt.NDArray[np.int64]  # [B]
    input_hashes: npt.NDArray[np.uint64]  # [B]
    inputs: ModelInputs | None  # None when B is 0
    dead: list[Record]
    changes: Records
    revisions: list[Revision]  # earlier events to score anew, for the late ones among the B
    followed: list[Followed]  # those to copy for their users

    def parts(self, most: int) -> Iterator["FoldedBatch"]:
        """The events to score in parts of at most so many."""
        if self.inputs is None or len(self.offsets) <= most:
            yield from () if self.inputs is None else (self,)
            return
        for start in range(0, len(self.offsets), most):
            rows = slice(start, start + most)
            yield self._replace(
                clicks=self.clicks.part(start, start + most),
                offsets=self.offsets[rows],
                timestamps_ms=self.timestamps_ms[rows],
                sessions=self.sessions[rows],
                positions=self.positions[rows],
                input_hashes=self.input_hashes[rows],
                inputs=self.inputs.part(rows),
            )


class ScoredBatch(NamedTuple):
    """A batch ready to be published."""

    next_offset: int
    scores: Records  # of the events, and behind them those of earlier events that were scored anew
    paths: list[tuple[Path, int]]  # how many of the events' scores came by which
    timestamps_ms: npt.NDArray[np.int64]  # of the records that were scored
    dead: list[Record]
    changes: Records
    copies: list[Record]  # clicks for the sequences of users, in order


def fold_batch(state: PartitionState, records: Fetched, max_future_ms: int, follow_users: bool = False) -> FoldedBatch:
    """Decode a partition's records and fold them into its state, in order."""
    dead: list[Record] = []
    offsets, timestamps_ms = records.offsets, records.timestamps_ms
    taken = read(records.values(), records.keys(), timestamps_ms, state.fold.spec, max_future_ms)
    for row, invalid in taken.invalid:
        metrics.dead_letters.labels(invalid.reason.value).inc()
        dead.append(_dead_letter(records[row], invalid))
    at, clicks = taken.at, taken.clicks
    members = of_users(clicks) if follow_users else None
    step = state.fold.fold(clicks, offsets[at], of_user=members)
    _count(step)
    to_copy = [] if members is None else followed(clicks, offsets[at], members, step)
    if len(step.at) < len(at):
        at, clicks = at[step.at], clicks.at(step.at)
    next_offset = int(offsets[-1]) + 1
    return FoldedBatch(
        next_offset,
        clicks,
        offsets[at],
        timestamps_ms[at],
        step.session,
        step.position,
        step.chain,
        step.inputs,
        dead,
        state.changes(next_offset),
        step.revisions,
        to_copy,
    )


def score_records(batch: FoldedBatch, scores: Scores, partition: int, settings: Settings, now_ms: int) -> Records:
    """The batch's ScoreEvents as Kafka records."""
    scored = Scored(
        f"{settings.topics.clicks}:{partition}:",
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
        np.zeros(len(batch.offsets), np.int64),
    )
    return Records(batch.clicks.keys, *score_lines(scored, scores, settings.model.name, now_ms, settings.scoring.deadline_ms))


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
