"""What must hold: I1 to I5, against a straight replay of the clicks that shares nothing with the workers but the contract."""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from tests.faults.broker import Broker
from tests.faults.schedule import PARTITIONS, SETTINGS, Clicks
from tests.faults.scoring import HashScorer
from tests.logs import POLICY, SPEC
from worker.contract.codec import decode
from worker.contract.events import InvalidRecord, ScoreEvent
from worker.contract.features import encode
from worker.contract.fold import Fold
from worker.contract.session import Session
from worker.scoring.base import score_fields
from worker.store import PartitionState

#: What of a score must be the same in every copy and in the replay; the rest is about when it was made.
_VALUES = ("event_id", "visitor_id", "session_id", "position", "event_time", "version", "path", "input_hash", "scores")

_scores = msgspec.json.Decoder(ScoreEvent)


class Violation(AssertionError):
    """An invariant does not hold. The message begins with its name."""


class Snapshot(NamedTuple):
    """State after some offset."""

    sessions: dict[str, Session]
    blocks: list[bytes]


class Checker:
    """Replays the clicks once; then compares topics, states and commits with that."""

    def __init__(self, clicks: Clicks, broker: Broker) -> None:
        self._clicks = clicks
        self._broker = broker
        self._scored: dict[str, tuple[object, ...]] = {}  # score id -> what a score has to say
        self._dead: set[str] = set()
        self._states: list[dict[int, Snapshot]] = [self._replay(partition) for partition in range(PARTITIONS)]

    def check_state(self, partition: int, state: PartitionState) -> None:
        """I3 for a state that was read back."""
        expected = self._states[partition].get(state.next_offset)
        if expected is None:
            raise Violation(f"I3 state of partition {partition} goes to offset {state.next_offset}, where no record ends")
        if _snapshot(state.fold) != expected:
            raise Violation(f"I3 state of partition {partition} at offset {state.next_offset} is not that of a replay")

    def check_commit(self, offsets: Mapping[int, int]) -> None:
        """I5 for a commit that Kafka is about to take: all below it is in the topics."""
        there = self._ids()
        for partition, offset in offsets.items():
            for _, record in self._clicks.records[partition]:
                name = f"{record.topic}:{partition}:{record.offset}"
                if record.offset < offset and name in self._dead | self._scored.keys() and name not in there:
                    raise Violation(f"I5 commit of partition {partition} passes offset {record.offset}, which is not finished")

    def check_end(self) -> None:
        """I1, I2 and I4, when all clicks are committed."""
        copies = self._copies()
        for name, expected in self._scored.items():
            if name not in copies:
                raise Violation(f"I1 {name} has no score")
            for score in copies[name]:
                if _value(score) != expected:
                    raise Violation(f"I2 a score of {name} is not that of a replay: {score} but expected {expected}")
        dead = self._dead_ids()
        if missing := self._dead - dead:
            raise Violation(f"I1 no dead letter of {sorted(missing)}")
        if wrong := (copies.keys() - self._scored.keys()) | (dead - self._dead):
            raise Violation(f"I1 a second fate for {sorted(wrong)}")
        self._check_order(copies)

    def _check_order(self, copies: Mapping[str, list[ScoreEvent]]) -> None:
        """I4: in each session, the positions of first copies rise by one, in the order of the log."""
        positions: defaultdict[tuple[str, str], int] = defaultdict(int)
        before: defaultdict[str, int] = defaultdict(lambda: -1)
        for name, scores in copies.items():
            partition, offset = name.split(":")[1:]
            if int(offset) < before[partition]:
                raise Violation(f"I4 the first score of {name} stands behind that of offset {before[partition]}")
            before[partition] = int(offset)
            session = (scores[0].visitor_id, scores[0].session_id)
            positions[session] += 1
            if scores[0].position != positions[session]:
                raise Violation(f"I4 {name} has position {scores[0].position} after {positions[session] - 1}")

    def _replay(self, partition: int) -> dict[int, Snapshot]:
        fold = Fold(SPEC, POLICY)
        states = {0: _snapshot(fold)}
        scored: list[tuple[str, str, Session, int]] = []
        for _, record in self._clicks.records[partition]:
            name = f"{record.topic}:{partition}:{record.offset}"
            event = decode(record.value, record.key, record.timestamp, round(SETTINGS.session.max_future_s * 1000))
            if isinstance(event, InvalidRecord):
                self._dead.add(name)
            else:
                session, outcome = fold.apply(event, record.offset)
                if outcome.changed:
                    scored.append((name, event.event_id, session, event.event_time))
            states[record.offset + 1] = _snapshot(fold)
        if scored:
            answer = HashScorer().score(encode([session for _, _, session, _ in scored]))
            for (name, event_id, session, time_ms), fields in zip(scored, score_fields(answer), strict=True):
                value = (event_id, session.visitor_id, session.session_id, session.position, time_ms)
                self._scored[name] = (*value, "1", "model", session.input_hash, fields)
        return states

    def _copies(self) -> dict[str, list[ScoreEvent]]:
        """The scores by id, in the order of their first copies within each partition."""
        copies: dict[str, list[ScoreEvent]] = {}
        for partition in range(PARTITIONS):
            for entry in self._broker.log(SETTINGS.topics.scores, partition).entries:
                score = _scores.decode(entry.value or b"")
                copies.setdefault(score.score_id, []).append(score)
        return copies

    def _ids(self) -> set[str]:
        return self._copies().keys() | self._dead_ids()

    def _dead_ids(self) -> set[str]:
        return {
            (dict(entry.headers)["inkling-origin"] or b"").decode()
            for partition in range(PARTITIONS)
            for entry in self._broker.log(SETTINGS.topics.dead, partition).entries
        }


def _value(score: ScoreEvent) -> tuple[object, ...]:
    return tuple(getattr(score, name) for name in _VALUES)


def _snapshot(fold: Fold) -> Snapshot:
    return Snapshot(dict(fold.sessions), [fold.counters.block(number) for number in range(fold.counters.blocks)])
