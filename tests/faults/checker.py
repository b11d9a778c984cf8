"""What must hold: I1 to I5, against a straight replay of the clicks that shares nothing with the workers but the contract."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
from aiokafka import ConsumerRecord

from tests.faults.broker import Broker, Entry, Fate
from tests.faults.clicks import PARTITIONS, TOPIC, ClickTopic, event_of
from tests.faults.schedule import SETTINGS, SPEC, Schedule
from tests.faults.scoring import HashScorer
from tests.logs import FORGETFUL
from worker.contract.codec import encode as encode_event
from worker.contract.counters import Counters
from worker.contract.events import EVENT_TYPES, HORIZONS, ClickEvent, ScoreEvent, revision_of
from worker.contract.features import encode, encode_rows
from worker.contract.fold import Fold
from worker.contract.revision import Revision
from worker.contract.session import Session
from worker.contract.users import anonymous_before, copy_for, user_of
from worker.follow import COPY_OF
from worker.scoring.base import Scores
from worker.store import PartitionState

#: What of a score must be the same in every copy and in the replay; the rest is about when it was made.
_VALUES = ("event_id", "visitor_id", "session_id", "position", "event_time", "version", "path", "input_hash", "scores")

#: A click in a user's sequence: key, value, and the click that it is a copy of.
Copy = tuple[bytes, bytes, str]

_scores = msgspec.json.Decoder(ScoreEvent)


class Violation(AssertionError):
    """An invariant does not hold. The message begins with its name."""


class Snapshot(NamedTuple):
    """State after some offset."""

    sessions: dict[str, Session]
    blocks: list[bytes]


class Replay:
    """What a straight replay of the clicks says there must be, as far as they have come."""

    def __init__(self, clicks: ClickTopic, follow_users: bool) -> None:
        self.scores: dict[str, tuple[object, ...]] = {}  # score id -> what a score has to say, also of those made anew
        self.revised: dict[str, list[str]] = {}  # late click -> ids of the scores that are made anew for it
        self.copied: dict[str, list[Copy]] = {}  # click of a user -> what there has to be in the user's sequence for it
        self.dead: set[str] = set()  # origins
        self.states: list[dict[int, Snapshot]] = []  # of each partition, by the offset that they go up to
        self._clicks = clicks
        self._follow_users = follow_users
        self._folds = [Fold(SPEC, FORGETFUL) for _ in range(PARTITIONS)]
        self._events: list[dict[int, ClickEvent]] = [{} for _ in range(PARTITIONS)]  # by offset
        self._done = [0] * PARTITIONS
        for fold in self._folds:
            self.states.append({0: snapshot(fold.counters, fold.sessions)})

    def go_on(self) -> None:
        """Replay what has come since the last time."""
        for partition, done in enumerate(self._done):
            fresh = self._clicks.records(partition)[done:]
            self._done[partition] += len(fresh)
            self._replay(partition, fresh)

    def _replay(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        fold, events = self._folds[partition], self._events[partition]
        scored: list[tuple[str, ClickEvent, Session]] = []
        anew: list[Revision] = []
        for record in records:
            name = f"{TOPIC}:{partition}:{record.offset}"
            event = event_of(record)
            if event is None:
                self.dead.add(name)
            else:
                events[record.offset] = event
                session, outcome, revisions = fold.apply(event, record.offset)
                if outcome.changed:
                    scored.append((name, event, session))
                    self._follow(name, event, record.offset, session, events)
                anew += revisions
            fold.expire()
            self.states[partition][record.offset + 1] = snapshot(fold.counters, fold.sessions)
        if scored:
            answer = HashScorer().score(encode([session for _, _, session in scored]))
            for at, (name, event, session) in enumerate(scored):
                value = (event.event_id, session.visitor_id, session.session_id, session.position, event.event_time)
                self.scores[name] = (*value, "1", "model", session.input_hash, _chances(answer, at))
        if anew:
            answer = HashScorer().score(encode_rows([revision.window for revision in anew]))
            for at, one in enumerate(anew):
                place = f"{TOPIC}:{partition}"
                name = f"{place}:{one.offset}:r{one.number}"
                value = (events[one.offset].event_id, one.visitor_id, one.session_id, one.position, one.event_time)
                self.scores[name] = (*value, "1", "model", f"{one.input_hash:016x}", _chances(answer, at))
                self.revised.setdefault(f"{place}:{one.cause}", []).append(name)

    def _follow(self, name: str, event: ClickEvent, offset: int, session: Session, events: Mapping[int, ClickEvent]) -> None:
        if not self._follow_users or (user := user_of(event)) is None:
            return
        place = name.rpartition(":")[0]
        earlier = [(f"{place}:{at}", events[at]) for at in anonymous_before(session.rows, offset)["offset"].tolist()]
        self.copied[name] = [
            (user.encode(), encode_event(copy_for(user, click)), origin) for origin, click in [*earlier, (name, event)]
        ]


class Checker:
    """Compares topics, states and commits with a replay."""

    def __init__(self, schedule: Schedule, clicks: ClickTopic, broker: Broker) -> None:
        self._clicks = clicks
        self._exactly_once = schedule.exactly_once
        self._replay = Replay(clicks, schedule.settings.session.follow_users)
        self._broker = broker
        # What the topics hold: scores by id in the order of their first copies within each partition, and dead letters.
        self._copies: dict[str, list[ScoreEvent]] = {}
        self._dead: list[str] = []
        self._copied: list[Copy] = []  # the clicks that workers have copied
        self._read: defaultdict[tuple[str, int], int] = defaultdict(int)

    @property
    def copies(self) -> int:
        """How many clicks workers have copied."""
        return len(self._copied)

    def check_restore(self, partition: int) -> None:
        """I3 for what a worker would read back now."""
        topic = SETTINGS.topics.changelog
        state = PartitionState(SPEC, FORGETFUL)
        for entry in self._broker.log(topic, partition).committed():
            state.restore(entry.key or b"", entry.value)
        state.check()
        self.check_state(partition, state)

    def check_no_copies(self) -> None:
        """I2 where nothing failed, as members that come and go in peace leave no copies; and where each score is written once."""
        self._read_on()
        copied = [name for name, scores in self._copies.items() if len(scores) > 1]
        twice = copied or [some for some in (self._dead, self._copied) if len(set(some)) < len(some)]
        if twice:
            raise Violation(f"I2 nothing failed, or nothing may be there twice, and still something is: {twice}")

    def check_state(self, partition: int, state: PartitionState) -> None:
        """I3 for a state that was read back."""
        self._replay.go_on()
        expected = self._replay.states[partition].get(state.next_offset)
        if expected is None:
            raise Violation(f"I3 state of partition {partition} goes to offset {state.next_offset}, where no record ends")
        if snapshot(state.fold.counters, {one.visitor_id: one for one in state.fold.sessions()}) != expected:
            raise Violation(f"I3 state of partition {partition} at offset {state.next_offset} is not that of a replay")

    def check_commit(self, offsets: Mapping[int, int]) -> None:
        """I5 for a commit that Kafka is about to take: all below it is in the topics."""
        self._read_on()
        copied = set(self._copied)
        for partition, offset in offsets.items():
            for record in self._clicks.records(partition):
                if record.offset >= offset:
                    break
                name = f"{TOPIC}:{partition}:{record.offset}"
                missing = (
                    name not in self._copies
                    if name in self._replay.scores
                    else name in self._replay.dead and name not in self._dead
                )
                missing |= not self._copies.keys() >= set(self._replay.revised.get(name, ()))
                if missing or not copied.issuperset(self._replay.copied.get(name, ())):
                    raise Violation(f"I5 commit of partition {partition} passes offset {record.offset}, which is not finished")

    def check_end(self) -> None:
        """I1, I2 and I4, when all clicks are committed."""
        self._read_on()
        copies = self._copies
        for name, expected in self._replay.scores.items():
            if name not in copies:
                raise Violation(f"I1 {name} has no score")
            for score in copies[name]:
                if _value(score) != expected:
                    raise Violation(f"I2 a score of {name} is not that of a replay: {score} but expected {expected}")
        if missing := self._replay.dead.difference(self._dead):
            raise Violation(f"I1 no dead letter of {sorted(missing)}")
        if wrong := (copies.keys() - self._replay.scores.keys()) | (set(self._dead) - self._replay.dead):
            raise Violation(f"I1 a second fate for {sorted(wrong)}")
        expected_copies = {copy for copies in self._replay.copied.values() for copy in copies}
        if expected_copies != set(self._copied):
            raise Violation(f"I1 users' sequences lack or have {sorted(expected_copies ^ set(self._copied))}")
        self._check_order()

    def _check_order(self) -> None:
        """I4: in each session, the positions of first copies rise by one, in the order of the log; those of scores made anew
        come behind them, in the order of their numbers.
        """
        positions: defaultdict[tuple[str, str], int] = defaultdict(int)
        before: defaultdict[str, int] = defaultdict(lambda: -1)
        newest: dict[str, int] = {}
        for name, scores in self._copies.items():
            first, revision = revision_of(name)
            if newest.get(first, -1) != revision - 1:
                raise Violation(f"I4 {name} does not follow on the score before it")
            newest[first] = revision
            if revision:
                continue
            partition, offset = name.split(":")[1:]
            if int(offset) < before[partition]:
                raise Violation(f"I4 the first score of {name} stands behind that of offset {before[partition]}")
            before[partition] = int(offset)
            session = (scores[0].visitor_id, scores[0].session_id)
            positions[session] += 1
            if scores[0].position != positions[session]:
                raise Violation(f"I4 {name} has position {scores[0].position} after {positions[session] - 1}")

    def _read_on(self) -> None:
        self._replay.go_on()
        self._copied = [copy for partition in range(PARTITIONS) for copy in self._copies_in(partition)]
        for partition in range(PARTITIONS):
            for entry in self._fresh(SETTINGS.topics.scores, partition):
                score = _scores.decode(entry.value or b"")
                self._copies.setdefault(score.score_id, []).append(score)
            for entry in self._fresh(SETTINGS.topics.dead, partition):
                self._dead.append((dict(entry.headers)["inkling-origin"] or b"").decode())

    def _copies_in(self, partition: int) -> Iterator[Copy]:
        """Those that will be read: an open transaction of another partition's owner may lie before them."""
        for entry in self._broker.log(TOPIC, partition).entries:
            if entry.headers and entry.fate is Fate.COMMITTED:
                yield entry.key or b"", entry.value or b"", (dict(entry.headers)[COPY_OF] or b"").decode()

    def _fresh(self, topic: str, partition: int) -> list[Entry]:
        """What was appended since the last time."""
        log = self._broker.log(topic, partition)
        entries = log.committed() if self._exactly_once else log.entries
        before, self._read[topic, partition] = self._read[topic, partition], len(entries)
        return entries[before:]


def _value(score: ScoreEvent) -> tuple[object, ...]:
    return tuple(getattr(score, name) for name in _VALUES)


def _chances(scores: Scores, at: int) -> dict[str, object]:
    """The `scores` of one session as a ScoreEvent has them."""

    def digits(p: float) -> float:
        return round(float(p) * 1e6) / 1e6

    return {
        "purchase": dict(zip(HORIZONS, map(digits, scores.purchase[at]), strict=True)),
        "cart": dict(zip(HORIZONS, map(digits, scores.cart[at]), strict=True)),
        "churn": digits(scores.churn[at]),
        "next_type": dict(zip(EVENT_TYPES, map(digits, scores.next_type[at]), strict=True)),
    }


def snapshot(counters: Counters, sessions: Mapping[str, Session]) -> Snapshot:
    """State as it is now."""
    return Snapshot(dict(sessions), [counters.block(number) for number in range(counters.blocks)])
