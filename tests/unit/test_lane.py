"""One partition's batches: how many are taken on, and that order is kept."""

import asyncio
import threading
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from worker.fetched import Fetched
from worker.lane import Lane, Room


class _Batch(NamedTuple):
    next_offset: int


class _Steps:
    """Scores when told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.published: list[int] = []
        self.kept: list[int] = []
        self.kept_at_once: list[int] = []
        self.threads: list[bool] = []

    def prepare(self, records: Fetched) -> _Batch:
        self.threads.append(threading.current_thread() is not threading.main_thread())
        return _Batch(records[-1].offset + 1)

    async def score(self, batch: _Batch) -> _Batch:
        await self.go.wait()
        return batch

    async def publish(self, batches: Sequence[_Batch]) -> None:
        self.published += [batch.next_offset for batch in batches]

    async def keep(self, batches: Sequence[_Batch]) -> None:
        ends = [batch.next_offset for batch in batches]
        assert self.published[len(self.kept) :][: len(ends)] == ends
        self.kept += ends
        self.kept_at_once.append(len(ends))


def records(start: int, count: int) -> Fetched:
    return Fetched.of(
        [ConsumerRecord("clicks", 0, offset, 0, 0, b"v", b"", None, 0, 0, ()) for offset in range(start, start + count)]
    )


@pytest.mark.parametrize(("size", "taken_on"), [(1, 2), (100, 2), (256, 2), (257, 1), (1000, 1)])
async def test_few_events_wait_for_their_scores(size: int, taken_on: int) -> None:
    """One is taken on while a small one is scored, none while a large one is; then there is room again, and the order is kept."""
    steps, room = _Steps(), Room(1_000_000)
    lane = Lane(TopicPartition("clicks", 0), 0, steps, lambda error: None, room)
    taken = 0
    for _ in range(20):
        if lane.has_room:
            lane.take(records(taken * size, size))
            taken += 1
        await asyncio.sleep(0)
    assert taken == taken_on
    room.grew.clear()
    steps.go.set()
    async with asyncio.timeout(5):
        await room.grew.wait()
        await lane.idle.wait()
    assert lane.has_room
    assert steps.published == [size * number for number in range(1, taken + 1)]
    await lane.close()


@pytest.mark.parametrize(("size", "in_a_thread"), [(256, False), (257, True)])
async def test_a_large_batch_is_prepared_beside_the_loop(size: int, in_a_thread: bool) -> None:
    """A small one is not: the way to a thread and back would take longer."""
    steps = _Steps()
    lane = Lane(TopicPartition("clicks", 0), 0, steps, lambda error: None, Room(0))
    lane.take(records(0, size))
    steps.go.set()
    async with asyncio.timeout(5):
        await lane.idle.wait()
    assert steps.threads == [in_a_thread]
    await lane.close()


async def test_all_partitions_together_hold_a_bounded_number_of_events() -> None:
    """What all have without a score counts for each; what is given up, or has its scores, counts no more."""
    steps, room = [_Steps() for _ in range(3)], Room(500)
    lanes = [Lane(TopicPartition("clicks", n), 0, one, lambda error: None, room) for n, one in enumerate(steps)]
    for lane in lanes[:2]:
        assert lane.has_room
        lane.take(records(0, 300))
    assert not any(lane.has_room for lane in lanes)
    await lanes[0].close()
    assert lanes[2].has_room
    lanes[2].take(records(0, 300))
    assert not lanes[2].has_room
    steps[1].go.set()
    async with asyncio.timeout(5):
        await lanes[1].idle.wait()
    assert lanes[1].has_room
    for lane in lanes[1:]:
        await lane.close()


async def test_nobody_waits_for_a_lane_that_has_failed() -> None:
    """A drain would else take all the time there is, though nothing more can happen."""

    class Broken(_Steps):
        async def score(self, batch: _Batch) -> _Batch:
            raise ZeroDivisionError

    failures: list[BaseException] = []
    lane = Lane(TopicPartition("clicks", 0), 0, Broken(), failures.append, Room(1_000))
    lane.take(records(0, 1))
    async with asyncio.timeout(5):
        await lane.idle.wait()
    assert not lane.has_room
    lane.take(records(1, 1))  # it was on its way
    async with asyncio.timeout(5):
        await lane.idle.wait()
    assert (lane.finished, [type(failure) for failure in failures]) == (0, [ZeroDivisionError])
    await lane.close()


async def test_state_is_kept_behind_the_scores_and_more_rarely() -> None:
    """What was published meanwhile is kept together; a batch is finished when it is kept, and the last one is, too."""
    steps = _Steps()
    steps.go.set()
    lane = Lane(TopicPartition("clicks", 0), 0, steps, lambda error: None, Room(1_000), keep_every_s=0.2)
    for offset in range(6):
        lane.take(records(offset, 1))
        async with asyncio.timeout(5):
            while len(steps.published) <= offset:  # noqa: ASYNC110  # the lane tells nobody
                await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert steps.published == [1, 2, 3, 4, 5, 6]
    assert (steps.kept, lane.finished, lane.idle.is_set()) == ([1], 1, False)
    async with asyncio.timeout(5):
        await lane.idle.wait()
    assert (steps.kept_at_once, lane.finished) == ([1, 5], 6)
    await lane.close()
