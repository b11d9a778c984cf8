"""The outcome join tells what really happened after each score, and depends on the log alone."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.contract.events import HORIZONS, ClickEvent, OutcomeEvent, ScoreEvent
from worker.contract.session import SessionPolicy
from worker.labels import HORIZON_MS, OUTCOMES_PER_SCORE, OutcomeJoin

_T0 = 1_700_000_000_000
_MINUTE = 60_000
_DAY = 86_400_000
#: Steps of event time at and around every boundary that the definitions have, backwards as well.
_STEPS = (
    0,
    1,
    40_000,
    299_999,
    300_000,
    300_001,
    1_200_000,
    1_799_999,
    1_800_000,
    1_800_001,
    3_600_000,
    _DAY,
    3 * _DAY,
    7 * _DAY,
)

Log = list[ClickEvent | None]


def _event(number: int, at: int, visitor: str = "v", kind: str = "view", event_id: str | None = None) -> ClickEvent:
    return ClickEvent(event_id or f"e{number}", _T0 + at, visitor, kind)  # type: ignore[arg-type]


def _score(event: ClickEvent, offset: int, p: float = 0.25, path: str = "model") -> ScoreEvent:
    by_horizon = {horizon: p + k / 100 for k, horizon in enumerate(HORIZONS)}
    return ScoreEvent(
        score_id=f"clicks:0:{offset}", event_id=event.event_id, visitor_id=event.visitor_id, session_id="s", position=1,
        event_time=event.event_time, scored_at=0, age_ms=0, deadline_met=True, model="intent", version="1",
        path=path, input_hash="0", scores={"purchase": by_horizon, "cart": by_horizon, "churn": p},  # type: ignore[arg-type]
    )  # fmt: skip


def _joined(log: Log, policy: SessionPolicy, scored: Sequence[int] | None = None) -> dict[str, OutcomeEvent]:
    """All outcomes that the log brings about, by id without the topic's name."""
    join = OutcomeJoin(policy)
    for offset, event in enumerate(log):
        join.add_click(event, offset)
    for place, offset in enumerate(range(len(log)) if scored is None else scored):
        event = log[offset]
        if event is not None:
            join.add_score(_score(event, offset), place)
    outcomes = join.advance()
    assert len({outcome.outcome_id for outcome in outcomes}) == len(outcomes)
    return {outcome.outcome_id.split(":")[-1]: outcome for outcome in outcomes}


def _labels(log: Log, offset: int = 0, policy: SessionPolicy | None = None) -> dict[str, int | None]:
    """Labels of one offset by head/horizon, once everything in the log has matured."""
    end = _event(10_000, 60 * _DAY, "another")
    found = _joined([*log, end], policy or SessionPolicy())
    return {key.split("/", 1)[1]: outcome.label for key, outcome in found.items() if key.startswith(f"{offset}/")}


class _Truth(NamedTuple):
    label: int | None
    time_to_event_s: float | None


def _oracle(log: Log, policy: SessionPolicy) -> dict[str, _Truth]:
    """The definitions of the module word by word, over the whole log at once, without regard to speed."""
    newest, known, seen, events = -(2**62), {}, set(), []
    for offset, event in enumerate(log):
        known[offset] = newest
        if event is None:
            continue
        if (event.visitor_id, event.event_id) not in seen:
            seen.add((event.visitor_id, event.event_id))
            events.append((event.event_time, offset, event))
        newest = max(newest, event.event_time)
    truths: dict[str, _Truth] = {}
    for offset, scored in enumerate(log):
        if scored is None:
            continue
        t = scored.event_time
        later = sorted((time, o, e) for time, o, e in events if e.visitor_id == scored.visitor_id and (time, o) > (t, offset))
        due, found = -(2**62), {"purchase": None, "cart": None}
        for horizon in HORIZONS:
            if horizon == "session":
                last, window = t, []
                for time, o, e in later:
                    if time - last >= policy.gap_ms or time > t + _DAY:
                        break
                    if known[o] < min(last + policy.gap_ms, t + _DAY) + policy.grace_ms:
                        last = time
                        window.append(e)
                due = max(due, min(last + policy.gap_ms, t + _DAY) + policy.grace_ms)
                churn = _Truth(int(not window), (window[0].event_time - t) / 1000 if window else None)
            else:
                due = max(due, t + HORIZON_MS[horizon] + policy.grace_ms)
                window = [e for time, o, e in later if time <= t + HORIZON_MS[horizon] and known[o] < due]
            for head, before in found.items():
                of_head = [e.event_time for e in window if e.event_type == head]
                if before is None and of_head:
                    found[head] = (of_head[0] - t) / 1000
            if newest < due:
                break
            for head, after_s in found.items():
                truths[f"{offset}/{head}/{horizon}"] = _Truth(int(after_s is not None), after_s)
            if horizon == "session":
                truths[f"{offset}/churn/session"] = churn
            if known[offset] >= due:
                for key in [key for key in truths if key.startswith(f"{offset}/") and key.endswith(f"/{horizon}")]:
                    truths[key] = _Truth(None, None)
    return truths


@st.composite
def _logs(draw: st.DrawFn) -> Log:
    log: Log = []
    at = 0
    for number in range(draw(st.integers(1, 25))):
        if draw(st.integers(0, 12)) == 0:
            log.append(None)
            continue
        forward = draw(st.integers(0, 3)) > 0
        at = max(at + (1 if forward else -1) * draw(st.sampled_from(_STEPS)), 0)
        earlier = [event.event_id for event in log if event is not None]
        repeated = earlier and draw(st.integers(0, 9)) == 0
        log.append(
            _event(
                number,
                at,
                draw(st.sampled_from("ab")),
                draw(st.sampled_from(["view", "view", "cart", "purchase"])),
                draw(st.sampled_from(earlier)) if repeated else None,
            )
        )
    return log


_policies = st.sampled_from(
    [(600_000, 0), (600_000, 300_000), (1_800_000, 0), (1_800_000, 300_000), (7_200_000, 300_000), (7_200_000, 3_600_000)]
).map(lambda pair: SessionPolicy(gap_ms=pair[0], grace_ms=pair[1]))


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(_logs(), _policies)
def test_outcomes_equal_the_definitions(log: Log, policy: SessionPolicy) -> None:
    """Every outcome, and none else, is what a slow reading of the whole log says."""
    found = {key: _Truth(outcome.label, outcome.time_to_event_s) for key, outcome in _joined(log, policy).items()}
    assert found == _oracle(log, policy)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(_logs(), _policies, st.randoms(use_true_random=False))
def test_outcomes_do_not_depend_on_when_they_are_read(log: Log, policy: SessionPolicy, choice: random.Random) -> None:
    """Clicks ahead of scores or scores ahead of clicks, copies, and any rhythm of advancing give the same outcomes."""
    join, outcomes = OutcomeJoin(policy), []
    clicks = list(enumerate(log))
    scores = [(event, offset) for offset, event in enumerate(log) if event is not None]
    place = 0
    while clicks or scores:
        if clicks and (not scores or choice.random() < 0.5):
            offset, click = clicks.pop(0)
            join.add_click(click, offset)
        else:
            event, offset = scores[0]
            if choice.random() < 0.7:  # else a copy follows
                scores.pop(0)
            join.add_score(_score(event, offset), place)
            place += 1
        if choice.random() < 0.5:
            outcomes += join.advance()
    outcomes += join.advance()
    assert sorted(outcomes, key=str) == sorted(_joined(log, policy).values(), key=str)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(_logs(), _policies, st.data())
def test_a_join_goes_on_where_another_stopped(log: Log, policy: SessionPolicy, data: st.DataObject) -> None:
    """After a restart nothing is missing and nothing comes twice, and what is below `lowest_open` is not needed."""
    scores = [(place, offset) for place, offset in enumerate(o for o, event in enumerate(log) if event is not None)]
    clicks_read = data.draw(st.integers(0, len(log)))
    scores_read = data.draw(st.integers(0, len(scores)))

    def read(join: OutcomeJoin, clicks: int, count: int, first: int = 0, at_most: int | None = None) -> list[OutcomeEvent]:
        for offset in range(clicks):
            join.add_click(log[offset], offset)
        for place, offset in scores[first:count]:
            event = log[offset]
            assert event is not None
            join.add_score(_score(event, offset), place)
        return join.advance(at_most)

    before = OutcomeJoin(policy)
    outcomes = read(before, clicks_read, scores_read, at_most=data.draw(st.none() | st.integers(1, 60)))
    progress = before.progress
    outcomes += read(OutcomeJoin(policy, progress), len(log), len(scores), progress.lowest_open)
    assert sorted(outcomes, key=str) == sorted(_joined(log, policy).values(), key=str)


def test_a_score_has_eleven_outcomes() -> None:
    """Two heads by five horizons, and churn."""
    labels = _labels([_event(0, 0)])
    assert len(labels) == OUTCOMES_PER_SCORE == 11
    assert {key for key, label in labels.items() if label} == {"churn/session"}


def test_a_purchase_counts_from_its_horizon_on() -> None:
    """A label of a shorter horizon implies the longer."""
    labels = _labels([_event(0, 0), _event(1, 20 * _MINUTE, kind="purchase")])
    assert [labels[f"purchase/{horizon}"] for horizon in HORIZONS] == [0, 1, 1, 1, 1]
    assert [labels[f"cart/{horizon}"] for horizon in HORIZONS] == [0] * 5
    assert labels["churn/session"] == 0


def test_a_horizon_contains_its_last_millisecond() -> None:
    """A purchase exactly at the horizon is within it; a millisecond later it is not."""
    inside = _labels([_event(0, 0), _event(1, 300_000, kind="purchase")])
    outside = _labels([_event(0, 0), _event(1, 300_001, kind="purchase")])
    assert (inside["purchase/5m"], outside["purchase/5m"]) == (1, 0)


def test_the_scored_event_itself_is_no_label() -> None:
    """A purchase is not its own outcome, nor is its copy, nor what came before."""
    log: Log = [_event(0, 0, kind="purchase"), _event(1, 1000, kind="purchase"), _event(2, 1000, kind="purchase", event_id="e1")]
    assert not any(label for key, label in _labels(log, 1).items() if key.startswith("purchase"))


def test_of_two_events_at_the_same_time_the_later_offset_follows() -> None:
    """Order is (event time, offset)."""
    log: Log = [_event(0, 0), _event(1, 0, kind="cart")]
    assert (_labels(log, 0)["cart/5m"], _labels(log, 1)["cart/5m"]) == (1, 0)


def test_other_visitors_do_not_count() -> None:
    """A purchase of somebody else is no label."""
    assert not _labels([_event(0, 0), _event(1, 1000, "w", "purchase")])["purchase/7d"]


def test_the_session_ends_by_the_gap() -> None:
    """What comes a gap later is another session, though within 24 h; until then the label waits."""
    log: Log = [_event(0, 0), _event(1, 29 * _MINUTE), _event(2, 59 * _MINUTE, kind="purchase")]
    labels = _labels(log)
    assert (labels["churn/session"], labels["purchase/session"], labels["purchase/24h"]) == (0, 0, 1)
    open_yet = _joined([*log[:2], _event(3, 63 * _MINUTE, "another")], SessionPolicy())
    matured = _joined([*log[:2], _event(3, 64 * _MINUTE, "another")], SessionPolicy())
    assert "0/churn/session" not in open_yet
    assert matured["0/churn/session"].label == 0


def test_a_session_is_cut_at_a_day() -> None:
    """A session that never ends gives its label after 24 h, without what comes later."""
    log: Log = [_event(number, number * 20 * _MINUTE) for number in range(80)]
    log.append(_event(80, 80 * 20 * _MINUTE, kind="purchase"))
    assert _labels(log)["purchase/session"] == 0
    assert _labels(log, 20)["purchase/session"] == 1


def test_a_purchase_that_arrives_late_counts_where_it_still_can() -> None:
    """Horizons that had matured stay as they were; longer ones know of it."""
    log: Log = [_event(0, 0), _event(1, 45 * _MINUTE, "another"), _event(2, 10 * _MINUTE, kind="purchase")]
    labels = _labels(log)
    assert [labels[f"purchase/{horizon}"] for horizon in HORIZONS] == [0, 0, 0, 1, 1]


def test_a_horizon_that_had_passed_before_the_event_came_is_censored() -> None:
    """Nobody could have known: no label rather than a wrong one."""
    late = _joined([_event(0, 3 * _DAY, "another"), _event(1, 0), _event(2, 60 * _DAY, "another")], SessionPolicy())
    assert late["1/purchase/24h"].censored
    assert late["1/purchase/24h"].label is None
    assert late["1/churn/session"].censored
    assert late["1/purchase/7d"].label == 0


def test_scores_whose_clicks_are_deleted_are_censored() -> None:
    """When the click topic starts after a score's event, its future may be cut as well."""
    join = OutcomeJoin(SessionPolicy())
    join.add_score(_score(_event(0, 0), 5), 0)
    join.add_click(_event(1, 60 * _DAY), 6)
    outcomes = join.advance()
    assert len(outcomes) == OUTCOMES_PER_SCORE
    assert all(outcome.censored and outcome.label is None for outcome in outcomes)


def test_an_outcome_repeats_what_the_score_said() -> None:
    """Probability, version and path are those of the first copy, by head and horizon."""
    join = OutcomeJoin(SessionPolicy())
    event = _event(0, 0)
    join.add_score(_score(event, 0, p=0.5, path="fallback"), 0)
    join.add_score(_score(event, 0, p=0.75), 1)
    join.add_click(event, 0)
    join.add_click(_event(1, 60 * _DAY, "another"), 1)
    said = {outcome.outcome_id: (outcome.p, outcome.path) for outcome in join.advance()}
    assert said["clicks:0:0/purchase/30m"] == (0.51, "fallback")
    assert said["clicks:0:0/churn/session"] == (0.5, "fallback")
    assert len(said) == OUTCOMES_PER_SCORE


def test_nothing_comes_before_its_time() -> None:
    """One millisecond before a horizon and its grace have passed there is no outcome."""
    policy = SessionPolicy(grace_ms=7)
    assert not _joined([_event(0, 0), _event(1, 300_006, "another")], policy, scored=[0])
    assert set(_joined([_event(0, 0), _event(1, 300_007, "another")], policy, scored=[0])) == {"0/purchase/5m", "0/cart/5m"}


def test_a_score_made_anew_has_no_outcomes() -> None:
    """Outcomes are about the score that could be acted on; the place of another one only counts as read."""
    join = OutcomeJoin(SessionPolicy())
    first = _score(_event(0, 0), 0)
    join.add_score(msgspec.structs.replace(first, score_id=f"{first.score_id}:r1"), 0)
    assert (join.pending, join.progress.scores) == (0, 1)
    join.add_score(first, 1)
    join.add_score(msgspec.structs.replace(first, score_id=f"{first.score_id}:r2"), 2)
    assert (join.pending, join.progress.scores, join.progress.lowest_open) == (1, 3, 1)


@pytest.mark.parametrize("score_id", ["nonsense", "clicks:0:x"])
def test_a_score_with_a_foreign_id_is_refused(score_id: str) -> None:
    """It cannot be joined, and says so."""
    score = msgspec.structs.replace(_score(_event(0, 0), 0), score_id=score_id)
    with pytest.raises(ValueError, match="cannot be joined"):
        OutcomeJoin(SessionPolicy()).add_score(score, 0)


def test_a_score_without_a_head_is_refused() -> None:
    """A score that some other program wrote does not end the join by a KeyError."""
    score = msgspec.structs.replace(_score(_event(0, 0), 0), scores={"purchase": {"5m": 0.1}})
    with pytest.raises(ValueError, match="cannot be joined"):
        OutcomeJoin(SessionPolicy()).add_score(score, 0)


def test_what_nobody_can_need_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory holds a week and the reach of late scores, not the whole log; pending scores are not kept for ever."""
    monkeypatch.setattr("worker.labels.COPY_REACH", 2000)
    join = OutcomeJoin(SessionPolicy())
    outcomes, count = 0, 10_000
    for offset in range(count):
        event = _event(offset, offset * 20 * _MINUTE, f"v{offset // 5}")
        join.add_click(event, offset)
        join.add_score(_score(event, offset), offset)
        if offset % 500 == 499:
            outcomes += len(join.advance())
    a_week = 7 * 24 * 3
    assert join.pending <= a_week + 2
    assert outcomes >= (count - a_week - 2) * OUTCOMES_PER_SCORE
    assert len(join._visitors) * 5 < 2000 + a_week + 2 * 1024
    assert len(join._scored) <= 2 * 2000
