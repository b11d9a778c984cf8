"""Copies of clicks for their users' sequences, against what a replay says that there must be.

A copy mostly lies in another partition than its click, so each partition tells what it has of both, and they are compared at the
end.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from aiokafka import ConsumerRecord

from worker.audit.report import Report
from worker.contract.clicks import Clicks, Read
from worker.contract.features import hash64
from worker.contract.step import Step
from worker.contract.users import USER_KEY
from worker.dead import Origin
from worker.follow import COPY_OF, followed

#: A click that is copied, by its partition, offset and `_identity`; and where the copy is, if it is about one.
_CLICK = np.dtype([("partition", "<i8"), ("offset", "<i8"), ("identity", "<u8")])
_COPY = np.dtype([("of", _CLICK), ("partition", "<i8"), ("offset", "<i8")])

Clicked = tuple[int, int, int]


class Copies(msgspec.Struct):
    """What one partition tells: clicks of it that are to be copied, and copies that lie in it, each 24 and 40 bytes."""

    partition: int
    start: int  # the clicks that were replayed: from here to before `end`
    end: int
    committed: int | None
    due: bytes = b""  # of dtype _CLICK
    there: bytes = b""  # of dtype _COPY


class CopyAudit:
    """Collects `Copies` of one partition, batch by batch."""

    def __init__(self, topic: str, partition: int) -> None:
        self._topic = topic
        self._partition = partition
        self._due: list[npt.NDArray[np.void]] = []
        self._there: list[npt.NDArray[np.void]] = []

    def add_due(self, clicks: Clicks, offsets: npt.NDArray[np.int64], members: npt.NDArray[np.bool_], step: Step) -> None:
        """Clicks as they were folded; `members` is `follow.of_users` of them."""
        due: list[Clicked] = []
        for one in followed(clicks, offsets, members, step):
            for earlier in one.earlier:
                identity = _identity(one.user, int(earlier["event_time"]), int(earlier["event_hash"]))
                due.append((self._partition, int(earlier["offset"]), identity))
            due.append((self._partition, one.offset, _identity(one.user, one.click.event_time, one.event_hash)))
        self._due.append(np.array(due, _CLICK))

    def add_there(self, records: Sequence[ConsumerRecord], taken: Read) -> None:
        """Records, and what they were read as."""
        there: list[tuple[Clicked, int, int]] = []
        for row, at in enumerate(taken.at.tolist()):
            key = taken.clicks.keys[row]
            if not key.startswith(USER_KEY) or (origin := _origin(records[at])) is None or origin.topic != self._topic:
                continue
            identity = _identity(key.decode(), int(taken.clicks.time_ms[row]), int(taken.clicks.event_hash[row]))
            there.append(((origin.partition, origin.offset, identity), self._partition, records[at].offset))
        self._there.append(np.array(there, _COPY))

    def told(self, start: int, end: int, committed: int | None) -> Copies:
        """All of it."""
        due, there = (b"".join(part.tobytes() for part in parts) for parts in (self._due, self._there))
        return Copies(self._partition, start, end, committed, due, there)


def compare(topic: str, parts: Sequence[Copies], report: Report) -> None:
    """Check that every click that is to be copied has been, and that every copy is that of such a click."""
    whole = {part.partition: part for part in parts if part.start == 0}
    due = np.concatenate([np.frombuffer(part.due, _CLICK) for part in whole.values()] or [np.empty(0, _CLICK)])
    there = np.concatenate([np.frombuffer(part.there, _COPY) for part in parts] or [np.empty(0, _COPY)])
    # Of clicks whose sessions were replayed; one that came while the audit read is not among them yet.
    known = [copy["of"]["partition"] in whole and copy["of"]["offset"] < whole[copy["of"]["partition"]].end for copy in there]
    there = there[np.array(known, bool)]
    report.counts["copies for users"] += len(there)
    report.checks["I1"].checked += len(due)
    for click in due[~np.isin(due, there["of"])]:
        committed = whole[int(click["partition"])].committed
        if committed is None or click["offset"] >= committed:
            report.counts["copies not there yet"] += 1
        else:
            name = f"{topic}:{click['partition']}:{click['offset']}"
            report.checks["I1"].fail(f"{name} is of a user, but is not copied to the user's sequence")
    for copy in there[~np.isin(there["of"], due)]:
        name, of = f"{topic}:{copy['partition']}:{copy['offset']}", f"{topic}:{copy['of']['partition']}:{copy['of']['offset']}"
        report.checks["I1"].fail(f"{name} says that it is a copy of {of}, which is none to be copied there, or another one")


def _identity(user: str, time_ms: int, event_hash: int) -> int:
    return event_hash ^ hash64("copy", f"{user}|{time_ms}")


def _origin(record: ConsumerRecord) -> Origin | None:
    for name, value in record.headers:
        if name == COPY_OF and value is not None:
            try:
                return Origin.parse(value.decode())
            except ValueError:  # UnicodeDecodeError is one
                return None
    return None
