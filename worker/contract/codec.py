"""Bytes to events, and back. A record that is no event becomes an `InvalidRecord`, never an exception."""

import re

import msgspec

from worker.contract.events import EVENT_TYPES, MAX_ID, ClickEvent, InvalidRecord, Reason

#: Size is checked before parsing, so that a bomb costs nothing.
MAX_RECORD_BYTES = 256 * 1024
#: 2000-01-01 and 2100-01-01: seconds, microseconds and nanoseconds all fall outside.
MIN_EVENT_TIME_MS = 946_684_800_000
MAX_EVENT_TIME_MS = 4_102_444_800_000

_decoder = msgspec.json.Decoder(ClickEvent)
_encoder = msgspec.json.Encoder()
# Control characters (C0, C1) and line separators would break the logs and terminals of those who read us.
_control = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# A high surrogate with no low one after it: cannot become text.
_lone_surrogate = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")

_EMPTY = InvalidRecord(Reason.EMPTY, "the value is empty")
_NULL_KEY = InvalidRecord(Reason.NULL_KEY, "the record has no key, so its visitor's order is lost")
_EVENT_TYPES = ", ".join(EVENT_TYPES)


def decode(value: bytes | None, key: bytes | None, timestamp_ms: int, max_future_ms: int) -> ClickEvent | InvalidRecord:
    """One Kafka record as an event, or why it is none.

    `timestamp_ms` is the record's Kafka timestamp: an event may lie at most `max_future_ms` after it.
    Of a field that comes twice the last one counts, as in the usual parsers, but each must be sound. Of unknown fields
    only the syntax is looked at.
    """
    if value is None:
        return InvalidRecord(Reason.TOMBSTONE, "the record has no value")
    if len(value) > MAX_RECORD_BYTES:
        return InvalidRecord(Reason.TOO_LARGE, f"{len(value)} bytes, at most {MAX_RECORD_BYTES}")
    if key is None:
        return _NULL_KEY if value.strip() else _EMPTY
    try:
        if not value.isascii():
            value.decode()  # msgspec does not look at the names of unknown fields
        event = _decoder.decode(value)
    except msgspec.ValidationError as error:
        return _invalid_event(str(error))
    except msgspec.DecodeError as error:
        if not value.strip():
            return _EMPTY
        return InvalidRecord(_syntax_reason(value, str(error)), str(error))
    except UnicodeDecodeError as error:
        return InvalidRecord(Reason.BAD_ENCODING, f"no UTF-8: {error.reason}")
    except RecursionError:
        return InvalidRecord(Reason.TOO_DEEP, "nested too deeply")
    event_id, visitor_id, time_ms = event.event_id, event.visitor_id, event.event_time
    names = event_id + visitor_id
    if (
        MIN_EVENT_TIME_MS <= time_ms < MAX_EVENT_TIME_MS
        and time_ms <= timestamp_ms + max_future_ms
        and names.isascii()
        and names.isprintable()
        and event_id[0] != " " != visitor_id[0]
        and visitor_id.encode() == key
    ):
        return event  # what nearly all are: with ids that are neither blank nor hold a control character
    return _checked(event, key, timestamp_ms, max_future_ms)


def is_id(name: str) -> bool:
    """Whether a text may be an event's or a visitor's id."""
    return 0 < len(name) <= MAX_ID and _fault_of(name) is None


def encode(event: msgspec.Struct) -> bytes:
    """Any of the contract's events as JSON."""
    return _encoder.encode(event)


def _checked(event: ClickEvent, key: bytes, timestamp_ms: int, max_future_ms: int) -> ClickEvent | InvalidRecord:
    if not MIN_EVENT_TIME_MS <= event.event_time < MAX_EVENT_TIME_MS:
        return InvalidRecord(Reason.TIME_OUT_OF_RANGE, f"event_time {event.event_time} is no millisecond of 2000 to 2099")
    if event.event_time > timestamp_ms + max_future_ms:
        ahead_s = (event.event_time - timestamp_ms) // 1000
        return InvalidRecord(Reason.FUTURE_TIME, f"event_time is {ahead_s} s after the record's timestamp")
    for name in (event.event_id, event.visitor_id):
        if (fault := _fault_of(name)) is not None:
            return InvalidRecord(Reason.BAD_ID, fault)
    if event.visitor_id.encode() != key:
        return InvalidRecord(Reason.KEY_MISMATCH, "the record's key is not its visitor_id")
    return event


def _fault_of(name: str) -> str | None:
    """Why a text that is as long as an id may be is none."""
    if _control.search(name):
        return "an id holds a control character"
    return None if name.strip() else "an id is blank"


def _invalid_event(message: str) -> InvalidRecord:
    """The reason for JSON that is no event. msgspec has one exception for all of them: only its message tells."""
    if "Invalid enum value" in message:  # the message repeats the value
        return InvalidRecord(Reason.UNKNOWN_EVENT_TYPE, f"event_type is none of {_EVENT_TYPES}")
    if "missing required field" in message:
        reason = Reason.MISSING_FIELD
    elif "length" in message:
        reason = Reason.BAD_ID if "$.event_id" in message or "$.visitor_id" in message else Reason.TOO_LONG
    elif "<=" in message or ">=" in message or "out of range" in message:
        reason = Reason.BAD_NUMBER
    else:
        reason = Reason.WRONG_TYPE
    return InvalidRecord(reason, message)


def _syntax_reason(value: bytes, message: str) -> Reason:
    if "surrogate" in message or _lone_surrogate.search(value):
        return Reason.BAD_ENCODING
    return Reason.NOT_JSON
