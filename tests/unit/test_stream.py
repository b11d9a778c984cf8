"""What stands between Faust's consumer and the handler: who keeps what over a rebalance, and where it goes on."""

from pathlib import Path

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from worker.fetched import Fetched
from worker.settings import Settings
from worker.stream import batch_app, hand_over, put_back, reassign

TP = TopicPartition("clicks", 0)
OTHER = TopicPartition("clicks", 1)


class _Handler:
    """Notes what it is given."""

    def __init__(self, taken: int = 0) -> None:
        self.assignments: list[set[TopicPartition]] = []
        self.batches: list[list[int]] = []
        self._taken = taken

    async def assigned(self, partitions: set[TopicPartition]) -> None:
        self.assignments.append(partitions)

    async def drain(self) -> None: ...

    def has_room(self, partition: TopicPartition) -> bool:
        return True

    async def wait_for_room(self) -> None: ...

    def taken(self, partition: TopicPartition) -> int:
        return self._taken

    def take(self, partition: TopicPartition, records: Fetched) -> None:
        self.batches.append([record.offset for record in records])

    def finished(self) -> dict[TopicPartition, int]:
        return {TP: self._taken}


async def test_partitions_are_kept_from_one_generation_to_the_next() -> None:
    """Nobody else can have had them in between."""
    handler = _Handler()
    await reassign(handler, {TP}, generation=5, before=4)
    assert handler.assignments == [{TP}]


async def test_after_a_missed_generation_everything_is_forgotten_first() -> None:
    """Another member may have had the partition; also when the group was made anew and counts from one."""
    for generation in (6, 4, 1):
        handler = _Handler()
        await reassign(handler, {TP}, generation, before=4)
        assert handler.assignments == [set(), {TP}]


async def test_the_first_assignment_has_nothing_to_forget() -> None:
    """A worker that has just joined is not told of an empty assignment, which would look like being ready."""
    handler = _Handler()
    await reassign(handler, {TP}, generation=7, before=-1)
    assert handler.assignments == [{TP}]


def test_records_that_come_again_are_skipped() -> None:
    """Only what the handler has not taken is handed over, and never an empty batch."""
    handler = _Handler(taken=3)
    hand_over(handler, {TP: _records(1, 2, 3, 7)})
    hand_over(handler, {TP: _records(1, 2)})
    assert handler.batches == [[3, 7]]


def test_what_was_thrown_away_is_fetched_again() -> None:
    """The consumer goes back to where the handler is, in partitions that the handler still has."""
    assert put_back(_Handler(taken=3), {TP: _records(4), OTHER: _records(9)}) == {TP: 3}


def _records(*offsets: int) -> Fetched:
    return Fetched.of([ConsumerRecord("clicks", 0, offset, 0, 0, b"k", b"v", None, 0, 0, ()) for offset in offsets])


def test_no_folder_is_made_where_a_worker_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust makes one for tables, which there are none of."""
    monkeypatch.chdir(tmp_path)
    app = batch_app(Settings(), "group", ["clicks"], _Handler())
    app._create_directories()
    assert list(tmp_path.iterdir()) == []
