"""Which events a late one makes to be scored anew, against a walk over the whole log that shares no code with it."""

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.logs import POLICY, SPEC, START_MS, click, fold_events, folded, logs
from worker.contract.events import ClickEvent
from worker.contract.features import NUMBERS, ROW
from worker.contract.revision import Revision
from worker.contract.session import Outcome
from worker.store import PartitionState

_HALF = SPEC.window // 2

#: Offset, number, offset of the late event, position, and the offsets in the window.
Told = tuple[int, int, int, int, list[int]]


def oracle(log: list[ClickEvent]) -> list[Told]:
    """From who came when: the session's events in order of time, cut where the window of each position begins."""
    came: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)  # session -> (event time, offset), as they arrived
    told: list[Told] = []
    for offset, (event, (session, outcome, _)) in enumerate(zip(log, folded(log)[1], strict=True)):
        if not outcome.changed:
            continue
        arrivals = came[session.session_id]
        arrivals.append((event.event_time, offset))
        if outcome is not Outcome.LATE:
            continue
        moves = [number for number in range(SPEC.window + 1, len(arrivals), _HALF)]
        settled = arrivals[: moves[-1]] if moves else []  # came before or as the window last moved on
        ordered = sorted(arrivals)
        for position in range(ordered.index(arrivals[-1]) + 2, len(ordered) + 1):
            at = ordered[position - 1]
            if at in settled:
                continue
            later = arrivals[arrivals.index(at) + 1 :]
            dropped = _HALF * -(-max(position - SPEC.window, 0) // _HALF)
            told.append((at[1], sum(one < at for one in later), offset, position, [o for _, o in ordered[dropped:position]]))
    return told


def told_of(revision: Revision) -> Told:
    rows = np.frombuffer(revision.window, ROW)
    assert rows["numbers"][-1][NUMBERS.index("position")] == revision.position
    assert (rows["event_time"][-1], rows["chain"][-1]) == (revision.event_time, revision.input_hash)
    return revision.offset, revision.number, revision.cause, revision.position, rows["offset"].tolist()


#: Short steps, so that sessions outgrow the window of six.
_LOGS = st.one_of(logs(max_size=40), logs(visitors=1, max_size=40, steps_ms=(0, 1, 700)))


@settings(max_examples=400)
@given(_LOGS, st.lists(st.tuples(st.integers(0, 39), st.integers(0, 60)), max_size=8), st.sets(st.integers(0, 60)))
def test_exactly_what_the_whole_log_says(log: list[ClickEvent], copies: list[tuple[int, int]], ends: set[int]) -> None:
    """With late events and copies anywhere, in batches that end anywhere, each folded by a worker that has just started."""
    for number, place in copies:
        if number < len(log):
            log.insert(place, log[number])
    found: list[Revision] = []
    kept: list[tuple[bytes, bytes | None]] = []
    start = 0
    for end in sorted(end for end in {*ends, len(log)} if end <= len(log)):
        state = PartitionState(SPEC, POLICY)
        for key, value in kept:
            state.restore(key, value)
        again = PartitionState(SPEC, POLICY)  # the first one crashed before anything was written
        for key, value in kept:
            again.restore(key, value)
        first = fold_events(state.fold, log[start:end], range(start, end)).revisions
        assert fold_events(again.fold, log[start:end], range(start, end)).revisions == first
        found += first
        kept += state.changes(end)
        start = end
    assert found == [revision for step in folded(log)[1] for revision in step.revisions]
    assert [told_of(revision) for revision in found] == oracle(log)
    numbers: defaultdict[int, list[int]] = defaultdict(list)
    for revision in found:
        numbers[revision.offset].append(revision.number)
    assert all(of_one == list(range(1, len(of_one) + 1)) for of_one in numbers.values())


def test_input_is_that_of_a_log_in_order() -> None:
    """What an event is scored anew from is what it would have been scored from, had the late one come in time.

    But for counts, which stay as each event found them: searches are not counted.
    """
    early, late, newest = (click(name, START_MS + ms, kind="search") for name, ms in (("a", 0), ("l", 1), ("b", 2)))
    (revision,) = folded([early, newest, late])[1][-1].revisions
    assert (revision.offset, revision.number, revision.position) == (1, 1, 3)
    in_order = folded([early, late, newest])[1][-1].session
    assert f"{revision.input_hash:016x}" == in_order.input_hash


def test_nothing_is_made_anew_without_a_late_event() -> None:
    """Neither by events in order, nor by copies and those that are too late."""
    log = [click("a", START_MS), click("b", START_MS + 9_000), click("a", START_MS), click("c", START_MS)]
    assert [len(step.revisions) for step in folded(log)[1]] == [0, 0, 0, 0]
