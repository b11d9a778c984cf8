"""What a dead letter looks like on its topic: the record as it came, and in its headers why it is here."""

import hashlib
from collections.abc import Sequence

import msgspec

Headers = Sequence[tuple[str, bytes | None]]

#: Kafka refuses batches over 1 MiB by default. A record above this, with key and headers, is cut.
WHOLE_BYTES = 1_000_000
#: What is kept of a part that is cut.
KEPT_BYTES = 64 * 1024

#: On a record that was put back from the dead letters: the origin of its dead letter.
REPLAYED_FROM = "inkling-replayed-from"

#: Names of a record that says which dead letters are dropped: one such header for each of their origins, and nothing else.
_DROPPED = "inkling-dropped"

#: Our headers come first and in this order, so that headers of the same name in the original cannot pass for ours.
_NAMES: tuple[str, ...] = (
    "inkling-origin",
    "inkling-timestamp",
    "inkling-reason",
    "inkling-detail",
    "inkling-stage",
    "inkling-version",
    "inkling-length",
    "inkling-sha256",
    "inkling-cut",
)


class Origin(msgspec.Struct, frozen=True, order=True):
    """Where a record stood. As text `topic:partition:offset`, which is also the id of its dead letter."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "Origin":
        """The origin that `text` names. Raises ValueError if it names none."""
        topic, partition, offset = text.rsplit(":", 2)
        return cls(topic, int(partition), int(offset))


class DeadLetter(msgspec.Struct, frozen=True):
    """One record that is no event. `length` and `sha256` are those of the original value; a tombstone has length -1.

    `cut` names what was shortened because the whole would not fit: of `key`, `value`, `headers`.
    """

    origin: Origin
    timestamp_ms: int
    reason: str
    detail: str
    stage: str
    worker_version: str
    length: int
    sha256: str
    cut: tuple[str, ...]
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def dead_letter(
    value: bytes | None,
    key: bytes | None,
    headers: Headers,
    *,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    reason: str,
    detail: str,
    stage: str,
    worker_version: str,
) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]:
    """Key, value and headers of the dead letter for one record. The original's own headers follow ours."""
    body = value or b""
    # A record that fits is kept whole; else each part that is long by itself is cut.
    whole = len(body) + len(key or b"") + _size(headers) <= WHOLE_BYTES
    kept_value, kept_key, kept_headers = (value, key, headers) if whole else (_head(value), _head(key), _first(headers))
    cut = [
        name
        for name, before, after in (("key", key, kept_key), ("value", value, kept_value), ("headers", headers, kept_headers))
        if len(before or b"") != len(after or b"")
    ]
    ours = (
        str(Origin(topic, partition, offset)),
        str(timestamp_ms),
        reason,
        detail,
        stage,
        worker_version,
        str(-1 if value is None else len(value)),
        hashlib.sha256(body).hexdigest(),
        ",".join(cut),
    )
    stamped: list[tuple[str, bytes | None]] = [
        (name, text.encode("utf-8", "backslashreplace")) for name, text in zip(_NAMES, ours, strict=True)
    ]
    return kept_key, kept_value, [*stamped, *kept_headers]


def parse_dead(value: bytes | None, key: bytes | None, headers: Headers) -> DeadLetter | None:
    """The dead letter in a record of the dead-letter topic, or None if the record is none."""
    ours = headers[: len(_NAMES)]
    if tuple(name for name, _ in ours) != _NAMES:
        return None
    origin, timestamp, reason, detail, stage, version, length, sha256, cut = (
        (text or b"").decode("utf-8", "replace") for _, text in ours
    )
    try:
        return DeadLetter(
            origin=Origin.parse(origin),
            timestamp_ms=int(timestamp),
            reason=reason,
            detail=detail,
            stage=stage,
            worker_version=version,
            length=int(length),
            sha256=sha256,
            cut=tuple(cut.split(",")) if cut else (),
            key=key,
            value=value,
            headers=tuple(headers[len(_NAMES) :]),
        )
    except ValueError:
        return None


def drop_record(origins: Sequence[Origin]) -> tuple[None, bytes, list[tuple[str, bytes | None]]]:
    """Key, value and headers of a record that drops the dead letters of these origins."""
    return None, b"", [(_DROPPED, str(origin).encode()) for origin in origins]


def parse_dropped(headers: Headers) -> list[Origin]:
    """The origins that a record of the dead-letter topic drops; none if it is no such record."""
    if not headers or any(name != _DROPPED for name, _ in headers):
        return []
    try:
        return [Origin.parse((text or b"").decode()) for _, text in headers]
    except ValueError:
        return []


def _size(headers: Headers) -> int:
    # Names may take up to four bytes a character.
    return sum(4 * len(name) + len(value or b"") for name, value in headers)


def _head(data: bytes | None) -> bytes | None:
    return None if data is None else data[:KEPT_BYTES]


def _first(headers: Headers) -> Headers:
    """The leading headers that fit into the kept size together."""
    kept: list[tuple[str, bytes | None]] = []
    room = KEPT_BYTES
    for header in headers:
        room -= _size([header])
        if room < 0:
            break
        kept.append(header)
    return kept
