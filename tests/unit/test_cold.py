"""Sessions on disk: what goes there comes back as it was, a worker's state says the same with them, and no file stays behind."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.logs import FORGETFUL, START_MS, WIDE, click, fold_events, logs
from worker.cold import ColdSessions, ColdStore
from worker.contract.cold import InMemory
from worker.contract.events import ClickEvent
from worker.contract.packed import pack
from worker.contract.session import Session
from worker.errors import StateError
from worker.store import Change, PartitionState


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ColdStore]:
    store = ColdStore(tmp_path_factory.mktemp("cold"), most_hot=1)
    yield store
    store.close()


def packed(seen_ms: int, rows: int = 0) -> bytes:
    return pack(Session("v", "0", rows=bytes(144 * rows)), seen_ms)


_KEYS = st.sampled_from([b"a", b"ab", b"b", "ü".encode(), b"z" * 300])
_STEPS = st.one_of(
    st.tuples(st.just("put"), _KEYS, st.integers(0, 50)),
    st.tuples(st.just("pop"), _KEYS, st.just(0)),
    st.tuples(st.just("seen"), st.integers(0, 50), st.integers(1, 3)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_STEPS, max_size=40))
def test_keeps_what_a_dict_keeps(store: ColdStore, steps: list[tuple[str, object, int]]) -> None:
    """Also beside those of another partition, which has the same visitors."""
    ours, plain, other = store.sessions({}), InMemory(), store.sessions({})
    other.add((key, packed(7)) for key in (b"a", b"ab", b"b"))
    for step, what, number in steps:
        if step == "put":
            assert isinstance(what, bytes)
            ours[what] = plain[what] = packed(number, rows=number)
        elif step == "pop":
            assert isinstance(what, bytes)
            assert ours.pop(what, None) == plain.pop(what, None)
        else:
            assert isinstance(what, int)
            taken = ours.take_seen(what, number)
            assert len(taken) == len(set(taken)) == len(plain.take_seen(what, number))
            # Any of them may go: take the same from both.
            plain.clear()
            plain.update(ours.items())
        assert len(ours) == len(plain)
        assert dict(ours.items()) == plain
        assert {key: ours.get(key) for key in ours} == plain
    assert len(other) == len(dict(other.items())) == 3
    ours.close()
    assert dict(ours.items()) == {}
    assert len(dict(other.items())) == 3
    other.close()


def test_those_seen_longest_ago_go_first(store: ColdStore) -> None:
    sessions = store.sessions({})
    sessions.add((str(n).encode(), packed(n * 300)) for n in (5, 0, 3, 4, 1, 2))
    assert sessions.take_seen(until_ms=900, most=3) == [b"0", b"1", b"2"]
    assert sessions.take_seen(until_ms=900, most=3) == [b"3"]
    assert sorted(sessions) == [b"4", b"5"]


def test_rows_kept_go_and_come_with_their_session(store: ColdStore) -> None:
    """Up to a window of ten thousand rows; a session that is put anew keeps what there was."""
    rows_kept = {b"a": 1 << 9_999 | 5, b"b": 2}
    sessions = store.sessions(rows_kept)
    sessions.add([(b"a", packed(1)), (b"b", packed(2)), (b"c", packed(3))])
    assert rows_kept == {}
    rows_kept[b"a"] = 8
    sessions[b"a"] = packed(4)
    assert rows_kept == {}
    assert sessions.pop(b"a") == packed(4)
    assert rows_kept == {b"a": 1 << 9_999 | 13}
    assert sessions.take_seen(until_ms=2, most=9) == [b"b"]
    assert rows_kept == {b"a": 1 << 9_999 | 13, b"b": 2}


def changelog_of(state: PartitionState, log: list[ClickEvent], ends: set[int]) -> list[Change]:
    changelog: list[Change] = []
    for start, end in zip([0, *sorted(ends)], [*sorted(ends), len(log)], strict=True):
        fold_events(state.fold, log[start:end], range(len(log))[start:end])
        changelog += state.changes(min(end, len(log)))
    return changelog


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(logs(max_size=80), st.sets(st.integers(0, 80)))
def test_a_state_says_the_same_with_it(store: ColdStore, log: list[ClickEvent], ends: set[int]) -> None:
    """One session stays in memory: the changelog is the same but for the order of deletions, and read back goes on the same."""
    with_disk, without = PartitionState(WIDE, FORGETFUL, store), PartitionState(WIDE, FORGETFUL)
    changelog = changelog_of(with_disk, log, ends)
    assert sorted(changelog, key=repr) == sorted(changelog_of(without, log, ends), key=repr)
    back = PartitionState(WIDE, FORGETFUL, store)
    for key, value in changelog:
        back.restore(key, value)
    back.check()
    assert {one.visitor_id: one for one in back.fold.sessions()} == {one.visitor_id: one for one in without.fold.sessions()}
    last = [click("last", START_MS + 10**9, "last")]
    for state in (back, without):
        fold_events(state.fold, last, [len(log)])
    assert sorted(back.changes(81), key=repr) == sorted(without.changes(81), key=repr)
    for state in (with_disk, back):
        state.close()


def test_no_file_stays_behind(tmp_path: Path) -> None:
    """Not even of a process that was killed, once another one begins; what another process has stays."""
    code = f"""
import sys
from pathlib import Path
from worker.cold import ColdStore
store = ColdStore(Path({str(tmp_path)!r}), 1)
print("there", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"there\n"
            (its,) = tmp_path.iterdir()
            ColdStore(tmp_path, 1).close()
            assert list(tmp_path.iterdir()) == [its]
        finally:
            other.kill()
    ColdStore(tmp_path, 1).close()
    assert list(tmp_path.iterdir()) == []


def filled(store: ColdStore) -> ColdSessions:
    sessions = store.sessions({})
    sessions.add((str(n).encode(), os.urandom(1000)[:8] + packed(n)[8:] + os.urandom(1000)) for n in range(3000))
    store.db.flush()
    return sessions


def test_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    store = ColdStore(tmp_path, 1)
    sessions = filled(store)
    (table,) = tmp_path.rglob("*.sst")
    content = bytearray(table.read_bytes())
    for at in range(0, len(content) // 2, 1000):
        content[at] ^= 1
    table.write_bytes(content)
    with pytest.raises(StateError, match=r"cannot be read or written .*INKLING_STATE__DIR.* start the worker again"):
        [sessions.get(str(n).encode()) for n in range(3000)]
    store.close()


def test_a_place_where_nothing_can_be_kept_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="INKLING_STATE__DIR to another"):
        ColdStore(tmp_path / "file", 1)
