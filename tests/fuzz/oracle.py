"""What makes a record an event, said once more with the standard library's JSON, slowly and without the contract's decoder."""

import json
import re
from typing import Any

from worker.contract.events import EVENT_TYPES, ClickEvent, InvalidRecord

_LARGEST = 256 * 1024
_FIRST_MS, _END_MS = 946_684_800_000, 4_102_444_800_000
_IDS = ("event_id", "visitor_id")
_AMOUNTS = ("price", "quantity")
_REQUIRED = (*_IDS, "event_time", "event_type")
_TEXTS = tuple(name for name in ClickEvent.__struct_fields__ if name not in (*_REQUIRED, *_AMOUNTS))
_BAD_IN_IDS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class _No(Exception):  # not an error: the answer
    """It is no event."""


def expected(value: bytes | None, key: bytes | None, timestamp_ms: int, max_future_ms: int) -> dict[str, Any] | None:
    """The fields of the event that the record is, absent ones left out; None if it is none. Raises RecursionError."""
    if value is None or key is None or len(value) > _LARGEST:
        return None
    try:
        text = value.decode("utf-8")
        pairs = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_refuse, parse_int=_Int, parse_float=_Float)
        if not isinstance(pairs, _Pairs):
            raise _No
        event = _fields(pairs)
    except (UnicodeDecodeError, ValueError, _No):
        return None
    if not _FIRST_MS <= event["event_time"] < _END_MS or event["event_time"] > timestamp_ms + max_future_ms:
        return None
    for name in _IDS:
        if _BAD_IN_IDS.search(event[name]) or not event[name].strip():
            return None
    return event if event["visitor_id"].encode() == key else None


def disagreement(
    value: bytes | None, key: bytes | None, timestamp_ms: int, max_future_ms: int, decoded: ClickEvent | InvalidRecord
) -> str | None:
    """What the decoder has got wrong, None if nothing."""
    try:
        should = expected(value, key, timestamp_ms, max_future_ms)
    except RecursionError:
        # How deep is too deep differs; what is accepted must not break anybody who reads it, and its fields are not nested.
        return None
    if isinstance(decoded, InvalidRecord):
        return None if should is None else f"is an event and was refused: {decoded.reason} ({decoded.detail})"
    if should is None:
        return "is no event and was accepted"
    fields = {name: getattr(decoded, name) for name in ClickEvent.__struct_fields__ if getattr(decoded, name) is not None}
    return None if fields == should else f"was read as {fields}, should be {should}"


class _Pairs(list[tuple[str, Any]]):
    """An object's members, repeated ones included."""


class _Int(str):
    """An integer as it was written."""


class _Float(str):
    """A number with a fraction or an exponent as it was written."""


def _refuse(constant: str) -> None:
    raise _No(constant)


def _fields(pairs: _Pairs) -> dict[str, Any]:
    event: dict[str, Any] = {}
    for name, value in pairs:
        _check_text(name)
        sound = _sound(name, value)
        if sound is not None:
            event[name] = sound
        else:
            event.pop(name, None)
    if any(name not in event for name in _REQUIRED):
        raise _No("missing")
    return event


def _sound(name: str, value: Any) -> Any:
    """The value of a field as the contract reads it; None if it is absent or unknown."""
    if name == "event_time":
        return _integer(value)
    if name in _IDS:
        return _text(value, 1, 256)
    if name == "event_type":
        return _text(value, 1, 30) if value in EVENT_TYPES else _refuse("type")
    if name in _AMOUNTS:
        return None if value is None else _amount(value)
    if name in _TEXTS:
        return None if value is None else _text(value, 0, 2048)
    _check_texts(value)
    return None


def _integer(value: Any) -> int:
    if type(value) is not _Int or len(value) > 20:
        raise _No
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise _No
    return number


def _text(value: Any, shortest: int, longest: int) -> str:
    if type(value) is not str or not shortest <= len(value) <= longest:
        raise _No
    _check_text(value)
    return value


def _amount(value: Any) -> float:
    if type(value) not in (_Int, _Float):
        raise _No
    number = float(value)
    if not 0 <= number <= 1e12:
        raise _No
    return number


def _check_texts(value: Any) -> None:
    """Of unknown fields only that they are text which can be written again is asked."""
    if isinstance(value, _Pairs):
        for name, inner in value:
            _check_text(name)
            _check_texts(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_texts(inner)
    elif type(value) is str:
        _check_text(value)


def _check_text(text: str) -> None:
    text.encode("utf-8")  # UnicodeEncodeError is a ValueError: a lone surrogate
