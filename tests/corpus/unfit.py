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
        "time as text",
        Reason.WRONG_TYPE,
        {
            text: record.with_(event_time=text)
            for text in ("2026-11-24T12:00:00Z", "Tue, 24 Nov 2026", "now", "", f"{record.now_ms} ms", "NaN", "0x18f")
        },
    )
    yield (
        "text as amount",
        Reason.WRONG_TYPE,
        {text: record.with_(price=text) for text in ("free", "9,50", "$5", "", "NaN", "Infinity", "1e400")}
        | {"quantity": record.with_(quantity="two")},
    )
    yield (
        "repeated field, one unsound",
        Reason.WRONG_TYPE,
        {
            "first": b'{"event_time": "soon", ' + record.with_()[1:],
            "last": record.with_()[:-1] + b', "visitor_id": 7}',
            "item in between": b'{"item_id": [], "item_id": "a", ' + record.with_()[1:],
            "null first": b'{"event_id": null, ' + record.with_()[1:],
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
            "drawn": record.with_(event_type="".join(record.dice.choices("abcdefghij", k=record.dice.randint(6, 30)))),
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
            "drawn": record.with_(price=-(10 ** record.dice.uniform(-300, 300))),
        },
    )
    yield (
        "amount too large",
        Reason.BAD_NUMBER,
        {
            "just": record.with_(price=1_000_000_000_001),
            "double": record.with_(price=1e308),
            "drawn": record.with_(price=10 ** record.dice.uniform(12.1, 300)),
            "2^63": record.with_(quantity=2**63),
        },
    )
    yield (
        "time past 64 bits",
        Reason.BAD_NUMBER,
        {
            "2^63": record.with_(event_time=2**63),
            "2^64": record.with_(event_time=2**64),
            "drawn": record.with_(event_time=record.dice.randrange(2**63, 2**80)),
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
        {
            f"{name} {length}": record.with_(**{name: "x" * length})
            for name in required
            for length in (257, record.dice.randint(258, 5_000), *([200_000] if record.large else []))
        }
        | {"escapes": record.literal("event_id", b'"' + rb"\u0061" * 257 + b'"')},
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
        | {"escapes": record.literal("title", b'"' + rb"\u00e9" * 2_049 + b'"')}
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
            "minus zero": record.literal("event_time", "-0"),
            "drawn early": record.with_(event_time=record.dice.randrange(946_684_800_000)),
            "drawn late": record.with_(event_time=record.dice.randrange(4_102_444_800_000, 2**63)),
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
            "drawn": record.with_(event_time=now_ms + MAX_FUTURE_MS + record.dice.randrange(60_000, 10**12)),
        },
    )
