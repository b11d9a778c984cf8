"""Sessions: the boundaries of gap, grace and window, and what each kind of event leaves behind."""

import msgspec
import numpy as np
import pytest

from tests.logs import POLICY, SPEC, START_MS, click, folded
from worker.contract.features import NUMBERS, ROW, FeatureSpec
from worker.contract.fold import Fold
from worker.contract.session import Outcome, Session, SessionPolicy

GAP_MS, GRACE_MS = POLICY.gap_ms, POLICY.grace_ms


def outcome_of(*times_ms: int) -> Outcome:
    """What the last of events at these times after the start does."""
    return folded([click(f"e{n}", START_MS + time_ms) for n, time_ms in enumerate(times_ms)])[1][-1].outcome


def numbers(session: Session, name: str) -> list[float]:
    values: list[float] = np.frombuffer(session.rows, ROW)["numbers"][:, NUMBERS.index(name)].tolist()
    return values


def test_gap_boundary_is_exact() -> None:
    """A session ends when nothing happened for the whole gap: at the gap itself a new one begins."""
    assert outcome_of(0) is Outcome.NEW_SESSION
    assert outcome_of(0, GAP_MS - 1) is Outcome.APPENDED
    assert outcome_of(0, GAP_MS) is Outcome.NEW_SESSION


def test_grace_boundary_is_exact() -> None:
    """An event exactly as late as the grace period allows is repaired, one millisecond more is too late."""
    assert outcome_of(0, 9_000, 9_000 - GRACE_MS) is Outcome.LATE
    assert outcome_of(0, 9_000, 9_000 - GRACE_MS - 1) is Outcome.TOO_LATE


def test_lateness_counts_from_the_newest_event_not_the_last_arrival() -> None:
    """A late event does not set the clock back."""
    assert outcome_of(0, 9_000, 6_000, 5_000) is Outcome.LATE
    assert outcome_of(0, 9_000, 5_000, 4_999) is Outcome.TOO_LATE


def test_equal_times_keep_the_order_of_arrival() -> None:
    """Events of one millisecond are appended, or repaired, behind those that were there."""
    events = [click("a", START_MS), click("b", START_MS), click("d", START_MS + 5), click("c", START_MS)]
    fold, steps = folded(events)
    assert [step.outcome for step in steps] == [Outcome.NEW_SESSION, Outcome.APPENDED, Outcome.APPENDED, Outcome.LATE]
    assert np.frombuffer(fold.sessions["v"].rows, ROW)["offset"].tolist() == [0, 1, 3, 2]


def test_late_event_before_the_first_moves_the_start() -> None:
    """The session then begins with the late event; its id stays, as scores have gone out with it."""
    fold, (first, late) = folded([click("a", START_MS), click("b", START_MS - 3_000)])
    session = fold.sessions["v"]
    assert late.outcome is Outcome.LATE
    assert session.session_id == first.session.session_id
    assert (session.started_ms, session.last_ms) == (START_MS - 3_000, START_MS)
    assert numbers(session, "elapsed_s") == [0, 3]
    assert numbers(session, "gap_s") == [0, 3]
    assert numbers(session, "position") == [1, 2]


def test_late_event_of_the_session_before_is_too_late() -> None:
    """A session that is over takes no more events, and the new one does not take its."""
    assert outcome_of(0, GAP_MS, 1) is Outcome.TOO_LATE
    # Late, but of the new session: even though it now begins less than a gap after the old one.
    fold, steps = folded([click(f"e{n}", START_MS + time_ms) for n, time_ms in enumerate((0, GAP_MS, GAP_MS - 2_000))])
    assert steps[-1].outcome is Outcome.LATE
    assert fold.sessions["v"].previous_end_ms == START_MS
    assert numbers(fold.sessions["v"], "since_visit_s") == [8, 10]


def test_late_event_of_the_same_item_counts_in_later_repeats() -> None:
    """Rows after a late one of the same item have seen it once more; a missing item is no item."""
    fold, _ = folded(
        [
            click("a", START_MS, item="lamp"),
            click("b", START_MS + 2_000, item="lamp"),
            click("n", START_MS + 2_500),
            click("c", START_MS + 3_000, item="chair"),
            click("late", START_MS + 1_000, item="lamp"),
            click("late and none", START_MS + 1_500),
        ]
    )
    assert numbers(fold.sessions["v"], "repeats") == [0, 1, 0, 2, 0, 0]


def test_late_event_in_an_exactly_full_window_halves_it() -> None:
    """The late event is one more: the older half goes, as it would have gone had the event come in time."""
    times = [1_000, 2_000, 3_000, 4_000, 4_500, 5_000]
    assert len(times) == SPEC.window
    fold, steps = folded([click(f"e{t}", START_MS + t) for t in [*times, 4_800]])
    assert steps[-1].outcome is Outcome.LATE
    left = (np.frombuffer(fold.sessions["v"].rows, ROW)["event_time"] - START_MS).tolist()
    assert left == [4_000, 4_500, 4_800, 5_000]
    assert numbers(fold.sessions["v"], "gap_s") == [1, 0.5, pytest.approx(0.3), pytest.approx(0.2)]
    assert fold.sessions["v"].position == 7


def test_late_event_before_a_window_that_moved_on_is_too_late() -> None:
    """Its place has left the window. At the oldest row's time it has left, too: it may be a copy of what was there."""
    times = [1_000, 2_000, 3_000, 4_000, 4_100, 4_200, 4_300]  # the window now begins at 4,000
    assert outcome_of(*times, 3_999) is Outcome.TOO_LATE
    assert outcome_of(*times, 4_000) is Outcome.TOO_LATE
    assert outcome_of(*times, 4_001) is Outcome.LATE


def test_copy_of_an_event_that_left_at_the_time_of_the_oldest_row_is_dropped() -> None:
    """Regression: three events of one millisecond, two of which have left the window; a copy of one came in again as late."""
    times = [1_000, 4_000, 4_000, 4_000, 4_100, 4_200, 4_300]
    log = [click(f"e{n}", START_MS + time_ms) for n, time_ms in enumerate(times)]
    _, steps = folded([*log, log[1]])
    assert steps[-1].outcome is Outcome.TOO_LATE


def test_copies_are_known_by_id_even_when_they_lie_about_their_time() -> None:
    """An event id that is in the window is a copy, whatever else it says."""
    log = [click("a", START_MS), click("a", START_MS + 5 * GAP_MS), click("a", START_MS - 5 * GAP_MS)]
    assert [step.outcome for step in folded(log)[1]] == [Outcome.NEW_SESSION, Outcome.DUPLICATE, Outcome.DUPLICATE]


def test_position_stays_exact_past_the_floats() -> None:
    """A session of 2^24 events and more goes on counting, and its rows hold the nearest float of the true position."""
    position = 2**24 + 1
    session = msgspec.structs.replace(folded([click("a", START_MS)])[0].sessions["v"], position=position)
    fold = Fold(SPEC, POLICY, {"v": session})
    fold.apply(click("b", START_MS + 2_000), 1)
    fold.apply(click("c", START_MS + 2_000), 2)
    fold.apply(click("late", START_MS + 1_000), 3)
    assert fold.sessions["v"].position == position + 3
    expected = [np.float32(position + n) for n in range(4)]
    assert numbers(fold.sessions["v"], "position") == expected


def test_counts_outlive_the_session_and_decay() -> None:
    """What a visitor did before is known in the next session, less the longer it is ago; the event itself is not in."""
    half_life_ms = int(SPEC.half_life_s * 1000)
    log = [click("a", START_MS, kind="purchase"), click("b", START_MS + half_life_ms), click("c", START_MS + 2 * half_life_ms)]
    _, steps = folded(log)
    assert [step.outcome for step in steps] == [Outcome.NEW_SESSION] * 3
    assert [numbers(step.session, "visitor_purchases") for step in steps] == [[0], [0.5], [0.25]]
    assert [numbers(step.session, "visitor_views") for step in steps] == [[0], [0], [0.5]]


def test_late_event_counts_as_of_the_newest() -> None:
    """Time that runs backwards decays nothing: a late row shows the counts as they were when it arrived."""
    fold, _ = folded([click("a", START_MS), click("b", START_MS + 3_000), click("late", START_MS + 1_000)])
    _first, late, newest = numbers(fold.sessions["v"], "visitor_views")
    assert late == pytest.approx(1 + 0.5 ** (3 / SPEC.half_life_s))
    assert newest == pytest.approx(0.5 ** (3 / SPEC.half_life_s))
    assert fold.sessions["v"].counts[0] == pytest.approx(late + 1)
    assert fold.sessions["v"].counted_ms == START_MS + 3_000


def test_session_ids_differ_by_visitor_and_start() -> None:
    """16 hex digits, the same for the same visitor and start, and no other."""
    log = [click("a", START_MS, "v"), click("b", START_MS, "w"), click("c", START_MS + GAP_MS, "v")]
    ids = [step.session.session_id for step in folded(log)[1]]
    assert len(set(ids)) == 3
    assert all(len(session_id) == 16 and int(session_id, 16) >= 0 for session_id in ids)
    assert ids == [step.session.session_id for step in folded(log)[1]]


def test_sessions_are_values() -> None:
    """Applying an event leaves the session before it as it was: a score waiting for the model keeps its input."""
    fold, (first, _) = folded([click("a", START_MS), click("b", START_MS + 1)])
    assert first.session.position == 1
    assert len(first.session.rows) == ROW.itemsize
    assert fold.sessions["v"].position == 2


def test_empty_session_has_no_input() -> None:
    """Before its first event a session has neither rows nor a hash."""
    assert Session("v").input_hash == ""


@pytest.mark.parametrize(("gap_ms", "grace_ms"), [(1_000, 1_000), (1_000, 2_000), (0, 0), (1_000, -1)])
def test_policy_refuses_a_grace_period_as_long_as_the_gap(gap_ms: int, grace_ms: int) -> None:
    """An event later than the gap might belong to a session that is over; what to do with it would be a guess."""
    with pytest.raises(ValueError, match="must be shorter than its gap"):
        SessionPolicy(gap_ms, grace_ms)


def test_policy_read_from_bytes_is_checked_as_well() -> None:
    """A manifest or changelog cannot bring in rules that the code refuses."""
    with pytest.raises(msgspec.ValidationError, match="must be shorter"):
        msgspec.json.decode(b'{"gap_ms": 5, "grace_ms": 5}', type=SessionPolicy)


@pytest.mark.parametrize(
    "changes",
    [
        {"window": 1},
        {"item_buckets": 1},
        {"category_buckets": 0},
        {"brand_buckets": -1},
        {"referrer_buckets": 1},
        {"half_life_s": 0},
    ],
)
def test_spec_refuses_what_cannot_work(changes: dict[str, int]) -> None:
    """A window of one would never be cut, one bucket leaves none for ids, a half-life of zero divides by it."""
    with pytest.raises(ValueError, match="must be"):
        FeatureSpec(**changes)
