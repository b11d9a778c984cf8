"""Copies for users: the audit passes what a faithful worker copies, and names what is missing, wrong or of nobody."""

import msgspec
import pytest
from aiokafka import ConsumerRecord

from worker.audit.copies import compare
from worker.audit.partition import PartitionAudit, Rules, Scope
from worker.audit.report import Report
from worker.contract.codec import encode
from worker.contract.events import ClickEvent
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy
from worker.contract.users import copy_for
from worker.follow import COPY_OF

_T0 = 1_760_000_000_000
#: In partition 0: anonymous, then logged in, then once more.
_CLICKS = [ClickEvent(f"e{n}", _T0 + 1000 * n, "v", "view", user_id="ann" if n > 1 else None) for n in range(4)]


def record(partition: int, offset: int, event: ClickEvent, origin: str | None = None) -> ConsumerRecord:
    headers = () if origin is None else ((COPY_OF, origin.encode()),)
    key, value = event.visitor_id.encode(), encode(event)
    return ConsumerRecord("clicks", partition, offset, _T0, 0, key, value, None, 0, 0, headers)


def copies_of(*events: ClickEvent) -> list[ConsumerRecord]:
    """In partition 1, as a worker makes them."""
    return [record(1, n, copy_for("user:ann", event), f"clicks:0:{event.event_id[1:]}") for n, event in enumerate(events)]


def audited(copies: list[ConsumerRecord], committed: int | None = 4, start: int = 0, end: int = 4) -> Report:
    """What the audit says of the four clicks, read up to `end`, and of these copies."""
    rules, report, parts = Rules(FeatureSpec(), SessionPolicy(), 86_400_000, follow_users=True), Report(), []
    clicks = [record(0, offset, event) for offset, event in enumerate(_CLICKS)][start:end]
    for scope, records in (Scope("clicks", 0, start, end, committed), clicks), (Scope("clicks", 1, 0, len(copies), None), copies):
        partition = PartitionAudit(scope, rules, 0)
        for one in records:
            partition.replay([one])
        parts.append(partition.copies())
    compare("clicks", parts, report)
    return report


def test_faithful_copies_pass() -> None:
    """Also when a crash left some of them twice."""
    report = audited(copies_of(*_CLICKS, *_CLICKS[2:]))
    assert report.ok
    assert (report.counts["copies for users"], report.checks["I1"].checked) == (6, 4)


@pytest.mark.parametrize("lost", range(4))
def test_a_click_that_was_not_copied_is_named(lost: int) -> None:
    """One of the user's or one that led to the login; below what is committed it is missing, above it is to come."""
    there = copies_of(*_CLICKS[:lost], *_CLICKS[lost + 1 :])
    report = audited(there)
    assert report.checks["I1"].first == f"clicks:0:{lost} is of a user, but is not copied to the user's sequence"
    assert report.checks["I1"].failed == 1
    for committed in (lost, None):
        report = audited(there, committed)
        assert report.ok
        assert report.counts["copies not there yet"] == 1


def test_a_copy_of_nothing_is_named() -> None:
    """One that says another time, another click, or comes from where no click of a user is."""
    good = copies_of(*_CLICKS)
    other = record(1, 4, copy_for("user:ann", msgspec.structs.replace(_CLICKS[3], event_time=_T0)), "clicks:0:3")
    for wrong in (other, record(1, 4, copy_for("user:bob", _CLICKS[3]), "clicks:0:3"), record(1, 4, good_event(3), "clicks:0:2")):
        report = audited([*good, wrong])
        assert report.checks["I1"].failed == 1
        assert (report.checks["I1"].first or "").startswith("clicks:1:4 says that it is a copy of clicks:0:")


def good_event(number: int) -> ClickEvent:
    return copy_for("user:ann", _CLICKS[number])


def test_what_cannot_be_told_is_left_alone() -> None:
    """A user's click that the shop sent itself, a header that names nothing, a click that came later, one that is deleted."""
    extra = [record(1, 4 + n, good_event(3), origin) for n, origin in enumerate((None, "", "clicks:0:x", "others:0:3"))]
    assert audited([*copies_of(*_CLICKS), *extra]).ok
    assert audited(copies_of(*_CLICKS), end=3, committed=3).ok
    assert audited(copies_of(*_CLICKS[2:]), start=2).ok
