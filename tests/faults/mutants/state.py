"""Bugs in what is kept, read back and folded."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from tests.faults import worker
from tests.faults.broker import Entry, Log
from worker import batch as walk
from worker import pipeline
from worker.batch import FoldedBatch
from worker.contract import kernel, slab
from worker.contract.clicks import Clicks
from worker.contract.cold import InMemory
from worker.contract.counters import Counters
from worker.contract.features import ROW
from worker.contract.revision import Revision
from worker.contract.session import Session
from worker.contract.slab import Slab
from worker.contract.step import Changed, Step
from worker.record_batch import Records
from worker.store import PartitionState

_changes = PartitionState.changes


@contextmanager
def state_without_position() -> Iterator[None]:
    """The changelog does not say up to where it goes."""

    def changes(self: PartitionState, next_offset: int) -> Records:
        *changes, position = _changes(self, next_offset)
        return Records.of(changes or [position])  # nothing at all cannot be written

    with patch.object(PartitionState, "changes", changes):
        yield


@contextmanager
def session_not_kept() -> Iterator[None]:
    """Of several changed sessions, one is forgotten."""
    take = Slab.take_changed

    def forgetful(self: Slab, mark: bytes) -> Changed:
        changed = take(self, mark)
        if len(changed.keys) < 2:
            return changed
        return Changed(changed.keys[1:], changed.first[1:], changed.packed[changed.sizes[0] :], changed.sizes[1:])

    with patch.object(Slab, "take_changed", forgetful):
        yield


@contextmanager
def newest_row_not_kept() -> Iterator[None]:
    """Of the rows that a session got in a batch the newest is left out."""
    take = Slab.take_changed

    def stingy(self: Slab, mark: bytes) -> Changed:
        changed = take(self, mark)
        records = Records(changed.keys, changed.packed, changed.sizes)
        cut = b"".join(session[: -ROW.itemsize] for _, session in records if session is not None)
        return Changed(changed.keys, changed.first, cut, changed.sizes - ROW.itemsize)

    with patch.object(Slab, "take_changed", stingy):
        yield


@contextmanager
def rows_never_whole() -> Iterator[None]:
    """A window that moved on is kept as if its rows had only been added to."""
    halve = kernel.fold

    def unmarked(first: int, batch: Any, folded: Any, memory: Any, *rest: Any) -> tuple[int, int]:
        before = memory.heads["length"].copy()
        stopped = halve(first, batch, folded, memory, *rest)
        heads = memory.heads
        moved = (heads["unsaved"] == kernel.WHOLE) & (heads["length"] <= before) & (heads["length"] > 1)
        heads["unsaved"][moved] = 1
        return stopped

    with patch.object(kernel, "fold", unmarked):
        yield


@contextmanager
def forgotten_by_chance() -> Iterator[None]:
    """Who is forgotten depends on when somebody looked."""

    due = Slab.expire

    def expire(self: Slab, most: int = 1) -> list[bytes]:
        for slot in list(self._slots.values())[:1]:
            self._heads["seen_ms"][slot] = 0
        self._expired_ms = -(2**62)
        return due(self, most)

    with patch.object(Slab, "expire", expire):
        yield


@contextmanager
def cold_session_lost() -> Iterator[None]:
    """Of the sessions that become cold one is forgotten."""
    add = InMemory.add

    def forgetful(self: InMemory, sessions: Iterable[tuple[bytes, bytes]]) -> None:
        add(self, itertools.islice(sessions, 1, None))

    with patch.object(InMemory, "add", forgetful):
        yield


@contextmanager
def cold_before_kept() -> Iterator[None]:
    """Sessions become cold before their changes are in the changelog."""

    def changes(self: PartitionState, next_offset: int) -> Records:
        self.fold.cool()
        return _changes(self, next_offset)

    with patch.object(PartitionState, "changes", changes):
        yield


@contextmanager
def counters_not_kept() -> Iterator[None]:
    """The changelog has no counters."""
    with patch.object(Counters, "take_changed", lambda self: None):
        yield


@contextmanager
def counters_not_restored() -> Iterator[None]:
    """What the changelog has of counters is not read."""
    with patch.object(Counters, "restore", lambda self, number, taken: None):
        yield


@contextmanager
def counter_blocks_not_in_turn() -> Iterator[None]:
    """Whoever reads counters back begins with the first block again, which may come round before the others did."""
    restore = Counters.restore

    def from_the_start(self: Counters, number: int, taken: bytes) -> None:
        restore(self, number, taken)
        self._turn = 0

    with patch.object(Counters, "restore", from_the_start):
        yield


@contextmanager
def counter_blocks_not_whole() -> Iterator[None]:
    """All records of counters have the first block's key, so that compaction takes changes that no other record holds."""
    take = Counters.take_changed

    def first(self: Counters) -> tuple[int, bytes] | None:
        self._turn = 0
        return take(self)

    with patch.object(Counters, "take_changed", first):
        yield


@contextmanager
def duplicates_not_detected() -> Iterator[None]:
    """An event that comes twice counts twice."""
    fold = Slab.fold
    never = itertools.count()

    def other(self: Slab, clicks: Clicks, *rest: Any, **named: Any) -> Step:
        clicks.event_hash[:] = [next(never) for _ in clicks.event_hash]
        return fold(self, clicks, *rest, **named)

    with patch.object(Slab, "fold", other):
        yield


@contextmanager
def one_offset_too_far() -> Iterator[None]:
    """A batch is said to end one record behind its end."""
    fold = walk.fold_batch

    def too_far(state: PartitionState, *others: Any) -> FoldedBatch:
        batch = fold(state, *others)
        return batch._replace(changes=Records.of([*list(batch.changes)[:-1], *_changes(state, batch.next_offset + 1)]))

    with patch.object(pipeline, "fold_batch", too_far):
        yield


@contextmanager
def unfinished_state_read() -> Iterator[None]:
    """What is read back includes what its owner did not finish."""

    def read(log: Log, at: int, end: int) -> list[Entry]:
        return [entry for entry in log.entries if at <= entry.offset < end]

    with patch.object(worker, "_read", read), patch.object(worker, "_end", lambda log: log.end):
        yield


@contextmanager
def revisions_of_newest_only() -> Iterator[None]:
    """Of the events behind a late one only the last is scored anew."""
    revisions = slab.revisions

    def stingy(*session: Any) -> list[Revision]:
        return revisions(*session)[-1:]

    with patch.object(slab, "revisions", stingy):
        yield


@contextmanager
def revisions_counted_in_memory() -> Iterator[None]:
    """Revisions are numbered by what the process remembers: a batch that is folded again goes on counting."""
    revisions = slab.revisions
    counts: dict[tuple[str, int], int] = {}

    def counted(before: Session, *rest: Any) -> list[Revision]:
        found = []
        for revision in revisions(before, *rest):
            name = (revision.visitor_id, revision.offset)
            counts[name] = counts.get(name, 0) + 1
            found.append(revision._replace(number=counts[name]))
        return found

    with patch.object(slab, "revisions", counted):
        yield


@contextmanager
def revised_from_the_whole_window() -> Iterator[None]:
    """An event is scored anew from the whole session, and so knows what came after it."""
    revisions = slab.revisions

    def knowing(before: Session, arrival: Any, after: Session, spec: Any) -> list[Revision]:
        return [one._replace(window=after.rows) for one in revisions(before, arrival, after, spec)]

    with patch.object(slab, "revisions", knowing):
        yield


MUTANTS = (
    revisions_of_newest_only,
    revisions_counted_in_memory,
    revised_from_the_whole_window,
    state_without_position,
    session_not_kept,
    newest_row_not_kept,
    rows_never_whole,
    forgotten_by_chance,
    cold_session_lost,
    cold_before_kept,
    counters_not_kept,
    counters_not_restored,
    counter_blocks_not_in_turn,
    counter_blocks_not_whole,
    duplicates_not_detected,
    one_offset_too_far,
    unfinished_state_read,
)
