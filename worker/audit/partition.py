"""Everything that was written about the clicks of one partition, against a replay of them."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import msgspec
from aiokafka import ConsumerRecord

from worker.audit.outcomes import OutcomeAudit
from worker.audit.recompute import Sample
from worker.audit.report import Report
from worker.audit.said import Said
from worker.contract.codec import decode
from worker.contract.events import ClickEvent, InvalidRecord
from worker.contract.features import FeatureSpec
from worker.contract.fold import Fold
from worker.contract.session import SessionPolicy
from worker.dead import DeadLetter, parse_dead, parse_dropped


class Rules(NamedTuple):
    """By what the clicks are replayed."""

    spec: FeatureSpec
    policy: SessionPolicy
    max_future_ms: int


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
    """First all that was written, in the order of its topics (`add_score`, `add_dead`, `add_outcome`), then the clicks
    (`replay`), then `finish`.
    """

    def __init__(self, scope: Scope, rules: Rules, sample_size: int) -> None:
        self.report = Report()
        self.sample = Sample(sample_size, scope.partition)
        self.said = Said(scope.topic, scope.partition, scope.start, scope.end, self.report)
        self._scope = scope
        self._rules = rules
        self._fold = Fold(rules.spec, rules.policy)
        self._outcomes = OutcomeAudit(str(scope), self.said, rules.policy, self.report)
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

    def add_score(self, record: ConsumerRecord) -> None:
        """Take a record of the score topic's partition."""
        self.said.add(record)

    def add_dead(self, record: ConsumerRecord) -> None:
        """Take a record of the dead-letter topic that is about this partition."""
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

    def add_outcome(self, record: ConsumerRecord) -> None:
        """Take a record of the outcome topic's partition."""
        if self._whole:
            self._outcomes.add(record)

    def replay(self, records: Sequence[ConsumerRecord]) -> None:
        """Replay clicks, in order, and check what was written about each."""
        for record in records:
            self._check_gap(record.offset)
            self._next = record.offset + 1
            event = decode(record.value, record.key, record.timestamp, self._rules.max_future_ms)
            if isinstance(event, InvalidRecord):
                self._check_invalid(record, event)
                self._outcomes.add_click(None, record.offset)
            else:
                self._check_event(event, record.offset)
                self._outcomes.add_click(event, record.offset)
        self._outcomes.compare()

    def finish(self) -> Report:
        """The checks that need the whole partition."""
        self._check_gap(self._scope.end)
        self.said.check_positions(self._whole)
        self._check_committed()
        self._outcomes.finish()
        return self.report

    @cached_property
    def _due(self) -> int:
        """Clicks below this must have a result."""
        if self._scope.committed is not None:
            return self._scope.committed
        return max(self.said.highest, max(self._dead, default=-1)) + 1

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
        offset, tally = record.offset, self.report.checks["I1"]
        self.report.counts["clicks"] += 1
        tally.checked += 1
        if self._copies(offset):
            tally.fail(f"{self._name(offset)} is no event ({invalid.reason}) but has a score")
        buried = self._dead.get(offset)
        if buried is None:
            self._missing(offset, f"a dead letter ({invalid.reason})")
        elif buried.reason != invalid.reason.value:
            tally.fail(f"dead letter {self._name(offset)} says {buried.reason}, should say {invalid.reason}")
        elif buried.sha256 != hashlib.sha256(record.value or b"").hexdigest():
            tally.fail(f"dead letter {self._name(offset)} holds other bytes than the record")

    def _check_event(self, event: ClickEvent, offset: int) -> None:
        tally = self.report.checks["I1"]
        session, outcome = self._fold.apply(event, offset)
        self.report.counts["clicks"] += 1
        tally.checked += 1
        if offset in self._dead:
            tally.fail(f"{self._name(offset)} is an event but has a dead letter ({self._dead[offset].reason})")
        copies = self._copies(offset)
        self.report.checks["I2"].checked += bool(copies)
        if not self._whole:
            return
        if not outcome.changed:
            self.report.counts["drops"] += 1
            if copies:
                tally.fail(f"{self._name(offset)} is dropped by policy ({outcome.value}) but has a score")
            return
        if not copies:
            self._missing(offset, "a score")
            return
        binding = self.report.checks["I3"]
        binding.checked += 1
        at = offset - self._scope.start
        mismatch = self.said.mismatch(at, event, session)
        if mismatch:
            binding.fail(f"score {self._name(offset)}: {mismatch}")
        self.sample.offer(offset, self.said.maker_names[self.said.makers[at]], session)

    def _missing(self, offset: int, what: str) -> None:
        if self._unfinished is None:
            self._unfinished = offset
        if offset < self._due:
            self.report.checks["I1"].fail(f"{self._name(offset)} has no result, {what} is missing")
        else:
            self.report.counts["clicks not finished yet"] += 1

    def _check_gap(self, offset: int) -> None:
        """Between records there may be transaction markers; nothing can be written about them."""
        for gone in range(self._next, offset):
            if self._copies(gone) or gone in self._dead:
                self.report.checks["I1"].fail(f"{self._name(gone)} has a result but is no click")

    def _check_committed(self) -> None:
        if self._scope.committed is None:
            self.report.notes.append(f"nothing is committed for {self._scope}")
            return
        tally = self.report.checks["I5"]
        tally.checked += 1
        if self._unfinished is not None and self._unfinished < self._scope.committed:
            tally.fail(f"{self._scope} is committed up to {self._scope.committed}, but {self._unfinished} is unfinished")

    def _copies(self, offset: int) -> int:
        return self.said.copies[offset - self._scope.start]

    def _name(self, offset: int) -> str:
        return f"{self._scope}:{offset}"
