"""A session as bytes: the head's fields that outlive a process, then its rows. What the changelog keeps."""

import struct

from worker.contract.kernel import HEAD, NO_VISIT
from worker.contract.session import Session

#: The fields of `kernel.HEAD` that are packed, in its order.
FIELDS: tuple[str, ...] = (
    "session", "started_ms", "last_ms", "position", "previous_end_ms", "counted_ms", "seen_ms", "views", "carts", "purchases",
)  # fmt: skip
_PACKED = struct.Struct("<Q6q3d")
HEAD_BYTES = _PACKED.size
assert HEAD.names is not None
assert HEAD.names[: len(FIELDS)] == FIELDS
assert HEAD[FIELDS[-1]].itemsize + HEAD.fields[FIELDS[-1]][1] == HEAD_BYTES  # type: ignore[index]
_SESSION, _POSITION, _SEEN = (FIELDS.index(name) for name in ("session", "position", "seen_ms"))

Head = tuple[int | float, ...]


def pack(session: Session, seen_ms: int) -> bytes:
    """A session with all its rows; `seen_ms` is the newest event time of its partition when it last changed."""
    return _PACKED.pack(*head_of(session, seen_ms)) + session.rows


def unpack(visitor: str, packed: bytes) -> Session:
    """The session of a visitor from its packed form."""
    return session_of(visitor, _PACKED.unpack_from(packed), packed[HEAD_BYTES:])


def seen_ms_of(packed: bytes) -> int:
    """The newest event time of the partition when the packed session last changed."""
    seen_ms: int = _PACKED.unpack_from(packed)[_SEEN]
    return seen_ms


def session_and_position(packed: bytes) -> tuple[int, int]:
    """The packed session's id, as a number, and how many events it had."""
    head = _PACKED.unpack_from(packed)
    return head[_SESSION], head[_POSITION]


def head_of(session: Session, seen_ms: int) -> Head:
    """The values of `FIELDS`."""
    previous = session.previous_end_ms
    return (
        int(session.session_id or "0", 16), session.started_ms, session.last_ms, session.position,
        NO_VISIT if previous is None else previous, session.counted_ms, seen_ms, *session.counts,
    )  # fmt: skip


def session_of(visitor: str, head: Head, rows: bytes) -> Session:
    """A session from the values of `FIELDS` and its rows."""
    number, started_ms, last_ms, position, previous, counted_ms, _, *counts = head
    return Session(
        visitor_id=visitor,
        session_id=f"{number:016x}",
        started_ms=int(started_ms),
        last_ms=int(last_ms),
        position=int(position),
        rows=rows,
        previous_end_ms=None if previous == NO_VISIT else int(previous),
        counts=(counts[0], counts[1], counts[2]),
        counted_ms=int(counted_ms),
    )


def key_of(visitor: str) -> bytes:
    """The visitor's key in the changelog."""
    # Lone surrogates cannot come from JSON that was decoded, but ids made in code may hold them.
    return visitor.encode("utf-8", "surrogatepass")


def visitor_of(key: bytes) -> str:
    """The visitor of a key."""
    return key.decode("utf-8", "surrogatepass")
