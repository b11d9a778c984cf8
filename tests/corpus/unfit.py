"""JSON that is no event: types, numbers, ids and times."""

from collections.abc import Iterator

from tests.corpus.record import MAX_FUTURE_MS, BadClass, Record
from worker.contract.events import Reason


def unfit(record: Record) -> Iterator[BadClass]:
    """Classes of values whose JSON is sound."""
    yield from _types(record)
    yield from _numbers(record)
    yield from _ids(record)
    yield from _times(record)


def _types(record: Record) -> Iterator[BadClass]:
    yield (
        "no object",
        Reason.WRONG_TYPE,
        {text: text.encode() for text in ("null", "true", "1", "1.5", '"text"', "[]", '[{"event_id": "a"}]')},
    )
    yield (
        "missing field",
        Reason.MISSING_FIELD,
        {
            "all": b"{}",
            "nested": b'{"event": {}}',
            "other case": record.without("event_id")[:-1] + b', "EVENT_ID": "a"}',
            **{name: record.without(name) for name in ("event_id", "event_time", "visitor_id", "event_type")},
        },
    )
    yield (
        "null field",
        Reason.WRONG_TYPE,
        {name: record.with_(**{name: None}) for name in ("event_id", "event_time", "visitor_id", "event_type")},
    )
    yield (
        "digits as text",
        Reason.WRONG_TYPE,
        {
            "time": record.with_(event_time=str(record.now_ms)),
            "price": record.with_(price="9.5"),
            "quantity": record.with_(quantity="1"),
        },
    )
    yield (
        "numbers as ids",
        Reason.WRONG_TYPE,
        {
            name: record.with_(**{name: 7})
            for name in ("event_id", "visitor_id", "item_id", "category", "session_id", "event_type")
        },
    )
    yield (
        "bool as number",
        Reason.WRONG_TYPE,
        {name: record.with_(**{name: flag}) for name, flag in (("event_time", True), ("price", True), ("quantity", False))},
    )
    yield (
        "fraction as time",
        Reason.WRONG_TYPE,
        {
            "integral": record.literal("event_time", f"{record.now_ms}.0"),
            "half": record.literal("event_time", f"{record.now_ms}.5"),
            "exponent": record.literal("event_time", "17e11"),
        },
    )
    yield (
        "nested field",
        Reason.WRONG_TYPE,
        {
            "array": record.with_(item_id=["a"]),
            "object": record.with_(visitor_id={"$ne": ""}),
            "time object": record.with_(event_time={"$date": record.now_ms}),
            "price array": record.with_(price=[1]),
        },
    )
    yield (
        "unknown event type",
        Reason.UNKNOWN_EVENT_TYPE,
        {
            "new": record.with_(event_type="refund"),
            "empty": record.with_(event_type=""),
            "other case": record.with_(event_type="View"),
            "blank at the end": record.with_(event_type="view "),
            "long": record.with_(event_type="x" * 10_000),
            "line end": record.with_(event_type="view\nview"),
            "homoglyph": record.with_(event_type="viеw"),  # noqa: RUF001  the e is Cyrillic
        },
    )


def _numbers(record: Record) -> Iterator[BadClass]:
    yield (
        "no JSON number",
        Reason.NOT_JSON,
        {
            text: record.literal("price", text)
            for text in ("NaN", "Infinity", "-Infinity", "nan", "0x1F", "+1", "01", ".5", "5.", "1_000", "1,5", "--1", "1e")
        },
    )
    yield "NaN in an unknown field", Reason.NOT_JSON, {"NaN": record.literal("note", "NaN")}
    yield (
        "past doubles",
        Reason.BAD_NUMBER,
        {
            "price": record.literal("price", "1e400"),
            "negative": record.literal("price", "-1e400"),
            "quantity": record.literal("quantity", "1e999999999"),
            "time": record.literal("event_time", "1e400"),
        },
    )
    yield (
        "negative amount",
        Reason.BAD_NUMBER,
        {
            "price": record.with_(price=-0.01),
            "price int": record.with_(price=-1),
            "quantity": record.with_(quantity=-1),
        },
    )
    yield (
        "amount too large",
        Reason.BAD_NUMBER,
        {
            "just": record.with_(price=1_000_000_000_001),
            "double": record.with_(price=1e308),
            "2^63": record.with_(quantity=2**63),
        },
    )
    yield (
        "time past 64 bits",
        Reason.BAD_NUMBER,
        {
            "2^63": record.with_(event_time=2**63),
            "2^64": record.with_(event_time=2**64),
            "-2^63 - 1": record.with_(event_time=-(2**63) - 1),
        },
    )


def _ids(record: Record) -> Iterator[BadClass]:
    required = ("event_id", "visitor_id")
    yield "empty id", Reason.BAD_ID, {name: record.with_(**{name: ""}) for name in required}
    yield (
        "blank id",
        Reason.BAD_ID,
        {
            f"{name} {kind}": record.with_(**{name: text})
            for name in required
            for kind, text in {"blanks": "   ", "no-break": "\u00a0", "ideographic": "\u3000"}.items()
        },
    )
    yield (
        "id too long",
        Reason.BAD_ID,
        {f"{name} {length}": record.with_(**{name: "x" * length}) for name in required for length in (257, 200_000)},
    )
    yield (
        "control characters in an id",
        Reason.BAD_ID,
        {
            f"{name} U+{ord(character):04X}": record.with_(**{name: f"a{character}b"})
            for name in required
            for character in "\0\n\r\t\x1b\x7f\x85\x9b\u2028\u2029"
        },
    )
    yield (
        "text too long",
        Reason.TOO_LONG,
        {
            name: record.with_(**{name: "x" * 2_049})
            for name in ("session_id", "item_id", "category", "brand", "currency", "query", "title", "user_id", "device")
        }
        | {"referrer 100 KB": record.with_(referrer="https://" + "x" * 100_000), "schema": record.with_(schema="é" * 2_049)},
    )


def _times(record: Record) -> Iterator[BadClass]:
    now_ms = record.now_ms
    yield (
        "time of another unit",
        Reason.TIME_OUT_OF_RANGE,
        {
            "seconds": record.with_(event_time=now_ms // 1_000),
            "microseconds": record.with_(event_time=now_ms * 1_000),
            "nanoseconds": record.with_(event_time=now_ms * 1_000_000),
            "days": record.with_(event_time=now_ms // 86_400_000),
        },
    )
    yield (
        "time out of range",
        Reason.TIME_OUT_OF_RANGE,
        {
            "zero": record.with_(event_time=0),
            "negative": record.with_(event_time=-now_ms),
            "before 2000": record.with_(event_time=946_684_799_999),
            "2100": record.with_(event_time=4_102_444_800_000),
            "year 9999": record.with_(event_time=253_402_300_799_999),
            "2^63 - 1": record.with_(event_time=2**63 - 1),
            "-2^63": record.with_(event_time=-(2**63)),
        },
    )
    yield (
        "time ahead",
        Reason.FUTURE_TIME,
        {
            "just": record.with_(event_time=now_ms + MAX_FUTURE_MS + 60_000),
            "a month": record.with_(event_time=now_ms + 30 * 86_400_000),
            "ten years": record.with_(event_time=now_ms + 3_650 * 86_400_000),
        },
    )
