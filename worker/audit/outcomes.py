"""I7: the outcomes of one partition against those of a replay."""

from array import array
from collections.abc import Sequence

import msgspec
import numpy as np
from aiokafka import ConsumerRecord

from worker.audit.report import Report
from worker.audit.said import CHURN, Said
from worker.contract.clicks import Read
from worker.contract.events import EVENT_TYPES, HAZARD_HEADS, HORIZONS, ClickEvent, OutcomeEvent, ScoreEvent
from worker.contract.session import SessionPolicy
from worker.labels import OUTCOMES_PER_SCORE, PROGRESS_HEADER, OutcomeJoin, Progress

#: Probabilities are kept as float32, and are on the wire with six digits.
_ROUNDING = 1e-6
_UNKNOWN, _CENSORED = -2, -1

_decoder = msgspec.json.Decoder(OutcomeEvent)
#: The replay needs no probabilities.
_SCORES: dict[str, dict[str, float] | float] = {
    **{head: dict.fromkeys(HORIZONS, 0.0) for head in HAZARD_HEADS},
    "churn": 0.0,
    "next_type": dict.fromkeys(EVENT_TYPES, 0.0),
}
_SLOTS = {
    **{(head, horizon): h * len(HORIZONS) + k for h, head in enumerate(HAZARD_HEADS) for k, horizon in enumerate(HORIZONS)},
    ("churn", "session"): CHURN,
}


class OutcomeAudit:
    """All outcomes first (`add`), then clicks (`add_clicks`); `compare` now and then, `finish` at the end.

    What had to be out by the newest progress that the outcomes carry has to be there; what comes after may be on its way.
    """

    def __init__(self, name: str, said: Said, policy: SessionPolicy, report: Report) -> None:
        self._name = name
        self._said = said
        self._progress: Progress | None = None
        self._report = report
        self._tally = report.checks["I7"]
        self._join = OutcomeJoin(policy)
        self._later: list[tuple[ClickEvent, int]] = []  # scores that the outcome join had not read by its progress
        self._required = False  # whether what matures now has to be out
        # By click and slot, made when the first outcome comes: most audits of a running system have them, a test may not.
        self._labels = array("b")
        self._after_s = array("d")

    def add(self, record: ConsumerRecord) -> None:
        """Take a record of the outcome topic."""
        place = f"{record.topic}:{record.partition}:{record.offset}"
        try:
            outcome = _decoder.decode(record.value or b"")
            click, offset_text = outcome.score_id.rsplit(":", 1)
            at, slot = int(offset_text) - self._said.start, _SLOTS[outcome.head, outcome.horizon]
        except (msgspec.DecodeError, UnicodeError, ValueError, KeyError) as error:
            self._tally.fail(f"{place} is no outcome: {error!r}")
            return
        if at < 0 and click == self._name:
            self._report.counts["outcomes of deleted clicks"] += 1
            return
        if click != self._name or at >= len(self._said.known) or not self._said.known[at]:
            self._tally.fail(f"outcome {outcome.outcome_id} at {place} has no score in this partition")
            return
        self._report.counts["outcomes"] += 1
        for header, value in record.headers:
            if header == PROGRESS_HEADER and value is not None:
                self._progress, self._required = msgspec.json.decode(value, type=Progress), True
        self._check_fields(outcome, at, slot)
        self._note(outcome, at * OUTCOMES_PER_SCORE + slot)

    def add_clicks(self, clicks: Read, offsets: Sequence[int]) -> None:
        """Replay the clicks of records at these offsets, and the first copies of their scores."""
        if not self._labels:
            return
        rows = dict(zip(clicks.at.tolist(), range(len(clicks.at)), strict=True))
        for number, offset in enumerate(offsets):
            row = rows.get(number)
            self._add_click(None if row is None else clicks.clicks.event(row), offset)

    def compare(self) -> None:
        """Compare what has matured by now."""
        until_ms = self._progress.newest_ms if self._required and self._progress is not None else None
        while outcomes := self._join.advance(10_000, until_ms):
            for outcome in outcomes:
                self._compare(outcome)

    def finish(self) -> None:
        """Compare the rest. What nobody expected by now came before its time."""
        if not self._labels:
            return
        if self._required:
            self._end_required()
        self.compare()
        names = {slot: name for name, slot in _SLOTS.items()}
        for index in np.flatnonzero(np.frombuffer(self._labels, np.int8) != _UNKNOWN).tolist():
            at, slot = divmod(index, OUTCOMES_PER_SCORE)
            head, horizon = names[slot]
            self._tally.fail(f"outcome {self._name}:{at + self._said.start}/{head}/{horizon} came before its time")

    def _add_click(self, event: ClickEvent | None, offset: int) -> None:
        if self._required and self._progress is not None and offset >= self._progress.clicks:
            self._end_required()
        self._join.add_click(event, offset)
        if event is not None and self._said.known[offset - self._said.start]:
            if self._required and self._progress is not None and self._place(offset) >= self._progress.scores:
                self._later.append((event, offset))
            else:
                self._add_score(event, offset)

    def _end_required(self) -> None:
        self.compare()
        self._required = False
        for event, offset in self._later:
            self._add_score(event, offset)
        self._later.clear()

    def _add_score(self, event: ClickEvent, offset: int) -> None:
        # The join takes scores in any order; the first copy counts, and only that is given.
        self._join.add_score(
            ScoreEvent(
                score_id=f"{self._name}:{offset}", event_id=event.event_id, visitor_id=event.visitor_id, session_id="",
                position=0, event_time=event.event_time, scored_at=0, age_ms=0, deadline_met=True, model="", version="",
                path="model", input_hash="", scores=_SCORES,
            ),
            self._place(offset),
        )  # fmt: skip

    def _place(self, offset: int) -> int:
        return int(self._said.places[offset - self._said.start])

    def _check_fields(self, outcome: OutcomeEvent, at: int, slot: int) -> None:
        _, version, path = self._said.maker_names[self._said.makers[at]]
        if outcome.outcome_id != f"{outcome.score_id}/{outcome.head}/{outcome.horizon}":
            self._tally.fail(f"outcome {outcome.outcome_id} does not name its score, head and horizon")
        elif (outcome.version, outcome.path) != (version, path) or abs(outcome.p - self._said.p.item(at, slot)) > _ROUNDING:
            self._tally.fail(f"outcome {outcome.outcome_id} repeats another version, path or probability than its score has")
        elif outcome.censored != (outcome.label is None):
            self._tally.fail(f"outcome {outcome.outcome_id} is censored and has a label, or neither")

    def _note(self, outcome: OutcomeEvent, index: int) -> None:
        if not self._labels:
            slots = len(self._said.known) * OUTCOMES_PER_SCORE
            self._labels = array("b", bytes([_UNKNOWN % 256]) * slots)
            self._after_s = array("d", bytes(8 * slots))
        label = _CENSORED if outcome.label is None else min(max(outcome.label, 0), 1)
        after_s = -1.0 if outcome.time_to_event_s is None else outcome.time_to_event_s
        if self._labels[index] == _UNKNOWN:
            self._labels[index], self._after_s[index] = label, after_s
            return
        self._report.counts["outcome copies"] += 1
        if (label, after_s) != (self._labels[index], self._after_s[index]):
            self._tally.fail(f"outcome {outcome.outcome_id} has copies with other labels")

    def _compare(self, expected: OutcomeEvent) -> None:
        self._tally.checked += 1
        at = int(expected.score_id.rsplit(":", 1)[1]) - self._said.start
        index = at * OUTCOMES_PER_SCORE + _SLOTS[expected.head, expected.horizon]
        label = self._labels[index]
        if label == _UNKNOWN:
            if self._required:
                self._tally.fail(f"outcome {expected.outcome_id} is missing")
            else:
                self._report.counts["outcomes not out yet"] += 1
            return
        self._labels[index] = _UNKNOWN  # compared: what is left at the end was never expected
        after_s = None if self._after_s[index] < 0 else self._after_s[index]
        if label != (_CENSORED if expected.label is None else expected.label):
            told = "censored" if label == _CENSORED else label
            self._tally.fail(
                f"outcome {expected.outcome_id} is {told}, should be {'censored' if expected.label is None else expected.label}"
            )
        elif after_s != expected.time_to_event_s:
            self._tally.fail(f"outcome {expected.outcome_id} says {after_s} s to the event, should be {expected.time_to_event_s}")
