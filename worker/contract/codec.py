"""Bytes to events, and back. A record that is no event becomes an `InvalidRecord`, never an exception."""

import re

import msgspec

from worker.contract.events import ClickEvent, InvalidRecord, Reason

#: Size is checked before parsing, so that a bomb costs nothing.
MAX_RECORD_BYTES = 256 * 1024
#: 2000-01-01 and 2100-01-01: seconds, microseconds and nanoseconds all fall outside.
MIN_EVENT_TIME_MS = 946_684_800_000
MAX_EVENT_TIME_MS = 4_102_444_800_000

_decoder = msgspec.json.Decoder(ClickEvent)
_encoder = msgspec.json.Encoder()
# Control characters would break logs and keys of those who read us.
_control = re.compile(r"[\x00-\x1f\x7f]")

_DETAIL_CHARS = 200


def decode(value: bytes | None, key: bytes | None, timestamp_ms: int, max_future_ms: int) -> ClickEvent | InvalidRecord:
    """One Kafka record as an event, or why it is none.

    `timestamp_ms` is the record's Kafka timestamp: an event may lie at most `max_future_ms` after it.
    """
    if value is None:
        return InvalidRecord(Reason.TOMBSTONE, "the record has no value")
    if not value.strip():
        return InvalidRecord(Reason.EMPTY, "the value is empty")
    if len(value) > MAX_RECORD_BYTES:
        return InvalidRecord(Reason.TOO_LARGE, f"{len(value)} bytes, at most {MAX_RECORD_BYTES}")
    if key is None:
        return InvalidRecord(Reason.NULL_KEY, "the record has no key, so its visitor's order is lost")
    try:
        event = _decoder.decode(value)
    except msgspec.ValidationError as error:
        return InvalidRecord(_validation_reason(str(error)), str(error)[:_DETAIL_CHARS])
    except msgspec.DecodeError as error:
        return InvalidRecord(_decode_reason(value, str(error)), str(error)[:_DETAIL_CHARS])
    except UnicodeError as error:
        return InvalidRecord(Reason.BAD_ENCODING, str(error)[:_DETAIL_CHARS])
    except RecursionError:
        return InvalidRecord(Reason.TOO_DEEP, "nested too deeply")
    return _checked(event, key, timestamp_ms, max_future_ms)


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
        if _control.search(name):
            return InvalidRecord(Reason.BAD_ID, "an id holds a control character")
        if not name.strip():
            return InvalidRecord(Reason.BAD_ID, "an id is blank")
    try:
        visitor = event.visitor_id.encode()
    except UnicodeEncodeError:
        return InvalidRecord(Reason.BAD_ID, "visitor_id is no valid Unicode")
    if visitor != key:
        return InvalidRecord(Reason.KEY_MISMATCH, "the record's key is not its visitor_id")
    return event


def _validation_reason(message: str) -> Reason:
    if "missing required field" in message:
        return Reason.MISSING_FIELD
    if "Invalid enum value" in message:
        return Reason.UNKNOWN_EVENT_TYPE
    if "length" in message:
        return Reason.BAD_ID
    if "`float`" in message and ("<=" in message or ">=" in message):
        return Reason.BAD_NUMBER
    if "out of range" in message:
        return Reason.BAD_NUMBER
    return Reason.WRONG_TYPE


def _decode_reason(value: bytes, message: str) -> Reason:
    try:
        value.decode()
    except UnicodeDecodeError:
        return Reason.BAD_ENCODING
    if "surrogate" in message:
        return Reason.BAD_ENCODING
    if "out of range" in message:
        return Reason.BAD_NUMBER
    return Reason.NOT_JSON
