"""The changelog: what is written reads back the same, older formats too, and what cannot be right is refused."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.logs import POLICY, SPEC, START_MS, click, folded, logs
from worker.contract.events import ClickEvent
from worker.contract.session import Session, SessionPolicy
from worker.errors import StateError
from worker.store import Change, PartitionState


def sessions(state: PartitionState) -> dict[str, Session]:
    return {one.visitor_id: one for one in state.fold.sessions()}


def blocks(state: PartitionState) -> list[bytes]:
    return [state.fold.counters.block(number) for number in range(state.fold.counters.blocks)]


def restored(changelog: list[Change]) -> PartitionState:
    state = PartitionState(SPEC, POLICY)
    for key, value in changelog:
        state.restore(key, value)
    state.check()
    return state


@settings(max_examples=150)
@given(logs(max_size=80), st.sets(st.integers(0, 80)), st.data())
def test_reads_back_the_same_however_it_was_compacted(log: list[ClickEvent], ends: set[int], data: st.DataObject) -> None:
    """Batches may end anywhere, and Kafka may have taken any record that a later one of the same key replaces."""
    state = PartitionState(SPEC, POLICY)
    changelog: list[Change] = []
    for start, end in zip([0, *sorted(ends)], [*sorted(ends), len(log)], strict=True):
        state.fold.fold(log[start:end], range(len(log))[start:end])
        changelog += state.changes(min(end, len(log)))
    newest = {key: number for number, (key, _) in enumerate(changelog)}
    dirty = data.draw(st.integers(0, len(changelog)))  # compaction stops somewhere before the end
    kept = [
        change
        for number, change in enumerate(changelog)
        if number >= dirty or newest[change[0]] == number or data.draw(st.booleans())
    ]
    back = restored(kept)
    assert sessions(back) == sessions(state) == folded(log)[0].sessions
    assert blocks(back) == blocks(state)
    assert back.next_offset == state.next_offset


def test_sessions_in_the_format_before_are_read() -> None:
    """An upgrade goes on from what the version before it wrote: whole sessions as MessagePack."""
    log = [click(f"e{n}", START_MS + 700 * n, f"v{n % 2}", item="lamp") for n in range(12)]
    fold, _ = folded(log)
    old = [(visitor.encode(), b"\x01" + msgspec.msgpack.encode(session)) for visitor, session in fold.sessions.items()]
    back = restored(old)
    assert sessions(back) == fold.sessions
    more = [click(f"f{n}", START_MS + 9_000 + n, "v0") for n in range(3)]
    back.fold.fold(more, range(12, 15))
    assert sessions(restored(old + back.changes(15))) == sessions(back)


def test_rows_without_their_session_are_refused() -> None:
    """A changelog that lost a session's first record is damaged: the session would silently be another."""
    state = PartitionState(SPEC, POLICY)
    state.fold.fold([click(f"e{n}", START_MS + n) for n in range(5)], range(5))
    whole = state.changes(5)
    state.fold.fold([click("e5", START_MS + 5)], [5])
    rows = state.changes(6)
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
    state = PartitionState(SPEC, SessionPolicy(gap_ms=99_000, grace_ms=1))
    with pytest.raises(StateError, match="other session settings"):
        restored(state.changes(0))
