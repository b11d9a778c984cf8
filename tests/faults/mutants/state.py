"""Bugs in what is kept, read back and folded."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from tests.faults.broker import Entry, Log
from worker import pipeline
from worker.contract import window
from worker.contract.counters import Counters
from worker.contract.session import Session
from worker.pipeline import FoldedBatch
from worker.store import Change, PartitionState

_changes = PartitionState.changes


@contextmanager
def state_without_position() -> Iterator[None]:
    """The changelog does not say up to where it goes."""

    def changes(self: PartitionState, sessions: Iterable[Session], next_offset: int) -> list[Change]:
        return _changes(self, sessions, next_offset)[:-1]

    with patch.object(PartitionState, "changes", changes):
        yield


@contextmanager
def session_not_kept() -> Iterator[None]:
    """Of several changed sessions, one is forgotten."""

    def changes(self: PartitionState, sessions: Iterable[Session], next_offset: int) -> list[Change]:
        sessions = list(sessions)
        forgotten = sessions[0].visitor_id if len({session.visitor_id for session in sessions}) > 1 else None
        return _changes(self, [session for session in sessions if session.visitor_id != forgotten], next_offset)

    with patch.object(PartitionState, "changes", changes):
        yield


@contextmanager
def older_session_kept() -> Iterator[None]:
    """Of a visitor's sessions in a batch the first is kept, not the newest."""

    def changes(self: PartitionState, sessions: Iterable[Session], next_offset: int) -> list[Change]:
        return _changes(self, reversed(list(sessions)), next_offset)

    with patch.object(PartitionState, "changes", changes):
        yield


@contextmanager
def counters_not_kept() -> Iterator[None]:
    """The changelog has no counters."""
    with patch.object(Counters, "take_dirty", lambda self: {}):
        yield


@contextmanager
def counters_not_restored() -> Iterator[None]:
    """What the changelog has of counters is not read."""
    with patch.object(Counters, "restore", lambda self, number, block: None):
        yield


@contextmanager
def duplicates_not_detected() -> Iterator[None]:
    """An event that comes twice counts twice."""
    with patch.object(window, "holds", lambda rows, event_hash: False):
        yield


@contextmanager
def one_offset_too_far() -> Iterator[None]:
    """A batch is said to end one record behind its end."""
    fold = pipeline.fold_batch

    def too_far(state: PartitionState, records: list[Any], max_future_ms: int) -> FoldedBatch:
        batch = fold(state, records, max_future_ms)
        return batch._replace(changes=_changes(state, batch.sessions, batch.next_offset + 1))

    with patch.object(pipeline, "fold_batch", too_far):
        yield


@contextmanager
def unfinished_state_read() -> Iterator[None]:
    """What is read back includes what its owner did not finish."""

    def committed(self: Log) -> list[Entry]:
        return self.entries

    with patch.object(Log, "committed", committed), patch.object(Log, "stable_end", property(lambda self: self.end)):
        yield


MUTANTS = (
    state_without_position,
    session_not_kept,
    older_session_kept,
    counters_not_kept,
    counters_not_restored,
    duplicates_not_detected,
    one_offset_too_far,
    unfinished_state_read,
)
