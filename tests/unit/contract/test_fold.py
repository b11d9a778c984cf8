"""The laws of the fold, over random logs with late events, copies and shared buckets."""

import math
from collections import Counter, defaultdict
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.logs import POLICY, SPEC, START_MS, click, folded, logs
from worker.contract.codec import MAX_EVENT_TIME_MS, MIN_EVENT_TIME_MS
from worker.contract.counters import Counters
from worker.contract.events import EVENT_TYPES, ClickEvent
from worker.contract.features import NUMBERS, ROW, FeatureSpec, encode
from worker.contract.fold import Fold
from worker.contract.session import Outcome, Session, SessionPolicy

_SHARED = NUMBERS.index("item_views")


def state(fold: Fold) -> tuple[dict[str, bytes], bytes]:
    """Everything that the fold holds, as bytes."""
    counters = b"".join(fold.counters.block(number) for number in range(fold.counters.blocks))
    return {visitor: msgspec.msgpack.encode(session) for visitor, session in fold.sessions.items()}, counters


def structure(session: Session) -> tuple[object, ...]:
    """What a visitor's own events decide: all but offsets, shared counts, and the chain over those."""
    rows = np.frombuffer(session.rows, ROW)
    own = msgspec.structs.replace(session, rows=b"")
    return own, *(rows[name].tolist() for name in ("event_time", "event_hash", "codes")), rows["numbers"][:, :_SHARED].tobytes()


@settings(max_examples=50)
@given(logs())
def test_same_log_gives_the_same_bytes(log: list[ClickEvent]) -> None:
    """Two folds of one log hold the same bytes, whatever ran in the process before."""
    assert state(folded(log)[0]) == state(folded(log)[0])


@settings(max_examples=50)
@given(logs(), st.sets(st.integers(0, 29)))
def test_stopping_and_going_on_from_a_snapshot_changes_nothing(log: list[ClickEvent], stops: set[int]) -> None:
    """Batches may end anywhere, and the next may start from the changed sessions and counter blocks read back from bytes."""
    straight, steps = folded(log)
    fold = Fold(SPEC, POLICY)
    sessions: dict[str, bytes] = {}
    taken: list[tuple[int, bytes]] = []
    for offset, event in enumerate(log):
        assert fold.apply(event, offset) == steps[offset]
        if offset in stops:
            sessions |= {visitor: msgspec.msgpack.encode(session) for visitor, session in fold.sessions.items()}
            if (cells := fold.counters.take_changed()) is not None:
                taken.append(cells)
            read_back = {visitor: msgspec.msgpack.decode(value, type=Session) for visitor, value in sessions.items()}
            counters = Counters(SPEC)
            for number, changed in taken:
                counters.restore(number, changed)
            fold = Fold(SPEC, POLICY, read_back, counters)
    assert state(fold) == state(straight)


@settings(max_examples=50)
@given(logs(), st.randoms(use_true_random=False))
def test_sessions_do_not_depend_on_other_visitors(log: list[ClickEvent], random: Random) -> None:
    """However visitors interleave, with each one's order kept, sessions differ in nothing but offsets and shared counts."""
    queues: defaultdict[str, list[ClickEvent]] = defaultdict(list)
    for event in log:
        queues[event.visitor_id].append(event)
    order = [event.visitor_id for event in log]
    random.shuffle(order)
    taken = {visitor: iter(events) for visitor, events in queues.items()}
    shuffled = [next(taken[visitor]) for visitor in order]

    one, other = folded(log)[0], folded(shuffled)[0]
    assert {visitor: structure(one.sessions[visitor]) for visitor in one.sessions} == {
        visitor: structure(other.sessions[visitor]) for visitor in other.sessions
    }


@settings(max_examples=50)
@given(logs(max_size=40), st.data())
def test_copies_change_nothing(log: list[ClickEvent], data: st.DataObject) -> None:
    """A copy of any event, at any later place, is dropped and leaves session and counters as they are.

    Not so when more than half a window of a visitor's events carry one time: copies of those that left may come in again.
    """
    assume(log)
    assume(max(Counter((event.visitor_id, event.event_time) for event in log).values()) <= SPEC.window // 2)
    fold = Fold(SPEC, POLICY)
    for offset, event in enumerate(log):
        fold.apply(event, offset)
        copy = log[data.draw(st.integers(0, offset))]
        before = state(fold)
        session, outcome, _ = fold.apply(copy, offset)
        assert outcome in (Outcome.DUPLICATE, Outcome.TOO_LATE)
        assert session == fold.sessions.get(copy.visitor_id, Session(copy.visitor_id))
        assert state(fold) == before


@settings(max_examples=50)
@given(logs(max_size=40))
def test_reading_the_log_again_changes_nothing(log: list[ClickEvent]) -> None:
    """A consumer group set back to the start finds its state unchanged after the second reading."""
    assume(not log or max(Counter((event.visitor_id, event.event_time) for event in log).values()) <= SPEC.window // 2)
    fold, _ = folded(log)
    before = state(fold)
    for offset, event in enumerate(log):
        assert not fold.apply(event, offset).outcome.changed
    assert state(fold) == before


@settings(max_examples=120)
@given(logs(visitors=1, steps_ms=(1, 5, 700, 2_500, 3_999), late=False, max_size=20), st.data())
def test_late_events_end_where_their_order_would_have_led(log: list[ClickEvent], data: st.DataObject) -> None:
    """A session whose events arrived out of order, none too late, equals that of the ordered log, but for

    - counts (visitor's and shared), which stay as they were when each event arrived,
    - offsets, which are where events stand in the log, and the chain, which covers the counts,
    - the session id when the first event was late: it is given at the start,
    - `repeats` once the window has moved on: it counts in what the window held then.
    """
    arrivals = sorted(log, key=lambda event: event.event_time + data.draw(st.sampled_from((0, 0, 1_000, 3_000))))
    (ordered, _), (fold, steps) = folded(log), folded(arrivals)
    assume(log and all(step.outcome.changed for step in steps))

    expected, session = ordered.sessions["v0"], fold.sessions["v0"]
    for name in ("started_ms", "last_ms", "position", "previous_end_ms", "counted_ms"):
        assert getattr(session, name) == getattr(expected, name)
    if arrivals[0] is log[0]:
        assert session.session_id == expected.session_id
    rows, right = np.frombuffer(session.rows, ROW), np.frombuffer(expected.rows, ROW)
    for name in ("event_time", "event_hash", "codes"):
        np.testing.assert_array_equal(rows[name], right[name])
    for name in ("price", "gap_s", "elapsed_s", "position", "since_visit_s", *(["repeats"] if len(log) <= SPEC.window else [])):
        number = NUMBERS.index(name)
        np.testing.assert_array_equal(rows["numbers"][:, number], right["numbers"][:, number], name)


@settings(max_examples=100)
@given(logs(max_size=40))
def test_every_step_keeps_the_session_sound(log: list[ClickEvent]) -> None:
    """After each event: rows in order of time and of different events, position up by one, times and gaps true to the rows."""
    before: dict[str, Session] = {}
    for event, (session, outcome, _) in zip(log, folded(log)[1], strict=True):
        old = before.get(event.visitor_id, Session(event.visitor_id))
        if not outcome.changed:
            assert session == old
            continue
        rows = np.frombuffer(session.rows, ROW)
        numbers = {name: rows["numbers"][:, place] for place, name in enumerate(NUMBERS)}
        assert session.position == (1 if outcome is Outcome.NEW_SESSION else old.position + 1)
        assert len(rows) == window_length(session.position, SPEC.window)
        assert np.all(np.diff(rows["event_time"]) >= 0)
        assert len(set(rows["event_hash"].tolist())) == len(rows)
        assert session.last_ms == rows["event_time"][-1]
        np.testing.assert_array_equal(numbers["position"], np.arange(session.position - len(rows), session.position) + 1)
        seconds = ((rows["event_time"] - session.started_ms) / 1000).astype(np.float32)
        np.testing.assert_array_equal(numbers["elapsed_s"], seconds)
        np.testing.assert_array_equal(numbers["gap_s"][1:], (np.diff(rows["event_time"]) / 1000).astype(np.float32))
        if session.position == len(rows):
            assert session.started_ms == rows["event_time"][0]
            assert numbers["gap_s"][0] == 0
        assert np.all(numbers["gap_s"] < POLICY.gap_ms / 1000)
        assert np.all(rows["numbers"][:, NUMBERS.index("visitor_views") : NUMBERS.index("since_visit_s")] >= 0)
        assert np.all(rows["numbers"][:, _SHARED:] >= 0)
        if session.previous_end_ms is not None:
            assert np.all(numbers["since_visit_s"] > 0)
        before[event.visitor_id] = session


def window_length(position: int, window: int) -> int:
    """Rows in the window of a session of `position` events: what the position alone decides."""
    half = window // 2
    return position if position <= window else window - half + 1 + (position - window - 1) % half


@pytest.mark.parametrize("window", [2, 3, 4, 7, 64])
def test_window_is_anchored_by_position(window: int) -> None:
    """Once full, a window holds more than half and at most all of its length, and where it starts rises by half a window."""
    fold = Fold(FeatureSpec(window=window), SessionPolicy())
    starts = []
    for position in range(1, 5 * window):
        # Every third event is late, where the window is long enough to take it: that must make no difference.
        late_ms = 1_500 if position % 3 == 0 and window > 3 else 0
        session, outcome, _ = fold.apply(click(f"e{position}", START_MS + position * 1_000 - late_ms), position)
        assert outcome.changed
        length = len(session.rows) // ROW.itemsize
        assert length == window_length(position, window)
        assert position <= window or window / 2 < length <= window
        starts.append(position - length)
    assert set(np.diff(starts)) == {0, window // 2}


@settings(max_examples=60)
@given(logs(late=False, steps_ms=(0, 1, 700, 2_000)))
def test_appending_keeps_the_rows_before(log: list[ClickEvent]) -> None:
    """What the model saw of earlier events stays as it was when more are appended: its work on them can be kept."""
    before: dict[str, Session] = {}
    for event, (session, outcome, _) in zip(log, folded(log)[1], strict=True):
        old = before.get(event.visitor_id)
        if outcome is Outcome.APPENDED and old is not None and len(old.rows) < SPEC.window * ROW.itemsize:
            assert session.rows.startswith(old.rows)
        before[event.visitor_id] = session


@settings(max_examples=60)
@given(logs(visitors=2, late=False))
def test_numbers_equal_those_of_a_batch_oracle(log: list[ClickEvent]) -> None:
    """Sums over the whole ordered log, written down directly, give what the fold gives step by step."""
    for offset, (event, (session, *_)) in enumerate(zip(log, folded(log)[1], strict=True)):
        row = dict(zip(NUMBERS, np.frombuffer(session.rows, ROW)["numbers"][-1].tolist(), strict=True))
        own = [past for past in log[:offset] if past.visitor_id == event.visitor_id]
        session_start = 0
        for number in range(1, len(own)):
            if own[number].event_time - own[number - 1].event_time >= POLICY.gap_ms:
                session_start = number
        if own and event.event_time - own[-1].event_time >= POLICY.gap_ms:
            session_start = len(own)
        current = own[session_start:]
        first_ms = current[0].event_time if current else event.event_time
        assert session.started_ms == first_ms
        assert session.position == row["position"] == len(current) + 1
        assert row["elapsed_s"] == pytest.approx((event.event_time - first_ms) / 1000)
        assert row["gap_s"] == pytest.approx((event.event_time - current[-1].event_time) / 1000 if current else 0)
        if session_start:
            assert row["since_visit_s"] == pytest.approx((event.event_time - own[session_start - 1].event_time) / 1000)
        else:
            assert np.isnan(row["since_visit_s"])
        for head, kind in (("views", "view"), ("carts", "cart"), ("purchases", "purchase")):
            assert row[f"visitor_{head}"] == pytest.approx(_decayed(own, kind, event.event_time), rel=1e-5, abs=1e-30)
            shared = [past for past in log[:offset] if past.item_id and past.item_id == event.item_id]
            assert row[f"item_{head}"] == pytest.approx(_decayed(shared, kind, event.event_time), rel=1e-5, abs=1e-30)


def _decayed(events: list[ClickEvent], kind: str, at_ms: int) -> float:
    ages_s = ((at_ms - event.event_time) / 1000 for event in events if event.event_type == kind)
    return sum(math.pow(0.5, age_s / SPEC.half_life_s) for age_s in ages_s)


def test_dropped_events_are_not_counted() -> None:
    """Copies and events that are too late leave the shared counts alone, too."""
    fold, _ = folded([click("a", START_MS, item="lamp"), click("b", START_MS + 9_000, item="lamp")])
    fold.counters.take_changed()
    assert fold.apply(click("a", START_MS, item="lamp"), 2).outcome is Outcome.DUPLICATE
    assert fold.apply(click("c", START_MS, item="lamp"), 3).outcome is Outcome.TOO_LATE
    assert fold.counters.take_changed() is None


@settings(max_examples=50)
@given(
    st.lists(
        st.builds(
            ClickEvent,
            event_id=st.text(min_size=1, max_size=3),
            event_time=st.integers(MIN_EVENT_TIME_MS, MAX_EVENT_TIME_MS - 1) | st.integers(START_MS, START_MS + 20_000),
            visitor_id=st.sampled_from(["v", "\ud800", "é" * 256]),
            event_type=st.sampled_from(EVENT_TYPES),
            item_id=st.none() | st.text(max_size=3) | st.just("x" * 2048) | st.just("\udfff"),
            category=st.none() | st.text(max_size=3),
            brand=st.none() | st.text(max_size=3),
            price=st.none() | st.sampled_from([0.0, -0.0, 5e-324, 1e12]) | st.floats(0, 1e12),
        ),
        max_size=20,
    )
)
def test_no_event_raises(log: list[ClickEvent]) -> None:
    """Whatever decode lets through (and some that it would not) is folded and encoded, to finite numbers or NaN."""
    fold, _ = folded(log)
    inputs = encode(list(fold.sessions.values()))
    assert not np.isinf(inputs.numbers).any()
    assert np.all(inputs.codes >= 0)
