"""A user's own sequence, beside those of the visitors that the user was: which clicks it takes over. Pure.

A click of a visitor who is logged in is copied to a visitor id of the user. With the first one since the visitor was anonymous go
those of the session right before it, without a user: what led to the login. The offset of that click is the point at which the
sequences are merged: what comes later and belongs before it stays the visitor's alone.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from worker.contract.codec import is_id
from worker.contract.events import ClickEvent
from worker.contract.features import CODES, ROW

Rows = npt.NDArray[np.void]

#: With what the visitor id of a user begins. A shop may send clicks under such an id itself: they are the user's already.
USER = "user:"
USER_KEY = USER.encode()
MEMBER = CODES.index("member")


def user_of(event: ClickEvent) -> str | None:
    """The visitor id of the user whose click it is; None for nobody's, or if it is under that id already.

    A `user_id` that would make no visitor id (`codec.is_id`) is nobody's.
    """
    if not event.user_id or event.visitor_id.startswith(USER):
        return None
    user = USER + event.user_id
    return user if is_id(user) else None


def copy_for(user: str, event: ClickEvent) -> ClickEvent:
    """The click as one of the user's."""
    return msgspec.structs.replace(event, visitor_id=user)


def anonymous_before(rows: bytes, offset: int) -> Rows:
    """The rows (`features.ROW`) without a user right before that of an offset, which is the newest or late.

    None if a late one has left the window at once, or has a user's behind it: that one has taken what lies before both.
    """
    window = np.frombuffer(rows, ROW)
    end = int(np.argmax(window["offset"] == offset))
    members = np.flatnonzero(window["codes"][:, MEMBER])
    if len(members) and members[-1] > end:
        return window[:0]
    before = members[members < end]
    start = int(before[-1]) + 1 if len(before) else 0
    return window[start:end]
