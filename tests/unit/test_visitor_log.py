"""What is remembered of a visitor answers by looking up what a walk would find. (More in test_labels.)"""

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.contract.events import HAZARD_HEADS, ClickEvent
from worker.visitor_log import Timeline, VisitorLog

_GAP, _GRACE, _CAP = 30, 10, 1000
_KINDS = ("view", "cart", "purchase")


def _log(times: list[int], kinds: list[str] | None = None) -> VisitorLog:
    """A log of events that all arrive in good time, in the order given."""
    log = VisitorLog()
    for offset, time in enumerate(times):
        kind = "view" if kinds is None else kinds[offset]
        log.add(ClickEvent(f"e{offset}", time, "v", kind), offset, -(10**9), _GAP, _GRACE)  # type: ignore[arg-type]
    return log


def test_events_of_one_time_stay_in_order_of_arrival() -> None:
    """`after` looks by (time, offset)."""
    timeline = Timeline()
    for offset, time in enumerate([5, 7, 5, 5, 9]):
        timeline.insert(time, offset, 0)
    assert list(timeline.times) == [5, 5, 5, 7, 9]
    assert list(timeline.offsets) == [0, 2, 3, 1, 4]
    assert [timeline.after(5, offset) for offset in (-1, 0, 1, 2, 3, 9)] == [0, 1, 1, 2, 3, 3]
    assert timeline.after(6, 0) == 3


def test_only_what_was_known_in_time_counts() -> None:
    """An event that arrived after the horizon was due is passed over for a later one that had not."""
    timeline = Timeline()
    timeline.insert(10, 0, 99)
    timeline.insert(20, 1, 15)
    assert timeline.first_within(0, -1, 30, due_ms=50) == 20
    assert timeline.first_within(0, -1, 30, due_ms=100) == 10
    assert timeline.first_within(0, -1, 19, due_ms=50) is None


def test_a_session_rests_until_the_gap() -> None:
    """The last event before a gap ends it; what is due, follows and was found is told."""
    rest = _log([0, 20, 49, 79], ["view", "cart", "cart", "purchase"]).session_rest(0, 0, _GAP, _GRACE, _CAP)
    assert rest.due_ms == 49 + _GAP + _GRACE
    assert rest.next_ms == 20
    assert dict(zip(HAZARD_HEADS, rest.found, strict=True)) == {"purchase": None, "cart": 20}


def test_an_event_in_between_joins_two_sessions() -> None:
    """Arrived in time, it makes one of two."""
    assert _log([0, 50]).session_rest(0, 0, _GAP, _GRACE, _CAP).next_ms is None
    assert _log([0, 50, 25]).session_rest(0, 0, _GAP, _GRACE, _CAP).due_ms == 50 + _GAP + _GRACE


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from(_KINDS)), min_size=1, max_size=30), st.integers(0, 400))
def test_looking_up_finds_what_walking_finds(events: list[tuple[int, str]], before: int) -> None:
    """For every event, in any order of arrival, also after the oldest were forgotten."""
    log = _log([time for time, _ in events], [kind for _, kind in events])
    log.forget(before)
    for offset, (time, _) in enumerate(events):
        if time >= before:
            place = log.all.after(time, offset)
            assert log.session_rest(time, offset, _GAP, _GRACE, 100) == log._walk(place, time, _GAP, _GRACE, 100)


def test_a_known_id_is_not_taken_again_until_it_is_forgotten() -> None:
    """Copies of an event do not count; memory of them goes with the event."""
    log = _log([0, 100])
    log.add(ClickEvent("e0", 50, "v", "cart"), 2, 0, _GAP, _GRACE)
    assert list(log.all.times) == [0, 100]
    assert log.forget(50)
    log.add(ClickEvent("e0", 150, "v", "cart"), 3, 0, _GAP, _GRACE)
    assert list(log.all.times) == [100, 150]
    assert not log.forget(1000)
