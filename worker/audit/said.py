"""What the scores of one partition say, kept in columns by the offset of their click: about 120 bytes a click."""

import operator
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from aiokafka import ConsumerRecord

from worker.audit.lines import WIDTH, Columns, Maker, identities
from worker.audit.report import Report
from worker.audit.revised import TOLERANCE, Claim, Revised
from worker.audit.scores import Reader, Score, parse
from worker.contract.clicks import Clicks
from worker.contract.events import HAZARD_HEADS, HORIZONS

Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

CHURN = len(HAZARD_HEADS) * len(HORIZONS)
_FIELDS = operator.attrgetter("value", "offset")


class Said:
    """The first copy of each score, by its click; those made anew are apart, in `revised`.

    Offsets are those of clicks, from `start` to before `end`.
    """

    def __init__(self, topic: str, partition: int, start: int, end: int, report: Report) -> None:
        self.start = start
        self._name = f"{topic}:{partition}"
        self._end = end
        self._report = report
        self._reader = Reader(self._name, start, end)
        count = end - start
        self.known: Bools = np.zeros(count, np.bool_)  # which clicks have a score
        self.places: Longs = np.zeros(count, np.int64)  # in the score topic
        self.makers: npt.NDArray[np.uint32] = np.zeros(count, np.uint32)  # index in `maker_names`
        self.p: npt.NDArray[np.float32] = np.zeros((count, WIDTH), np.float32)
        self.sessions: Words = np.zeros(count, np.uint64)
        self.positions: Longs = np.zeros(count, np.int64)
        self.revised = Revised(self._name, report)
        self._hashes: Words = np.zeros(count, np.uint64)
        self._events: Words = np.zeros(count, np.uint64)  # who and when, hashed

    @property
    def maker_names(self) -> list[Maker]:
        """Model, version and path of each maker."""
        return self._reader.makers

    def add(self, records: Sequence[ConsumerRecord]) -> None:
        """Take records of the score topic."""
        if not records:
            return
        values, places = zip(*map(_FIELDS, records), strict=True)
        scores, revised = self._read(values, records)
        wrong = self._compare(scores, self._keep(scores, np.array(places, np.int64)))
        # In the order of the log: the first offender is to be named.
        for row in sorted([*wrong, *revised]):
            place = _place(records[row])
            if row in wrong:
                self._report.checks["I2"].fail(f"score {self._name}:{scores.offset[row]} at {place} {wrong[row]}")
            else:
                score = revised[row]
                maker, p = self._reader.number(score.maker), np.array(score.p, np.float32)
                claim = Claim(score.who, score.session, score.input_hash, score.position, maker, p)
                self.revised.add((score.offset, score.revision), claim, place)

    def who(self, offset: int) -> int:
        """What the first score of a click says of its event, hashed."""
        return int(self._events[offset - self.start])

    def p_of(self, offset: int, revision: int) -> npt.NDArray[np.float32]:
        """Probabilities of a score that is there, [WIDTH]."""
        claim = self.revised.get((offset, revision)) if revision else None
        return self.p[offset - self.start] if claim is None else claim.p

    def mismatches(self, at: Longs, clicks: Clicks, rows: Longs, sessions: Words, hashes: Words) -> dict[int, str]:
        """What of the scores at these indices differs from the clicks in these rows and their replayed sessions, by place in
        the arguments.
        """
        who = identities(clicks.text, clicks.event_id[rows], clicks.visitor_id[rows], clicks.time_ms[rows])
        said_who, said_sessions, said_hashes = self._events[at], self.sessions[at], self._hashes[at]
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
        scored = np.flatnonzero(self.known)
        tally.checked += len(scored)
        sessions, positions = self.sessions[scored], self.positions[scored]
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

    def _read(self, values: Sequence[bytes | None], records: Sequence[ConsumerRecord]) -> tuple[Columns, dict[int, Score]]:
        """The records as scores of this partition's clicks, as far as they are any; those made anew apart, by row."""
        scores, revised = self._reader.read(values), {}
        for row in np.flatnonzero(~scores.known).tolist():
            try:
                score = parse(values[row])
            except ValueError as error:
                self._report.checks["I1"].fail(f"{_place(records[row])} is no score: {error}")
                continue
            if score.place != self._name or not self.start <= score.offset < self._end:
                self._elsewhere(records[row], score)
            elif score.revision:
                revised[row] = score
            else:
                self._reader.put(row, score, scores)
        return scores, revised

    def _keep(self, scores: Columns, places: Longs) -> Longs:
        """Store what nobody has said before; returns which rows are copies of it, or of what was there."""
        rows = np.flatnonzero(scores.known)
        at = scores.offset[rows] - self.start
        is_first = np.zeros(len(rows), np.bool_)
        is_first[np.unique(at, return_index=True)[1]] = True
        is_first &= ~self.known[at]
        at, new = at[is_first], rows[is_first]
        self.known[at] = True
        self.places[at] = places[new]
        self.makers[at] = scores.maker[new]
        self.p[at] = scores.p[new]
        self.sessions[at] = scores.session[new]
        self.positions[at] = scores.position[new]
        self._hashes[at] = scores.input_hash[new]
        self._events[at] = scores.who[new]
        self._count("scores", len(rows))
        return rows[~is_first]

    def _compare(self, scores: Columns, copies: Longs) -> dict[int, str]:
        """What is wrong with copies, by row."""
        if not len(copies):
            return {}
        at = scores.offset[copies] - self.start
        pairs = (
            (scores.who, self._events), (scores.session, self.sessions), (scores.input_hash, self._hashes),
            (scores.position, self.positions),
        )  # fmt: skip
        differs = np.any([said[copies] != before[at] for said, before in pairs], axis=0)
        # The model was back, or another version was pinned, when the click was scored again.
        other_maker = ~differs & (scores.maker[copies] != self.makers[at])
        far = ~differs & ~other_maker & (np.abs(scores.p[copies] - self.p[at]).max(axis=1) > TOLERANCE)
        self._count("score copies", len(copies))
        self._count("score copies of another version or path", int(other_maker.sum()))
        return dict.fromkeys(copies[differs].tolist(), "differs from its first copy") | dict.fromkeys(
            copies[far].tolist(), "has other probabilities than its first copy"
        )

    def _count(self, what: str, number: int) -> None:
        if number:
            self._report.counts[what] += number

    def _elsewhere(self, record: ConsumerRecord, score: Score) -> None:
        if score.offset < self.start and score.place == self._name:
            self._report.counts["scores of deleted clicks"] += 1
        else:
            self._report.checks["I1"].fail(f"score {score.score_id} at {_place(record)} has no click in this partition")


def _place(record: ConsumerRecord) -> str:
    return f"{record.topic}:{record.partition}:{record.offset}"
