"""Copies of clicks for the sequences of users (`contract.users`): which there are to be, and how they are written.

They go back to the clicks topic, where they are clicks like any other: scored, labelled and learned from. As with scores, whoever
goes on after a crash writes the same ones again, and the fold leaves out what it has.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from worker import metrics
from worker.contract.clicks import Clicks
from worker.contract.codec import encode
from worker.contract.events import ClickEvent
from worker.contract.features import ROW
from worker.contract.packed import key_of
from worker.contract.step import Step
from worker.contract.users import MEMBER, USER_KEY, Rows, copy_for, user_of
from worker.send import Record

#: Names the click that a record is a copy of.
COPY_OF = "inkling-copy-of"
_NOTHING: Rows = np.empty(0, ROW)


class Followed(NamedTuple):
    """A click of a user, and the rows (`features.ROW`) of those before it in its partition that become the user's with it."""

    user: str  # as a visitor id
    click: ClickEvent
    offset: int
    event_hash: int
    earlier: Rows


def of_users(clicks: Clicks) -> npt.NDArray[np.bool_]:
    """Which events may be of a user whose sequence is another one than theirs: [B]."""
    members = clicks.codes[:, MEMBER] > 0
    for row in np.flatnonzero(members).tolist():
        members[row] = not clicks.keys[row].startswith(USER_KEY)
    return members


def followed(clicks: Clicks, offsets: npt.NDArray[np.int64], members: npt.NDArray[np.bool_], step: Step) -> list[Followed]:
    """Those of the events that changed their session and are to be copied; `members` is `of_users`."""
    found = []
    for row in step.at[members[step.at]].tolist():
        click = clicks.event(row)
        if (user := user_of(click)) is not None:
            earlier = step.logins.get(row, _NOTHING)
            found.append(Followed(user, click, int(offsets[row]), int(clicks.event_hash[row]), earlier))
    return found


def copies(some: Sequence[Followed], earlier: Mapping[int, ClickEvent], place: str) -> list[Record]:
    """The records to write, in order. `earlier` are clicks by offset: those that have left the topic are counted and left out.
    `place` is topic and partition as a click's name begins.
    """
    records: list[Record] = []
    for one in some:
        there = [(offset, earlier[offset]) for offset in one.earlier["offset"].tolist() if offset in earlier]
        metrics.copies.labels("gone").inc(len(one.earlier) - len(there))
        for offset, click in (*there, (one.offset, one.click)):
            value = encode(copy_for(one.user, click))
            records.append((key_of(one.user), value, [(COPY_OF, f"{place}{offset}".encode())]))
    metrics.copies.labels("written").inc(len(records))
    return records
