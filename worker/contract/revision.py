"""What a late event makes to be scored anew: the events that stand behind it, and what the model sees of each now. Pure."""

from typing import NamedTuple

import numpy as np

from worker.contract.features import ROW, FeatureSpec
from worker.contract.session import Arrival, Session
from worker.contract.window import ROW_BYTES


class Revision(NamedTuple):
    """An event to be scored anew, as a late one was put before it.

    `number` counts the late events that were put before it so far, so it is 1 and up and rises by one.
    """

    offset: int  # of the event in the partition's log
    number: int
    cause: int  # offset of the late event
    visitor_id: str
    session_id: str
    event_time: int  # ms
    position: int
    input_hash: int
    window: bytes | memoryview  # packed rows, the event's own last


def revisions(before: Session, arrival: Arrival, after: Session, spec: FeatureSpec) -> list[Revision]:
    """The events behind a late one, in order of event time. `before` is the session without it, `after` with it.

    An event is left out when its window has moved on since it came: late events that were put before it may have left, and with
    them its number would be lost, and the beginning of what it was scored from is gone as well.
    """
    packed, place = before.repaired(arrival, spec)
    rows, last = np.frombuffer(packed, ROW), len(packed) // ROW_BYTES - 1
    offsets = rows["offset"]
    came_since = _last_moved(before, spec)
    found = []
    for at in range(place + 1, last + 1):
        offset = int(offsets[at])
        if offset <= came_since:
            continue
        # Whatever stands before a row and arrived after it was late.
        number = int(np.count_nonzero(offsets[:at] > offset))
        # Only the newest event is behind a full window, and sees what is left of it.
        window: bytes | memoryview = memoryview(packed)[: (at + 1) * ROW_BYTES] if at < spec.window else after.rows
        found.append(
            Revision(
                offset=offset,
                number=number,
                cause=arrival.offset,
                visitor_id=before.visitor_id,
                session_id=before.session_id,
                event_time=int(rows["event_time"][at]),
                position=before.position + 1 - (last - at),
                input_hash=int(np.frombuffer(window, ROW)["chain"][-1]),
                window=window,
            )
        )
    return found


def _last_moved(session: Session, spec: FeatureSpec) -> int:
    """Up to which offset events had come when the window last dropped its older half; -1 if it never did.

    It was left with the newer half and the event that did not fit: of what is in it now, these came first.
    """
    offsets = np.frombuffer(session.rows, ROW)["offset"]
    if session.position == len(offsets):
        return -1
    return int(np.sort(offsets)[: spec.window - spec.window // 2 + 1][-1])
