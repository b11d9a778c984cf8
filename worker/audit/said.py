"""What the scores of one partition say, kept in columns by the offset of their click: about 120 bytes a click."""

from array import array
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from aiokafka import ConsumerRecord
from msgspec.structs import astuple

from worker.audit.report import Report
from worker.audit.revised import TOLERANCE, Claim, Revised
from worker.contract.events import EVENT_TYPES, HAZARD_HEADS, HORIZONS, ClickEvent, revision_of

#: Probabilities of a score: purchase and cart by horizon, churn, next type.
WIDTH = len(HAZARD_HEADS) * len(HORIZONS) + 1 + len(EVENT_TYPES)
CHURN = len(HAZARD_HEADS) * len(HORIZONS)


def _named(name: str, keys: tuple[str, ...]) -> type[msgspec.Struct]:
    """A struct with one float for each key: a third of the time of a dict."""
    return msgspec.defstruct(name, [(f"k{n}", float, msgspec.field(name=key)) for n, key in enumerate(keys)])


_Hazards = _named("_Hazards", HORIZONS)
_Types = _named("_Types", EVENT_TYPES)
_Probabilities = msgspec.defstruct(
    "_Probabilities", [("purchase", _Hazards), ("cart", _Hazards), ("churn", float), ("next_type", _Types)]
)


class _Score(msgspec.Struct):
    """The parts of a ScoreEvent that are checked."""

    score_id: str
    event_id: str
    visitor_id: str
    session_id: str
    position: Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
    event_time: int
    model: str
    version: str
    path: str
    input_hash: str
    scores: _Probabilities  # type: ignore[valid-type]  # made above, from the contract's names


_decoder = msgspec.json.Decoder(_Score)


class Said:
    """The first copy of each score, and how many copies there are; those made anew are apart, in `revised`.

    Offsets are those of clicks, from `start` to before `end`.
    """

    def __init__(self, topic: str, partition: int, start: int, end: int, report: Report) -> None:
        self.start = start
        self._name = f"{topic}:{partition}"
        self._end = end
        self._report = report
        count = end - start
        self.copies = array("H", bytes(2 * count))
        self.places = array("q", bytes(8 * count))  # in the score topic
        self.makers = array("H", bytes(2 * count))  # index in `maker_names`
        self.p: npt.NDArray[np.float32] = np.zeros((count, WIDTH), np.float32)
        self.sessions = array("Q", bytes(8 * count))
        self.positions = array("q", bytes(8 * count))
        self.maker_names: list[tuple[str, str, str]] = []  # model, version, path
        self.revised = Revised(self._name, report)
        self._makers: dict[tuple[str, str, str], int] = {}
        self._hashes = array("Q", bytes(8 * count))
        self._events = array("q", bytes(8 * count))  # who and when, hashed

    def add(self, records: Sequence[ConsumerRecord]) -> None:
        """Take records of the score topic."""
        firsts: list[int] = []
        probabilities: list[tuple[float, ...]] = []
        for record in records:
            try:
                score = _decoder.decode(record.value or b"")
                first, revision = revision_of(score.score_id)
                click, _, offset_text = first.rpartition(":")
                offset, session, input_hash = int(offset_text), _hash64(score.session_id), _hash64(score.input_hash)
            except (msgspec.DecodeError, UnicodeError, ValueError) as error:
                self._report.checks["I1"].fail(f"{_place(record)} is no score: {error}")
                continue
            at = offset - self.start
            if click != self._name or at < 0 or offset >= self._end:
                self._elsewhere(record, score, offset, click)
                continue
            p = _probabilities(score)
            who = _identity(score.event_id, score.visitor_id, score.event_time)
            maker = self._maker((score.model, score.version, score.path))
            if revision:
                claim = Claim(who, session, input_hash, score.position, maker, np.array(p, np.float32))
                self.revised.add((offset, revision), claim, _place(record))
                continue
            self._report.counts["scores"] += 1
            if self.copies[at]:
                self._keep(firsts, probabilities)  # the first copy may be among these records
                self._compare(at, score, (who, session, input_hash, score.position), maker, p, record)
                self.copies[at] = min(self.copies[at] + 1, 65_535)
                continue
            self.copies[at] = 1
            self.places[at] = record.offset
            self.makers[at] = maker
            self.sessions[at] = session
            self.positions[at] = score.position
            self._hashes[at] = input_hash
            self._events[at] = who
            firsts.append(at)
            probabilities.append(p)
        self._keep(firsts, probabilities)

    def who(self, offset: int) -> int:
        """What the first score of a click says of its event, hashed."""
        return self._events[offset - self.start]

    def p_of(self, offset: int, revision: int) -> npt.NDArray[np.float32]:
        """Probabilities of a score that is there, [WIDTH]."""
        claim = self.revised.get((offset, revision)) if revision else None
        return self.p[offset - self.start] if claim is None else claim.p

    def scored(self, at: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of the clicks have a score."""
        found: npt.NDArray[np.bool_] = np.frombuffer(self.copies, np.uint16)[at] > 0
        return found

    def mismatches(
        self,
        at: npt.NDArray[np.int64],
        events: Sequence[ClickEvent],
        sessions: npt.NDArray[np.uint64],
        hashes: npt.NDArray[np.uint64],
    ) -> dict[int, str]:
        """What of the scores at these indices differs from the clicks and their replayed sessions, by place in the arguments."""
        who = np.array([_identity(event.event_id, event.visitor_id, event.event_time) for event in events], np.int64)
        said_who, said_sessions, said_hashes = (
            np.frombuffer(column, kind)[at]
            for column, kind in ((self._events, np.int64), (self.sessions, np.uint64), (self._hashes, np.uint64))
        )
        wrong = np.flatnonzero((said_who != who) | (said_sessions != sessions) | (said_hashes != hashes))
        found = {}
        for place in wrong.tolist():
            if said_who[place] != who[place]:
                found[place] = "it is about another event"
            elif said_sessions[place] != sessions[place]:
                found[place] = f"session {said_sessions[place]:016x} should be {sessions[place]:016x}"
            else:
                found[place] = f"input hash {said_hashes[place]:016x} should be {hashes[place]:016x}"
        return found

    def check_positions(self, from_the_start: bool) -> None:
        """I4: in each session the positions of its scores, by offset, are 1, 2, 3 and so on."""
        tally = self._report.checks["I4"]
        scored = np.flatnonzero(np.frombuffer(self.copies, np.uint16))
        tally.checked += len(scored)
        sessions = np.frombuffer(self.sessions, np.uint64)[scored]
        positions = np.frombuffer(self.positions, np.int64)[scored]
        order = np.argsort(sessions, kind="stable")
        first = np.ones(len(order), bool)
        first[1:] = sessions[order][1:] != sessions[order][:-1]
        expected = np.ones(len(order), np.int64)
        expected[1:] += positions[order][:-1]
        expected[first] = 1
        wrong = positions[order] != expected
        if not from_the_start:
            wrong &= ~first
        # The first in the log, not in the order of sessions.
        for at in np.sort(order[wrong]):
            offset, session = scored[at] + self.start, sessions[at]
            tally.fail(f"score {self._name}:{offset} has position {positions[at]}, not one more than before it in {session:016x}")

    def _keep(self, firsts: list[int], probabilities: list[tuple[float, ...]]) -> None:
        """Store the probabilities of first copies; both lists are empty afterwards."""
        if not firsts:
            return
        self.p[firsts] = probabilities
        firsts.clear()
        probabilities.clear()

    def _elsewhere(self, record: ConsumerRecord, score: _Score, offset: int, click: str) -> None:
        if offset < self.start and click == self._name:
            self._report.counts["scores of deleted clicks"] += 1
        else:
            self._report.checks["I1"].fail(f"score {score.score_id} at {_place(record)} has no click in this partition")

    def _compare(
        self,
        at: int,
        score: _Score,
        identity: tuple[int, int, int, int],
        maker: int,
        p: tuple[float, ...],
        record: ConsumerRecord,
    ) -> None:
        self._report.counts["score copies"] += 1
        if identity != (self._events[at], self.sessions[at], self._hashes[at], self.positions[at]):
            self._report.checks["I2"].fail(f"score {score.score_id} at {_place(record)} differs from its first copy")
        elif maker != self.makers[at]:
            # The model was back, or another version was pinned, when the click was scored again.
            self._report.counts["score copies of another version or path"] += 1
        elif float(np.abs(np.array(p, np.float32) - self.p[at]).max()) > TOLERANCE:
            told = f"score {score.score_id} at {_place(record)} has other probabilities than its first copy"
            self._report.checks["I2"].fail(told)

    def _maker(self, name: tuple[str, str, str]) -> int:
        number = self._makers.get(name)
        if number is None:
            number = self._makers[name] = len(self.maker_names)
            self.maker_names.append(name)
        return number


def _place(record: ConsumerRecord) -> str:
    return f"{record.topic}:{record.partition}:{record.offset}"


def _probabilities(score: Any) -> tuple[float, ...]:
    """[WIDTH] in the order of `Said.p`."""
    said = score.scores
    return (*astuple(said.purchase), *astuple(said.cart), said.churn, *astuple(said.next_type))


def _hash64(text: str) -> int:
    number = int(text, 16)
    if not 0 <= number < 2**64:
        raise ValueError(f"{text[:40]} is no hash of 64 bits")
    return number


def _identity(event_id: str, visitor_id: str, event_time: int) -> int:
    # Python's own hash: only compared within this process.
    return hash((event_id, visitor_id, event_time))
