"""The checker passes what a faithful worker writes, and finds and names every way of getting it wrong."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import pytest
from aiokafka import ConsumerRecord

from tests.support.reference import SPEC, Reference, Written, changed, outcomes_from, replayed, score_record
from worker.audit.partition import PartitionAudit, Rules, Scope
from worker.audit.report import Report
from worker.contract.codec import encode
from worker.contract.events import EVENT_TYPES, HORIZONS, ClickEvent, OutcomeEvent, ScoreEvent
from worker.contract.session import SessionPolicy
from worker.contract.slab import Slab
from worker.contract.step import Step
from worker.dead import Origin
from worker.labels import OUTCOMES_PER_SCORE, PROGRESS_HEADER, Progress
from worker.settings import Settings, TopicSettings

_T0 = 1_760_000_000_000
_MINUTE = 60_000
_BAD = 8  # a record that is no event
_COPY = 9  # a click that the policy drops
_SETTINGS = Settings(topics=TopicSettings(partitions=1))


@dataclass
class World:
    """All topics of one partition, as a faithful worker and outcome join leave them; tests spoil it."""

    clicks: list[ConsumerRecord]
    scores: list[Written]
    dead: list[Written]
    outcomes: list[Written]
    committed: int | None

    def audit(self, start: int = 0) -> Report:
        scope = Scope("clicks", 0, start, len(self.clicks), self.committed)
        audit = PartitionAudit(scope, Rules(SPEC, SessionPolicy(), 86_400_000), 0)
        for add, records in ((audit.add_scores, self.scores), (audit.add_dead, self.dead), (audit.add_outcomes, self.outcomes)):
            add([_record(w.topic, offset, w.key, w.value, w.headers) for offset, w in enumerate(records)])
        for first in range(start, len(self.clicks), 7):
            audit.replay(self.clicks[first : first + 7])
        return audit.finish()

    def score(self, at: int, **fields: object) -> Written:
        """Score number `at` with other fields."""
        score = msgspec.json.decode(self.scores[at].value or b"", type=ScoreEvent)
        return score_record(_SETTINGS, 0, changed(score, **fields))

    def outcome(self, at: int, **fields: object) -> Written:
        """Outcome number `at` with other fields, its headers as they were."""
        outcome = msgspec.json.decode(self.outcomes[at].value or b"", type=OutcomeEvent)
        return self.outcomes[at]._replace(value=encode(msgspec.structs.replace(outcome, **fields)))


def _record(topic: str, offset: int, key: bytes | None, value: bytes | None, headers: object = ()) -> ConsumerRecord:
    return ConsumerRecord(topic, 0, offset, _T0 + 86_400_000, 0, key, value, None, 0, 0, headers)  # type: ignore[arg-type]


def _clicks() -> list[ConsumerRecord]:
    """Two visitors with two sessions each, a late event, a copy, a record that is no event, and a last click a month later."""
    events = [ClickEvent(f"a{n}", _T0 + n * _MINUTE, "a", "cart" if n == 3 else "view") for n in range(5)]
    events += [ClickEvent(f"b{n}", _T0 + n * _MINUTE, "b", "purchase" if n == 2 else "view") for n in range(3)]
    records = [_record("clicks", n, event.visitor_id.encode(), encode(event)) for n, event in enumerate(events)]
    late = ClickEvent("late", _T0 + 90_000, "a", "view")
    more = [
        (b"a", b"nonsense"),
        (b"a", encode(events[4])),
        (b"a", encode(late)),
        *((b"a", encode(ClickEvent(f"c{n}", _T0 + (100 + n) * _MINUTE, "a", "view"))) for n in range(3)),
        *((b"b", encode(ClickEvent(f"d{n}", _T0 + (100 + n) * _MINUTE, "b", "purchase"))) for n in range(2)),
        (b"z", encode(ClickEvent("z", _T0 + 86_000_000, "z", "view"))),
    ]
    return records + [_record("clicks", len(records) + n, key, value) for n, (key, value) in enumerate(more)]


@pytest.fixture
def world() -> World:
    clicks = _clicks()
    made: Reference = replayed(_SETTINGS, clicks)
    outcomes = [
        Written("intent-outcomes", 0, outcome.visitor_id.encode(), encode(outcome))
        for _, outcome in outcomes_from(_SETTINGS, clicks, made)
    ]
    progress = Progress(0, len(made.scores), len(clicks), _T0 + 86_000_000)
    outcomes[-1] = outcomes[-1]._replace(headers=((PROGRESS_HEADER, encode(progress)),))
    return World(clicks, made.score_records(_SETTINGS), list(made.dead.values()), outcomes, len(clicks))


def test_a_faithful_worker_passes(world: World) -> None:
    """Late, repeated and unreadable records included, nothing is wrong and everything was looked at."""
    report = world.audit()
    assert {name: tally.first for name, tally in report.checks.items()} == dict.fromkeys(report.checks)
    assert report.ok
    clicks, revised = len(world.clicks), 3
    scored = len(world.scores) - revised
    assert {name: tally.checked for name, tally in report.checks.items()} == {
        "I1": clicks, "I2": scored + revised, "I3": scored + revised, "I4": scored, "I5": 1, "I6": 0, "I7": len(world.outcomes),
    }  # fmt: skip
    assert scored == clicks - 2
    assert report.counts == {
        "clicks": clicks, "scores": scored, "revised scores": revised, "dead letters": 1, "drops": 1,
        "outcomes": len(world.outcomes),
    }  # fmt: skip


def test_an_error_in_the_columns_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the worker makes the same error: the definition of a session is asked as well."""
    fold = Slab.fold

    def wrong(self: Slab, events: Sequence[ClickEvent], offsets: Sequence[int], **asked: object) -> Step:
        step = fold(self, events, offsets, **asked)
        if 4 in offsets:
            step.chain[list(offsets).index(4)] = 0
        return step

    monkeypatch.setattr(Slab, "fold", wrong)
    world.scores[4] = world.score(4, input_hash="0" * 16)
    report = world.audit()
    assert {name: tally.first for name, tally in report.checks.items() if tally.failed} == {
        "I3": "clicks:0:4 gives another session by its definition than in columns"
    }


def test_copies_after_a_crash_pass(world: World) -> None:
    """Same id, same value, any number of times; a model may differ in the sixth digit, and the fallback may have answered."""
    again = world.score(2)
    nearly = msgspec.json.decode(again.value or b"", type=ScoreEvent)
    probabilities = nearly.scores | {"churn": nearly.scores["churn"] + 5e-6}  # type: ignore[operator]
    world.scores += [again, world.score(2, scores=probabilities), world.score(3, path="fallback", scores=probabilities)]
    world.dead += world.dead
    world.outcomes = [world.outcome(5), *world.outcomes]
    report = world.audit()
    assert report.ok, report.checks
    assert report.counts["score copies"] == 3
    assert report.counts["score copies of another version or path"] == 1
    assert (report.counts["dead letter copies"], report.counts["outcome copies"]) == (1, 1)


def test_what_is_not_committed_may_be_unfinished(world: World) -> None:
    """A worker that is behind is no offender: its open clicks are counted, not blamed."""
    world.committed = 4
    del world.scores[6:]
    world.dead.clear()
    world.outcomes.clear()
    report = world.audit()
    assert report.ok, report.checks
    assert report.counts["clicks not finished yet"] == len(world.clicks) - 6 - 1


def test_before_the_first_commit_nothing_is_due(world: World) -> None:
    """Scores and dead letters go to different topics: a later click's dead letter may be there before an earlier score."""
    world.committed = None
    del world.scores[6:]
    world.outcomes.clear()
    report = world.audit()
    assert report.ok, report.checks
    assert report.counts["clicks not finished yet"] == len(world.clicks) - 6 - 2  # a dead letter, and a drop
    assert report.notes == ["nothing is committed for clicks:0: no click has to have a result there"]


def test_outcomes_on_their_way_are_not_blamed(world: World) -> None:
    """Without progress that covers them, outcomes may be missing."""
    world.outcomes = [outcome._replace(headers=()) for outcome in world.outcomes[:30]]
    report = world.audit()
    assert report.ok, report.checks
    assert report.counts["outcomes not out yet"] > 0


def test_a_log_without_its_beginning_is_not_accused(world: World) -> None:
    """With the first clicks deleted sessions come out otherwise: that is said, and what can be checked is."""
    report = world.audit(start=2)
    assert report.ok, report.checks
    assert "earlier clicks are deleted" in report.notes[0]
    assert report.counts["scores of deleted clicks"] == 2


def _no_scores_at(*numbers: int) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        world.scores = [score for n, score in enumerate(world.scores) if n not in numbers]

    return spoil


def _score(at: int, **fields: object) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        world.scores[at] = world.score(at, **fields)

    return spoil


def _more_scores(at: int, **fields: object) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        world.scores.append(world.score(at, **fields))

    return spoil


def _raw_score(value: bytes | None) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        world.scores.append(world.scores[0]._replace(value=value))

    return spoil


def _dead(change: Callable[[Written], Written]) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        world.dead[0] = change(world.dead[0])

    return spoil


def _header(name: str, value: bytes) -> Callable[[Written], Written]:
    return lambda record: record._replace(headers=tuple((n, value if n == name else v) for n, v in record.headers))


def _no_dead(world: World) -> None:
    world.dead.clear()


def _dead_for(offset: int) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        world.dead.append(_header("inkling-origin", str(Origin("clicks", 0, offset)).encode())(world.dead[0]))

    return spoil


def _committed_too_far(world: World) -> None:
    del world.scores[11:15]


def _outcome(at: int, **fields: object) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        world.outcomes[at] = world.outcome(at, **fields)

    return spoil


def _other_label(world: World) -> None:
    outcome = msgspec.json.decode(world.outcomes[7].value or b"", type=OutcomeEvent)
    assert outcome.label is not None
    _outcome(7, label=1 - outcome.label)(world)


def _other_time(world: World) -> None:
    for at, record in enumerate(world.outcomes):
        outcome = msgspec.json.decode(record.value or b"", type=OutcomeEvent)
        if outcome.time_to_event_s is not None:
            _outcome(at, time_to_event_s=outcome.time_to_event_s + 1)(world)
            return


def _early_outcome(world: World) -> None:
    """The week of the first score has not passed."""
    outcome = msgspec.json.decode(world.outcomes[0].value or b"", type=OutcomeEvent)
    score = msgspec.json.decode(world.scores[0].value or b"", type=ScoreEvent)
    early = msgspec.structs.replace(
        outcome, outcome_id=f"{score.score_id}/purchase/7d", score_id=score.score_id, head="purchase", horizon="7d",
        p=score.scores["purchase"]["7d"],  # type: ignore[index]
    )  # fmt: skip
    world.outcomes.insert(0, Written("intent-outcomes", 0, b"a", encode(early)))


def _no_outcome(world: World) -> None:
    del world.outcomes[3]


def _more_outcomes(**fields: object) -> Callable[[World], None]:
    def spoil(world: World) -> None:
        world.outcomes.insert(0, world.outcome(3, **fields))

    return spoil


_OTHER_P = {
    "purchase": dict.fromkeys(HORIZONS, 0.9),
    "cart": dict.fromkeys(HORIZONS, 0.9),
    "churn": 0.9,
    "next_type": dict.fromkeys(EVENT_TYPES, 0.125),
}

_SPOILED: dict[str, tuple[Callable[[World], None], set[str], str]] = {
    "a score is missing": (_no_scores_at(2), {"I1", "I4", "I5", "I7"}, "clicks:0:2 has no result, a score is missing"),
    "a score of no click": (_more_scores(2, score_id="clicks:0:999"), {"I1"}, "clicks:0:999"),
    "a score of another partition": (_more_scores(2, score_id="clicks:1:2"), {"I1"}, "clicks:1:2"),
    "a score of another topic": (_more_scores(2, score_id="other:0:2"), {"I1"}, "other:0:2"),
    "a score of an invalid record": (_more_scores(2, score_id=f"clicks:0:{_BAD}"), {"I1", "I4"}, "is no event"),
    "a score of a dropped click": (_more_scores(2, score_id=f"clicks:0:{_COPY}"), {"I1", "I4"}, "dropped by policy (duplicate)"),
    "no score at all": (_raw_score(b"{}"), {"I1"}, "intent-scores:0:18 is no score"),
    "a score nested too deeply": (_raw_score(b'{"x":' + b"[" * 100_000), {"I1"}, "intent-scores:0:18 is no score"),
    "a tombstone among the scores": (_raw_score(None), {"I1"}, "is no score"),
    "a session id that is no hash": (_more_scores(2, session_id="x" * 16), {"I1"}, "is no score"),
    "a session id past 64 bits": (_more_scores(2, session_id="f" * 17), {"I1"}, "no hash of 64 bits"),
    "a dead letter is missing": (_no_dead, {"I1", "I5"}, f"clicks:0:{_BAD} has no result, a dead letter (not_json)"),
    "a dead letter of a good click": (_dead_for(1), {"I1"}, "clicks:0:1 is an event but has a dead letter (not_json)"),
    "a dead letter of no click": (_dead_for(999), {"I1"}, "clicks:0:999"),
    "a dead letter with another reason": (_dead(_header("inkling-reason", b"empty")), {"I1"}, "says empty, should say not_json"),
    "a dead letter with other bytes": (_dead(lambda record: record._replace(value=b"?")), {"I1"}, "does not hold the bytes"),
    "a foreign record among the dead": (_dead(lambda record: record._replace(headers=())), {"I1", "I5"}, "is no dead letter"),
    "a copy with another hash": (_more_scores(2, input_hash="0" * 16), {"I2"}, "clicks:0:2 at intent-scores:0:18 differs"),
    "a copy with another position": (_more_scores(2, position=9), {"I2"}, "differs from its first copy"),
    "a copy with other probabilities": (_more_scores(2, scores=_OTHER_P), {"I2"}, "other probabilities than its first copy"),
    "another input hash": (_score(2, input_hash="00000000000000ff"), {"I3"}, "clicks:0:2: input hash 00000000000000ff should be"),
    "another session": (_score(2, session_id="00000000000000ff"), {"I3", "I4"}, "session 00000000000000ff should be"),
    "another event": (_score(2, event_id="e"), {"I3"}, "about another event"),
    "another visitor": (_score(2, visitor_id="e"), {"I3"}, "about another event"),
    "another time": (_score(2, event_time=5), {"I3"}, "about another event"),
    "a position left out": (_score(2, position=4), {"I4"}, "clicks:0:2 has position 4"),
    "a position twice": (_score(2, position=2), {"I4"}, "clicks:0:2 has position 2"),
    "committed too far": (_committed_too_far, {"I1", "I5", "I7"}, "clicks:0 is committed up to 17, but 13 is unfinished"),
    "a revision is missing": (_no_scores_at(16), {"I1", "I5"}, "clicks:0:10 is late, score clicks:0:3:r1 is missing"),
    "a revision that nobody called for": (
        _more_scores(16, score_id="clicks:0:3:r2"),
        {"I1"},
        "clicks:0:3:r2 is made anew, but no",
    ),
    "a revision of an event before the late one": (
        _more_scores(16, score_id="clicks:0:1:r1"),
        {"I1"},
        "clicks:0:1:r1 is made anew",
    ),
    "a revision without a number": (_more_scores(16, score_id="clicks:0:3:r0"), {"I1"}, "has no revision number"),
    "a revision with another hash": (_score(16, input_hash="0" * 16), {"I3"}, "score clicks:0:3:r1: input hash 0000000000000000"),
    "a revision with another position": (_score(16, position=9), {"I3"}, "score clicks:0:3:r1: position 9 should be 5"),
    "a revision of another session": (_score(16, session_id="f" * 16), {"I3"}, "clicks:0:3:r1: session ffffffffffffffff"),
    "a revision of another event": (_score(16, event_id="e"), {"I3"}, "clicks:0:3:r1: it is about another event"),
    "a copy of a revision with another hash": (
        _more_scores(16, input_hash="0" * 16),
        {"I2"},
        "clicks:0:3:r1 at intent-scores:0:18",
    ),
    "a copy of a revision with other probabilities": (
        _more_scores(16, scores=_OTHER_P),
        {"I2"},
        "clicks:0:3:r1 at intent-scores",
    ),
    "another label": (_other_label, {"I7"}, "should be"),
    "another time to the event": (_other_time, {"I7"}, "s to the event, should be"),
    "censored without need": (_outcome(7, label=None, censored=True), {"I7"}, "is censored, should be"),
    "censored with a label": (_outcome(7, censored=True), {"I7"}, "is censored and has a label, or neither"),
    "an outcome is missing": (_no_outcome, {"I7"}, "is missing"),
    "an outcome before its time": (_early_outcome, {"I7"}, "clicks:0:0/purchase/7d came before its time"),
    "an outcome twice with two labels": (_more_outcomes(label=None, censored=True), {"I7"}, "copies with other labels"),
    "an outcome of no score": (_more_outcomes(score_id="clicks:0:999"), {"I7"}, "has no score"),
    "an outcome of an invalid record": (_more_outcomes(score_id=f"clicks:0:{_BAD}"), {"I7"}, "has no score"),
    "an outcome with another id": (_outcome(7, outcome_id="x"), {"I7"}, "does not name"),
    "an outcome with another probability": (_outcome(7, p=0.001), {"I7"}, "probability"),
    "an outcome with another version": (_outcome(7, version="2"), {"I7"}, "version"),
    "an outcome of no head": (_more_outcomes(head="churn", horizon="7d"), {"I7"}, "is no outcome"),
}


@pytest.mark.parametrize("what", _SPOILED)
def test_what_is_wrong_is_found_and_named(world: World, what: str) -> None:
    """Each corruption fails exactly the checks that it breaks, and the first offender is told."""
    spoil, checks, told = _SPOILED[what]
    spoil(world)
    report = world.audit()
    assert {name for name, tally in report.checks.items() if tally.failed} == checks
    assert not report.ok
    assert any(told in (tally.first or "") for tally in report.checks.values()), report.checks


def test_the_report_can_be_read_by_scripts(world: World) -> None:
    """Names, counts and the first offender, as JSON."""
    _no_scores_at(2)(world)
    told = json.loads(json.dumps(world.audit().to_json()))
    assert told["ok"] is False
    assert told["checks"]["I1"] == {
        "what": told["checks"]["I1"]["what"], "checked": len(world.clicks), "failed": 1,
        "first": "clicks:0:2 has no result, a score is missing",
    }  # fmt: skip


def test_offenders_cannot_write_on_the_terminal(world: World) -> None:
    """Ids of a forged record are shown without their control characters."""
    _more_scores(2, score_id="\x1b[31mclicks:0:999")(world)
    first = world.audit().checks["I1"].first
    assert first is not None
    assert "\x1b" not in first


def test_the_world_has_what_the_tests_speak_of(world: World) -> None:
    """Every kind of outcome is there: positive, negative, and censored by lateness is not needed."""
    outcomes = [msgspec.json.decode(record.value or b"", type=OutcomeEvent) for record in world.outcomes]
    assert {outcome.label for outcome in outcomes} == {0, 1}
    assert len(outcomes) < len(world.scores) * OUTCOMES_PER_SCORE
