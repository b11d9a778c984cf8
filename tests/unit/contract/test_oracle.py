"""The fold of events in order of arrival against a batch query over the whole log (DuckDB), which shares no code with it."""

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.logs import fold_events
from tests.support.oracle import POLICY, SPEC, START_MS, Answer, copies, late_and_doubled, sessions
from training.read import EventFiles
from training.simulate import load_shop, simulate
from worker.contract.events import ClickEvent
from worker.contract.features import NUMBERS, ROW
from worker.contract.session import Session
from worker.contract.slab import Slab
from worker.contract.users import copy_for, user_of

_BATCH = 257
_DATA = Path(os.environ.get("INKLING_TEST_DATA", "../shared/data"))
_FIRST = 20_000


def logs() -> Iterator[pytest.param]:
    for name in ("electronics", "rees46"):
        yield pytest.param(name, id=f"simulated {name}")
    for name in ("diginetica", "rees46_electronics", "retailrocket", "yoochoose"):
        path = _DATA / f"{name}.jsonl.gz"
        yield pytest.param(path, id=name, marks=pytest.mark.skipif(not path.exists(), reason=f"no {path}"))


def events_of(source: str | Path) -> list[ClickEvent]:
    if isinstance(source, Path):
        return [event for event, _ in zip(EventFiles([source]).events(), range(_FIRST), strict=False)]
    return list(simulate(load_shop(source), 1500, 5, START_MS, hours=48).events())


@pytest.mark.slow
@pytest.mark.parametrize("source", list(logs()))
def test_the_whole_log_at_once_says_the_same(source: str | Path) -> None:
    """Which events count, how they are cut into sessions, and where the late ones end up among the others."""
    log = late_and_doubled(events_of(source), seed=1)
    expected = sessions(log)
    # The log is worth it: some are late and put in their place, some too late, some copies.
    assert len(log) - len(expected) > 20
    assert sum(row["position"] != row["arrived"] for row in expected) > 20
    compare_folded(log, expected)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["electronics", "rees46"])
def test_the_whole_log_at_once_says_the_same_of_users(source: str) -> None:
    """Which events of anonymous visitors go to the user who logs in, at which event, and what the users' sequences are then."""
    log = late_and_doubled(logged_in(events_of(source), seed=2), seed=3)
    expected = copies(log)
    copied, _ = folded(log)
    assert copied == [(row["cause"], row["offset"], row["user_id"]) for row in expected]
    taken_along = sum(row["cause"] != row["offset"] for row in expected)
    assert 200 < taken_along < len(expected) - 200
    users = [copy_for(f"user:{user}", log[offset]) for _, offset, user in copied]
    compare_folded(users, sessions(users))


def logged_in(events: Sequence[ClickEvent], seed: int) -> list[ClickEvent]:
    """The events of visitors who log in and out; three visitors are one user, now and then another."""
    draw = random.Random(seed)
    users: dict[str, str | None] = {}
    names: dict[str, int] = {}
    found = []
    for event in events:
        visitor = event.visitor_id
        if draw.random() < 0.2 or visitor not in users:
            users[visitor] = None if draw.random() < 0.6 else f"u{names.setdefault(visitor, len(names)) // 3}"
            if users[visitor] and draw.random() < 0.1:
                users[visitor] = "another"
        found.append(msgspec.structs.replace(event, user_id=users[visitor]))
    return found


def folded(log: Sequence[ClickEvent]) -> tuple[list[tuple[int, int, str | None]], tuple[list[int], list[int], list[int], Slab]]:
    """What there is to copy, as cause, event and user; and for each event that counts its offset, session and position."""
    slab = Slab(SPEC, POLICY)
    copied: list[tuple[int, int, str | None]] = []
    at: list[int] = []
    session: list[int] = []
    position: list[int] = []
    for start in range(0, len(log), _BATCH):
        events = log[start : start + _BATCH]
        step = fold_events(slab, events, range(start, start + len(events)))
        for number in step.at.tolist():
            if user_of(events[number]) is not None:
                earlier = step.logins[number]["offset"].tolist() if number in step.logins else []
                copied += [(start + number, offset, events[number].user_id) for offset in (*earlier, start + number)]
        at += (step.at + start).tolist()
        session += step.session.tolist()
        position += step.position.tolist()
    return copied, (at, session, position, slab)


def compare_folded(log: Sequence[ClickEvent], expected: Sequence[Answer]) -> None:
    """The fold of a log against what the query says of it."""
    _, (at, session, position, slab) = folded(log)
    assert at == [row["offset"] for row in expected]
    assert position == [row["arrived"] for row in expected]
    # The same sessions, whatever they are called.
    ours = dict(zip(at, session, strict=True))
    theirs = {row["offset"]: (row["visitor_id"], row["session"]) for row in expected}
    pairs = {(ours[offset], theirs[offset]) for offset in at}
    assert len(pairs) == len(set(ours.values())) == len(set(theirs.values()))
    newest = {row["visitor_id"]: row["session"] for row in expected}
    rows = {row["offset"]: row for row in expected if row["session"] == newest[row["visitor_id"]]}
    compare_windows(list(slab.sessions()), rows)


def compare_windows(sessions: Sequence[Session], rows: dict[int, Answer]) -> None:
    """The window of each visitor's newest session against the rows of the query."""
    seen = 0
    for session in sessions:
        window = np.frombuffer(session.rows, ROW)
        expected = [rows[offset] for offset in window["offset"].tolist()]
        assert [row["position"] for row in expected] == list(range(1, len(window) + 1))
        for name in ("position", "gap_s", "elapsed_s", "repeats", "since_visit_s"):
            values = np.array([row[name] for row in expected], np.float32)  # None is NaN
            told = window["numbers"][:, NUMBERS.index(name)]
            np.testing.assert_array_equal(told[1:] if name == "gap_s" else told, values[1:] if name == "gap_s" else values, name)
        seen += len(window)
    assert seen == len(rows)


def test_the_oracle_is_not_asked_in_vain() -> None:
    """One event in another place is found out."""
    log = [
        ClickEvent("a", START_MS, "v", "view", item_id="i"),
        ClickEvent("b", START_MS + 60_000, "v", "view", item_id="i"),
    ]
    swapped = [msgspec.structs.replace(log[0], event_time=START_MS + 90_000), log[1]]
    assert [row["position"] for row in sessions(log)] == [1, 2]
    assert [row["position"] for row in sessions(swapped)] == [2, 1]
