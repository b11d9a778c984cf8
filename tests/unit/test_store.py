"""The changelog: what is written reads back the same, older formats too, and what cannot be right is refused."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.logs import FORGETFUL, START_MS, WIDE, click, fold_events, folded, logs
from worker.contract.events import ClickEvent
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


def test_sessions_in_the_format_before_are_read() -> None:
    """An upgrade goes on from what the version before it wrote: whole sessions as MessagePack."""
    log = [click(f"e{n}", START_MS + 700 * n, f"v{n % 2}", item="lamp") for n in range(12)]
    fold, _ = folded(log, WIDE, FORGETFUL)
    old = [(visitor.encode(), b"\x01" + msgspec.msgpack.encode(session)) for visitor, session in fold.sessions.items()]
    back = restored(old)
    assert sessions(back) == fold.sessions
    more = [click(f"f{n}", START_MS + 9_000 + n, "v0") for n in range(3)]
    fold_events(back.fold, more, range(12, 15))
    assert sessions(restored([*old, *back.changes(15)])) == sessions(back)


def test_counters_in_the_format_before_are_read() -> None:
    """An upgrade goes on from changed blocks that are records of their own; what it writes replaces them by and by."""
    fold, _ = folded([click(f"e{n}", START_MS + n, item=f"i{n}") for n in range(20)], WIDE, FORGETFUL)
    numbers = range(fold.counters.blocks)
    old: list[Change] = [(b"\x00counters" + n.to_bytes(4, "big"), b"\x01" + fold.counters.block(n)) for n in numbers]
    back = restored(old)
    assert blocks(back) == [fold.counters.block(number) for number in numbers]
    changelog = [*old]
    for n in range(8):
        fold_events(back.fold, [click(f"f{n}", START_MS + n, item=f"i{n}")], [n])
        changelog += back.changes(n + 1)
        assert blocks(restored(changelog)) == blocks(restored(compacted(changelog))) == blocks(back)
    assert all(dict(changelog)[key][:1] == b"\x02" for key, _ in old)


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


@pytest.mark.parametrize("value", [b"\x02", b"\x02short", b"\x01\xff", b"\x09future"])
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
