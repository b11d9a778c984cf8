"""Bugs around rebalances: what is kept, thrown away, waited for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from aiokafka import TopicPartition

from tests.faults.worker import SimWorker
from worker import stream
from worker.batch import FoldedBatch, ScoredBatch
from worker.lane import Lane
from worker.pipeline import Pipeline
from worker.store import PartitionState


@contextmanager
def no_skip_below_taken() -> Iterator[None]:
    """Records that come again after a rebalance or a restart are folded again."""

    def hand_over(handler: stream.BatchHandler, records: Any) -> None:
        for tp, batch in records.items():
            handler.take(tp, batch)

    with patch.object(stream, "hand_over", hand_over):
        yield


@contextmanager
def kept_over_a_missed_generation() -> Iterator[None]:
    """A worker that was paused goes on with the state it had, though another has had the partition."""

    async def reassign(handler: stream.BatchHandler, partitions: set[TopicPartition], generation: int, before: int) -> None:
        await handler.assigned(partitions)

    with patch.object(stream, "reassign", reassign):
        yield


@contextmanager
def generation_not_checked() -> Iterator[None]:
    """Records that were fetched before a rebalance are handed over after it."""
    with patch.object(SimWorker, "_is_current", lambda self, generation: self._flow):
        yield


@contextmanager
def thrown_away_and_not_put_back() -> Iterator[None]:
    """The consumer stays behind records that were fetched and thrown away."""
    with patch.object(stream, "put_back", lambda handler, records: {}):
        yield


@contextmanager
def drain_does_not_wait() -> Iterator[None]:
    """Partitions are given up with batches on their way."""

    async def drain(self: Pipeline) -> None:
        return

    with patch.object(Pipeline, "drain", drain):
        yield


@contextmanager
def state_kept_when_given_up() -> Iterator[None]:
    """What could not be drained in time is begun again, but on the state that has it in already."""
    states: dict[int, PartitionState] = {}
    make, forget = Pipeline._lane, Pipeline._forget

    def remember(self: Pipeline, tp: TopicPartition, state: PartitionState) -> Lane[FoldedBatch, ScoredBatch]:
        states[id(self), tp.partition] = state  # type: ignore[index]
        return make(self, tp, state)

    async def begin_again(self: Pipeline, tp: TopicPartition) -> None:
        lane, state = self._lanes[tp], states[id(self), tp.partition]  # type: ignore[index]
        if lane.idle.is_set():
            await forget(self, tp)
            return
        await lane.close()
        state.next_offset = lane.finished
        self._lanes[tp] = make(self, tp, state)

    with patch.object(Pipeline, "_lane", remember), patch.object(Pipeline, "_forget", begin_again):
        yield


@contextmanager
def lost_partitions_kept() -> Iterator[None]:
    """A partition that went to another worker is not forgotten, and taken up as it was when it comes back."""
    assigned = Pipeline.assigned

    async def keep(self: Pipeline, partitions: set[TopicPartition]) -> None:
        await assigned(self, partitions | self._lanes.keys())

    with patch.object(Pipeline, "assigned", keep):
        yield


MUTANTS = (
    no_skip_below_taken,
    kept_over_a_missed_generation,
    generation_not_checked,
    thrown_away_and_not_put_back,
    drain_does_not_wait,
    state_kept_when_given_up,
    lost_partitions_kept,
)
