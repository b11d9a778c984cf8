"""Everything that was written about the clicks of one partition, against a replay of them."""

import hashlib
import operator
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from aiokafka import ConsumerRecord

from worker.audit.copies import Copies, CopyAudit
from worker.audit.outcomes import OutcomeAudit
from worker.audit.recompute import Sample
from worker.audit.report import Report
from worker.audit.revised import difference
from worker.audit.said import Said
from worker.contract.clicks import Clicks, read, texts_of
from worker.contract.events import InvalidRecord
from worker.contract.features import FeatureSpec, ModelInputs, encode_rows
from worker.contract.fold import Fold
from worker.contract.revision import Revision
from worker.contract.session import Outcome, SessionPolicy
from worker.contract.slab import Slab
from worker.contract.step import Step
from worker.dead import DeadLetter, parse_dead, parse_dropped
from worker.follow import of_users

Longs = npt.NDArray[np.int64]

#: So many clicks of a partition are folded by the definition as well, event by event, to see that the columns say the same.
DEFINED_CLICKS = 20_000
_OUTCOMES = tuple(Outcome)
_FIELDS = operator.attrgetter("value", "key", "offset", "timestamp")


class Rules(NamedTuple):
    """By what the clicks are replayed."""

    spec: FeatureSpec
    policy: SessionPolicy
    max_future_ms: int
    follow_users: bool = False


class Scope(msgspec.Struct, frozen=True):
    """One partition: its clicks from `start` to before `end`, and what the worker's group has committed, None if nothing."""

    topic: str
    partition: int
    start: int
    end: int
    committed: int | None

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}"


class _Buried(NamedTuple):
    """What a dead letter says of a record."""

    reason: str
    length: int
    sha256: str


class PartitionAudit:
    """First all that was written, in the order of its topics (`add_scores`, `add_dead`, `add_outcomes`), then the clicks
    (`replay`), then `finish`.
    """

    def __init__(self, scope: Scope, rules: Rules, sample_size: int) -> None:
        self.report = Report()
        self.sample = Sample(sample_size, scope.partition)
        self.said = Said(scope.topic, scope.partition, scope.start, scope.end, self.report)
        self._scope = scope
        self._rules = rules
        self._fold = Slab(rules.spec, rules.policy)
        self._definition = Fold(rules.spec, rules.policy)
        self._defined = 0  # clicks that were folded by the definition
        self._found: list[tuple[int, str, str]] = []  # offset, check and offender, of the clicks under replay
        self._outcomes = OutcomeAudit(str(scope), self.said, rules.policy, self.report)
        self._copies = CopyAudit(scope.topic, scope.partition)
        self._dead: dict[int, _Buried] = {}
        self._next = scope.start  # below it, the clicks that there are have been replayed
        self._unfinished: int | None = None  # the lowest click without a result
        # A log whose beginning is deleted gives other sessions: what depends on them cannot be told right or wrong.
        self._whole = scope.start == 0
        if not self._whole:
            self.report.notes.append(
                f"{scope} begins at offset {scope.start}, earlier clicks are deleted: "
                "missing scores, I3, I6 and I7 are not checked there"
            )

    def add_scores(self, records: Sequence[ConsumerRecord]) -> None:
        """Take records of the score topic's partition."""
        self.said.add(records)

    def add_dead(self, records: Sequence[ConsumerRecord]) -> None:
        """Take records of the dead-letter topic that are about this partition."""
        for record in records:
            self._add_dead(record)

    def add_outcomes(self, records: Sequence[ConsumerRecord]) -> None:
        """Take records of the outcome topic's partition."""
        if self._whole:
            for record in records:
                self._outcomes.add(record)

    def replay(self, records: Sequence[ConsumerRecord]) -> None:
        """Replay clicks, in order, and check what was written about each."""
        if not records:
            return
        self._check_gaps(records)
        values, keys, *numbers = zip(*map(_FIELDS, records), strict=True)
        offsets, timestamps_ms = (np.array(column, np.int64) for column in numbers)
        taken = read(texts_of(values), texts_of(keys), timestamps_ms, self._fold.spec, self._rules.max_future_ms)
        for row, invalid in taken.invalid:
            self._check_invalid(records[row], invalid)
        self._outcomes.add_clicks(taken, numbers[0])
        if self._rules.follow_users:
            self._copies.add_there(records, taken)
        self.report.counts["clicks"] += len(records)
        self.report.checks["I1"].checked += len(records)
        if len(taken.at):
            self._check_events(taken.clicks, offsets[taken.at])
        self._outcomes.compare()
        for _, check, offender in sorted(self._found):
            self.report.checks[check].fail(offender)
        self._found.clear()

    def finish(self) -> Report:
        """The checks that need the whole partition."""
        self._check_gap(self._scope.end)
        if self._whole:
            for key in self.said.revised.unexpected():
                self.report.checks["I1"].fail(
                    f"score {self.said.revised.name(key)} is made anew, but no late event called for it"
                )
        self.said.check_positions(self._whole)
        self._check_committed()
        self._outcomes.finish()
        return self.report

    def copies(self) -> Copies:
        """What there is to be compared with other partitions (`copies.compare`)."""
        return self._copies.told(self._scope.start, self._scope.end, self._scope.committed)

    def _add_dead(self, record: ConsumerRecord) -> None:
        letter = parse_dead(record.value, record.key, record.headers)
        place = f"{record.topic}:{record.partition}:{record.offset}"
        scope = self._scope
        if letter is None and parse_dropped(record.headers):
            return
        if letter is None:
            self.report.checks["I1"].fail(f"{place} is no dead letter")
            return
        here = (letter.origin.topic, letter.origin.partition) == (scope.topic, scope.partition)
        if here and letter.origin.offset < scope.start:
            self.report.counts["dead letters of deleted clicks"] += 1
            return
        if not here or letter.origin.offset >= scope.end:
            self.report.checks["I1"].fail(f"dead letter {place} is about {letter.origin}, which is no click of this partition")
            return
        self.report.counts["dead letters"] += 1
        self._add_letter(letter, place)

    def _add_letter(self, letter: DeadLetter, place: str) -> None:
        buried = _Buried(letter.reason, letter.length, letter.sha256)
        before = self._dead.setdefault(letter.origin.offset, buried)
        if before is not buried:
            self.report.counts["dead letter copies"] += 1
            if before != buried:
                self.report.checks["I2"].fail(f"dead letter {letter.origin} at {place} differs from its first copy")
        whole = hashlib.sha256(letter.value or b"").hexdigest() == letter.sha256
        if "value" not in letter.cut and not whole:
            self.report.checks["I1"].fail(f"dead letter {letter.origin} at {place} does not hold the bytes that it claims")

    def _check_invalid(self, record: ConsumerRecord, invalid: InvalidRecord) -> None:
        offset = record.offset
        if self._has_score(offset):
            self._fail(offset, "I1", f"{self._name(offset)} is no event ({invalid.reason}) but has a score")
        buried = self._dead.get(offset)
        if buried is None:
            self._missing(offset, f"{self._name(offset)} has no result, a dead letter ({invalid.reason}) is missing")
        elif buried.reason != invalid.reason.value:
            self._fail(offset, "I1", f"dead letter {self._name(offset)} says {buried.reason}, should say {invalid.reason}")
        elif buried.sha256 != hashlib.sha256(record.value or b"").hexdigest():
            self._fail(offset, "I1", f"dead letter {self._name(offset)} holds other bytes than the record")

    def _check_events(self, clicks: Clicks, offsets: Longs) -> None:
        for offset in filter(self._dead.__contains__, offsets.tolist() if self._dead else ()):
            told = f"{self._name(offset)} is an event but has a dead letter ({self._dead[offset].reason})"
            self._fail(offset, "I1", told)
        at = offsets - self._scope.start
        scored = self.said.known[at]
        self.report.checks["I2"].checked += int(scored.sum())
        if not self._whole:
            return
        members = of_users(clicks) if self._rules.follow_users else None
        step = self._fold.fold(clicks, offsets, encode=self.sample.size > 0, of_user=members)
        self._fold.drop_changed()
        if members is not None:
            self._copies.add_due(clicks, offsets, members, step)
        self._check_definition(clicks, offsets, step)
        changed = np.zeros(len(offsets), bool)
        changed[step.at] = True
        self.report.counts["drops"] += int((~changed).sum())
        dropped, unscored = ~changed & scored, changed & ~scored
        for offset, outcome in zip(offsets[dropped].tolist(), step.outcome[dropped].tolist(), strict=True):
            told = f"{self._name(offset)} is dropped by policy ({_OUTCOMES[outcome].value}) but has a score"
            self._fail(offset, "I1", told)
        for offset in offsets[unscored].tolist():
            self._missing(offset, f"{self._name(offset)} has no result, a score is missing")
        self._check_scored(clicks, at, step, scored)
        for revision in step.revisions:
            self._check_revision(revision)

    def _check_scored(self, clicks: Clicks, at: Longs, step: Step, scored: npt.NDArray[np.bool_]) -> None:
        """Clicks of a batch that have a score, as they should: whether it is theirs."""
        compared = np.flatnonzero(scored[step.at])  # index among those that changed their session
        numbers = step.at[compared]  # index among the events
        self.report.checks["I3"].checked += len(compared)
        mismatches = self.said.mismatches(at[numbers], clicks, numbers, step.session[compared], step.chain[compared])
        for number, mismatch in mismatches.items():
            offset = int(at[numbers[number]]) + self._scope.start
            self._fail(offset, "I3", f"score {self._name(offset)}: {mismatch}")
        if self.sample.size and step.inputs is not None:
            for row, place in zip(compared.tolist(), at[numbers].tolist(), strict=True):
                maker = self.said.maker_names[self.said.makers[place]]
                self.sample.offer(place + self._scope.start, maker, _Window(step.inputs, row))

    def _check_definition(self, clicks: Clicks, offsets: Longs, step: Step) -> None:
        """The worker folds in columns as well: the beginning of each partition shows whether that is right."""
        if self._defined >= DEFINED_CLICKS:
            self._definition.sessions.clear()
            return
        self._defined += len(offsets)
        rows = {number: row for row, number in enumerate(step.at.tolist())}
        for number, offset in enumerate(offsets.tolist()):
            session, outcome, _ = self._definition.apply(clicks.event(number), offset)
            row = rows.get(number)
            if outcome.changed != (row is not None):
                self._fail(
                    offset, "I3", f"{self._name(offset)} is {outcome.value} by the definition of a session, but not in columns"
                )
            elif row is not None and (int(session.input_hash, 16), session.position) != (step.chain[row], step.position[row]):
                self._fail(offset, "I3", f"{self._name(offset)} gives another session by its definition than in columns")

    def _check_revision(self, revision: Revision) -> None:
        """A score that a late event calls for: whether it is there, and as it should be."""
        offset, number = revision.offset, revision.number
        name = self.said.revised.name((offset, number))
        claim = self.said.revised.expected(revision)
        if claim is None:
            told = f"{self._name(revision.cause)} is late, score {name} is missing"
            self._missing(revision.cause, told, "revised scores not there yet")
            return
        self.report.checks["I2"].checked += 1
        self.report.checks["I3"].checked += 1
        who = self.said.who(offset) if self._has_score(offset) else claim.who  # without a first score that one is the finding
        if wrong := difference(claim, revision, who):
            self._fail(revision.cause, "I3", f"score {name}: {wrong}")
        self.sample.offer(offset, self.said.maker_names[claim.maker], lambda: encode_rows([revision.window]), number)

    def _missing(self, offset: int, told: str, counted: str = "clicks not finished yet") -> None:
        if self._unfinished is None or offset < self._unfinished:
            self._unfinished = offset
        if self._scope.committed is not None and offset < self._scope.committed:
            self._fail(offset, "I1", told)
        else:
            self.report.counts[counted] += 1

    def _check_gaps(self, records: Sequence[ConsumerRecord]) -> None:
        """Between records there may be transaction markers; nothing can be written about them."""
        after = records[-1].offset + 1
        if after - self._next == len(records):
            self._next = after
            return
        for record in records:
            self._check_gap(record.offset)
            self._next = record.offset + 1

    def _check_gap(self, offset: int) -> None:
        for gone in range(self._next, offset):
            if self._has_score(gone) or gone in self._dead:
                self.report.checks["I1"].fail(f"{self._name(gone)} has a result but is no click")

    def _fail(self, offset: int, check: str, offender: str) -> None:
        """Note an offender among the clicks under replay: the first in the log is to be named."""
        self._found.append((offset, check, offender))

    def _check_committed(self) -> None:
        if self._scope.committed is None:
            self.report.notes.append(f"nothing is committed for {self._scope}: no click has to have a result there")
            return
        tally = self.report.checks["I5"]
        tally.checked += 1
        if self._unfinished is not None and self._unfinished < self._scope.committed:
            tally.fail(f"{self._scope} is committed up to {self._scope.committed}, but {self._unfinished} is unfinished")

    def _has_score(self, offset: int) -> bool:
        return bool(self.said.known[offset - self._scope.start])

    def _name(self, offset: int) -> str:
        return f"{self._scope}:{offset}"


class _Window:
    """A row of a batch's inputs, taken out when it is asked for."""

    def __init__(self, inputs: ModelInputs, row: int) -> None:
        self._inputs = inputs
        self._row = row

    def __call__(self) -> ModelInputs:
        steps = int(self._inputs.length[self._row, 0])
        row = slice(self._row, self._row + 1)
        return ModelInputs(
            self._inputs.codes[row, :steps].copy(), self._inputs.numbers[row, :steps].copy(), self._inputs.length[row].copy()
        )
