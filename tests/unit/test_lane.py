"""One partition's batches: how many are taken on, and that order is kept."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from worker.lane import Lane


class _Batch(NamedTuple):
    next_offset: int


class _Steps:
    """Scores when told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.published: list[int] = []

    def prepare(self, records: list[ConsumerRecord]) -> _Batch:
        return _Batch(records[-1].offset + 1)

    async def score(self, batch: _Batch) -> _Batch:
        await self.go.wait()
        return batch

    async def publish(self, batches: Sequence[_Batch]) -> None:
        self.published += [batch.next_offset for batch in batches]


def records(start: int, count: int) -> list[ConsumerRecord]:
    return [ConsumerRecord("clicks", 0, offset, 0, 0, b"v", b"", None, 0, 0, ()) for offset in range(start, start + count)]


@pytest.mark.parametrize(("size", "taken_on"), [(1, 4), (100, 3), (256, 2), (1000, 1)])
async def test_few_events_wait_for_their_scores(size: int, taken_on: int) -> None:
    """The larger the batches, the fewer are taken on before they are scored; then there is room again, and the order is kept."""
    steps, room = _Steps(), asyncio.Event()
    lane = Lane(TopicPartition("clicks", 0), 0, steps, lambda error: None, room)
    taken = 0
    for _ in range(20):
        if lane.has_room:
            lane.take(records(taken * size, size))
            taken += 1
        await asyncio.sleep(0)
    assert taken == taken_on
    room.clear()
    steps.go.set()
    async with asyncio.timeout(5):
        await room.wait()
        await lane.idle.wait()
    assert lane.has_room
    assert steps.published == [size * number for number in range(1, taken + 1)]
    await lane.close()
