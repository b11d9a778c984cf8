"""The changelog: what is written reads back the same, and what cannot be right, or is of an earlier version, is refused."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.logs import FORGETFUL, START_MS, WIDE, click, fold_events, folded, logs
from worker.contract.counters import Counters
from worker.contract.events import ClickEvent
from worker.contract.packed import pack
from worker.contract.session import Session, SessionPolicy
from worker.errors import StateError
from worker.store import Change, PartitionState


def sessions(state: PartitionState) -> dict[str, Session]:
    return {one.visitor_id: one for one in state.fold.sessions()}


def blocks(state: PartitionState) -> list[bytes]:
    return [state.fold.counters.block(number) for number in range(state.fold.counters.blocks)]


def restored(changelog: list[Change]) -> PartitionState:
    state = PartitionState(WIDE, FORGETFUL)
    for key, value in changelog:
        state.restore(key, value)
    state.check()
    return state


def compacted(changelog: list[Change]) -> list[Change]:
    """The newest record of each key, where it stood."""
    newest = {key: number for number, (key, _) in enumerate(changelog)}
    return [change for number, change in enumerate(changelog) if newest[change[0]] == number]


@settings(max_examples=150)
@given(logs(max_size=80), st.sets(st.integers(0, 80)), st.data())
def test_reads_back_the_same_however_it_was_compacted(log: list[ClickEvent], ends: set[int], data: st.DataObject) -> None:
    """Batches may end anywhere, and Kafka may have taken any record that a later one of the same key replaces."""
    state = PartitionState(WIDE, FORGETFUL)
    changelog: list[Change] = []
    for start, end in zip([0, *sorted(ends)], [*sorted(ends), len(log)], strict=True):
        fold_events(state.fold, log[start:end], range(len(log))[start:end])
        changelog += state.changes(min(end, len(log)))
    newest = {key: number for number, (key, _) in enumerate(changelog)}
    dirty = data.draw(st.integers(0, len(changelog)))  # compaction stops somewhere before the end
    kept = [
        change
        for number, change in enumerate(changelog)
        if number >= dirty or newest[change[0]] == number or data.draw(st.booleans())
    ]
    assert sum(value is None for _, value in changelog) < 200
    back = restored(kept)
    fold = folded(log, WIDE, FORGETFUL)[0]
    fold.expire()
    assert sessions(back) == sessions(state) == fold.sessions
    assert blocks(back) == blocks(state)
    assert back.next_offset == state.next_offset


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"v", b"\x01" + msgspec.msgpack.encode(Session("v"))),
        (b"v", b"\x02" + pack(Session("v"), 0) + bytes(10 * 144)),
        (b"v\x00\x00\x01", b"\x02" + pack(Session("v"), 0) + bytes(144)),
        (b"\x00counters\x00\x00\x00\x00", b"\x01" + bytes(Counters(WIDE).block_bytes)),
    ],
    ids=["whole, as MessagePack", "of as many bytes as nine rows have now", "rows", "counters"],
)
def test_state_of_an_earlier_version_is_refused(key: bytes, value: bytes) -> None:
    """Its rows did not say who visits: read as rows of now they would be nonsense. The message says what to do."""
    with pytest.raises(StateError, match=r"earlier version of the worker.*use another INKLING_TOPICS__CHANGELOG"):
        restored([(key, value)])


def test_state_of_an_earlier_feature_spec_is_refused() -> None:
    """Even where nothing else is left to tell: the position alone names the rules that it was folded by."""
    state = PartitionState(msgspec.structs.replace(WIDE, version=1), FORGETFUL)
    with pytest.raises(StateError, match="another feature spec"):
        restored(list(state.changes(0)))


def test_rows_without_their_session_are_refused() -> None:
    """A changelog that lost a session's first record is damaged: the session would silently be another."""
    state = PartitionState(WIDE, FORGETFUL)
    fold_events(state.fold, [click(f"e{n}", START_MS + n) for n in range(5)], range(5))
    whole = list(state.changes(5))
    fold_events(state.fold, [click("e5", START_MS + 5)], [5])
    rows = list(state.changes(6))
    assert sessions(restored(whole + rows)) == sessions(state)
    with pytest.raises(StateError, match="rows of visitor 'v' without the session"):
        restored(rows)


@pytest.mark.parametrize("value", [b"", b"\x03", b"\x03short", b"\x09future"])
def test_damaged_records_are_refused(value: bytes) -> None:
    """With the key of what cannot be read, or the format that is not known."""
    with pytest.raises(StateError, match=r"damaged|upgrade it"):
        restored([(b"v", value)])


def test_state_of_other_rules_is_refused() -> None:
    """Sessions cut by another gap are other sessions."""
    state = PartitionState(WIDE, SessionPolicy(gap_ms=99_000, grace_ms=1))
    with pytest.raises(StateError, match="other session settings"):
        restored(list(state.changes(0)))


def test_a_forgotten_visitor_leaves_nothing() -> None:
    """Once Kafka has compacted and dropped what stands for deletion, no record of the visitor is left, of the rows neither."""
    state = PartitionState(WIDE, FORGETFUL)
    changelog: list[Change] = []
    for n in range(9):
        fold_events(state.fold, [click(f"e{n}", START_MS + n, "gone")], [n])
        changelog += state.changes(n + 1)
    assert sum(key.startswith(b"gone\0") for key, _ in changelog) > 3
    for half in (False, True):
        back = restored(changelog) if half else state  # whoever reads it back finishes the same way
        fold_events(back.fold, [click("late", START_MS + 60_000, "other")], [9])
        left = {key: value for key, value in [*changelog, *back.changes(10)] if value is not None or key.startswith(b"gone")}
        assert [key for key, value in left.items() if key.startswith(b"gone") and value is not None] == []
        assert sessions(restored([change for change in left.items() if change[1] is not None])) == sessions(back)
        assert list(sessions(back)) == ["other"]
