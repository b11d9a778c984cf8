"""Hostile and odd records for the clicks topic: what must become a dead letter and why, and what must be scored.

`bad_records` and `odd_records` take the time at which the records are to be produced and differ in nothing else from
run to run. `kind` names the class, `name` the variant.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from worker.contract.codec import MAX_RECORD_BYTES
from worker.contract.events import Reason

#: What `worker.settings` allows by default.
MAX_FUTURE_MS = 86_400_000

_VISITOR = "corpus-visitor"


class BadRecord(NamedTuple):
    """A record that is no event, with the only reason it may be given."""

    kind: str
    name: str
    key: bytes | None
    value: bytes | None
    reason: Reason


class OddRecord(NamedTuple):
    """A record that looks wrong and is sound: it must be decoded, folded and scored."""

    kind: str
    name: str
    key: bytes
    value: bytes


def bad_records(now_ms: int) -> Iterator[BadRecord]:
    """Every bad record, class by class."""
    for kind, reason, variants in _bad_values(now_ms):
        for name, value in variants.items():
            yield BadRecord(kind, name, _VISITOR.encode(), value, reason)
    yield from _bad_keys(now_ms)


def odd_records(now_ms: int) -> Iterator[OddRecord]:
    """Every odd but sound record, class by class. All ids of events differ."""
    sound = _Record(now_ms)
    for kind, variants in _odd_values(sound).items():
        for name, value in variants.items():
            visitor = json.loads(value, parse_int=float)["visitor_id"]  # float takes any number of digits
            yield OddRecord(kind, name, visitor.encode(), value)


class _Record:
    """Writes one sound event as JSON, changed in one place."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self._made = 0

    def fields(self) -> dict[str, Any]:
        self._made += 1
        return {
            "event_id": f"corpus-{self._made}",
            "event_time": self.now_ms,
            "visitor_id": _VISITOR,
            "event_type": "view",
            "item_id": "item-1",
            "price": 9.5,
        }

    def with_(self, **changes: Any) -> bytes:
        """Fields set to values."""
        return json.dumps(self.fields() | changes, ensure_ascii=False).encode()

    def without(self, *names: str) -> bytes:
        return json.dumps({name: value for name, value in self.fields().items() if name not in names}).encode()

    def literal(self, field: str, text: str | bytes) -> bytes:
        """A field's value as written out, which need not be JSON."""
        written = text.encode() if isinstance(text, str) else text
        return self.without(field)[:-1] + f', "{field}": '.encode() + written + b"}"


_BadClass = tuple[str, Reason, Mapping[str, bytes | None]]


def _bad_values(now_ms: int) -> Iterator[_BadClass]:
    record = _Record(now_ms)
    yield from _syntax(record)
    yield from _encodings(record)
    yield from _bombs(record)
    yield from _types(record)
    yield from _numbers(record)
    yield from _ids(record)
    yield from _times(record)


def _syntax(record: _Record) -> Iterator[_BadClass]:
    sound = record.with_()
    yield "tombstone", Reason.TOMBSTONE, {"null": None}
    yield "empty", Reason.EMPTY, {"no bytes": b"", "blank": b" ", "line ends": b"\r\n\n", "tabs": b"\t\t", "form feed": b"\x0c"}
    yield "truncated", Reason.NOT_JSON, {f"{keep} bytes": sound[:keep] for keep in (1, 2, 10, 40, len(sound) - 1)}
    yield (
        "trailing bytes",
        Reason.NOT_JSON,
        {
            "letter": sound + b"x",
            "NUL": sound + b"\0",
            "second event": sound + sound,
            "line of two": sound + b"\n" + sound,
            "comment": sound + b"// seen",
            "brace": sound + b"}",
        },
    )
    yield "leading bytes", Reason.NOT_JSON, {"comma": b"," + sound, "NUL": b"\0" + sound, "wire format": b"\0\0\0\0\1" + sound}
    yield (
        "other formats",
        Reason.NOT_JSON,
        {
            "text": b"hello",
            "XML": b"<event/>",
            "CSV": b"a,b,c",
            "single quotes": sound.replace(b'"', b"'"),
            "trailing comma": sound[:-1] + b",}",
            "bare keys": b"{event_id: 1}",
            "Python": b"{'a': None, 'b': True}",
        },
    )
    yield "NUL bytes", Reason.NOT_JSON, {"one": b"\0", "many": b"\0" * 1000, "in a text": record.literal("item_id", b'"a\0b"')}
    yield (
        "raw control characters",
        Reason.NOT_JSON,
        {
            "line end": record.literal("event_id", b'"a\nb"'),
            "tab in unknown field": record.literal("note", b'"a\tb"'),
            "escape": record.literal("item_id", b'"\x1b[31m"'),
        },
    )
    yield (
        "bad escapes",
        Reason.NOT_JSON,
        {
            "unknown": record.literal("item_id", rb'"\x41"'),
            "short": record.literal("item_id", rb'"\u12"'),
            "no hex": record.literal("item_id", rb'"\u00zz"'),
        },
    )


def _encodings(record: _Record) -> Iterator[_BadClass]:
    sound = record.with_(item_id="é")
    text = sound.decode()
    yield "byte order mark", Reason.NOT_JSON, {"UTF-8": b"\xef\xbb\xbf" + sound}
    yield (
        "UTF-16 with mark",
        Reason.BAD_ENCODING,
        {
            "little": b"\xff\xfe" + text.encode("utf-16-le"),
            "big": b"\xfe\xff" + text.encode("utf-16-be"),
        },
    )
    yield (
        "UTF-16 without mark",
        Reason.NOT_JSON,
        {
            "little": record.with_().decode().encode("utf-16-le"),
            "big": record.with_().decode().encode("utf-16-be"),
        },
    )
    yield "Latin-1", Reason.BAD_ENCODING, {"item": text.encode("latin-1")}
    yield (
        "bad UTF-8",
        Reason.BAD_ENCODING,
        {
            "stray byte": record.literal("item_id", b'"\xff"'),
            "cut sequence": record.literal("item_id", b'"\xe2\x82"'),
            "overlong slash": record.literal("item_id", b'"\xc0\xaf"'),
            "past Unicode": record.literal("item_id", b'"\xf4\x90\x80\x80"'),
            "binary": bytes(range(128, 256)),
        },
    )
    yield (
        "lone surrogates",
        Reason.BAD_ENCODING,
        {
            "high": record.literal("item_id", rb'"\ud800"'),
            "high in front": record.literal("item_id", rb'"\ud800 and more text"'),
            "low": record.literal("event_id", rb'"\udc00"'),
            "swapped": record.literal("event_id", rb'"\udc00\ud800"'),
            "high twice": record.literal("visitor_id", rb'"\ud800\ud800"'),
            "unknown field": record.literal("note", rb'"\ud800"'),
            "as UTF-8": record.literal("event_id", b'"\xed\xa0\x80"'),
        },
    )


def _bombs(record: _Record) -> Iterator[_BadClass]:
    yield (
        "too large",
        Reason.TOO_LARGE,
        {
            "one byte over": record.with_().ljust(MAX_RECORD_BYTES + 1),
            "300 KB": record.with_(note="x" * 300_000),
            "blanks": b" " * 300_000,
            "no JSON": b"\xff" * (MAX_RECORD_BYTES + 1),
            "10^6-digit number": record.literal("event_time", "9" * 1_000_000),
            "many keys": json.dumps({f"key{n}": n for n in range(50_000)}).encode(),
        },
    )
    yield (
        "deep in an unknown field",
        Reason.TOO_DEEP,
        {
            "arrays": record.literal("note", "[" * 100_000 + "]" * 100_000),
            "never closed": record.literal("note", "[" * 100_000),
            "objects": record.literal("note", '{"a":' * 30_000 + "1" + "}" * 30_000),
            "mixed": record.literal("note", '[{"a":' * 20_000 + "1" + "}]" * 20_000),
        },
    )
    yield "deep at the top", Reason.WRONG_TYPE, {"arrays": b"[" * 100_000 + b"]" * 100_000, "never closed": b"[" * 100_000}
    yield (
        "deep in a known field",
        Reason.WRONG_TYPE,
        {
            "item": record.literal("item_id", "[" * 100_000 + "]" * 100_000),
            "price": record.literal("price", '{"a":' * 30_000 + "1" + "}" * 30_000),
        },
    )
    yield (
        "very long numbers",
        Reason.BAD_NUMBER,
        {
            "time, 4,000 digits": record.literal("event_time", "1" * 4_000),
            "time, 5,000 digits": record.literal("event_time", "1" * 5_000),
            "time, 200,000 digits": record.literal("event_time", "-" + "1" * 200_000),
            "price, 200,000 digits": record.literal("price", "1" * 200_000),
            "price, 200,000 decimals": record.literal("price", "-1." + "0" * 200_000),
        },
    )


def _types(record: _Record) -> Iterator[_BadClass]:
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


def _numbers(record: _Record) -> Iterator[_BadClass]:
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


def _ids(record: _Record) -> Iterator[_BadClass]:
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


def _times(record: _Record) -> Iterator[_BadClass]:
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


def _bad_keys(now_ms: int) -> Iterator[BadRecord]:
    record = _Record(now_ms)
    yield BadRecord("no key", "sound event", None, record.with_(), Reason.NULL_KEY)
    yield BadRecord("no key", "no JSON", None, b"{", Reason.NULL_KEY)
    wrong = {
        "empty": b"",
        "other visitor": b"somebody-else",
        "other case": _VISITOR.upper().encode(),
        "as JSON": json.dumps(_VISITOR).encode(),
        "longer": _VISITOR.encode() + b" ",
        "shorter": _VISITOR.encode()[:-1],
        "UTF-16": _VISITOR.encode("utf-16-le"),
        "no UTF-8": b"\xff\xfe",
    }
    for name, key in wrong.items():
        yield BadRecord("key unlike visitor", name, key, record.with_(), Reason.KEY_MISMATCH)
    composed, decomposed = "jos\u00e9", "jose\u0301"
    yield BadRecord("key in other form", "NFC", composed.encode(), record.with_(visitor_id=decomposed), Reason.KEY_MISMATCH)
    yield BadRecord("key in other form", "NFD", decomposed.encode(), record.with_(visitor_id=composed), Reason.KEY_MISMATCH)
    twice = record.with_()[:-1] + b', "visitor_id": "somebody-else"}'
    yield BadRecord("visitor twice", "last counts", _VISITOR.encode(), twice, Reason.KEY_MISMATCH)


def _odd_values(record: _Record) -> dict[str, dict[str, bytes]]:
    hostile = {
        "SQL": "'; DROP TABLE sessions; --",
        "HTML": "<script>alert(1)</script>",
        "path": "../../etc/passwd",
        "PromQL": '"} or vector(1) #',
        "log": "a ERROR b",
        "format": "%s%n{0.__class__}${jndi:ldap://x}",
        "null": "null",
        "template": "{{7*7}}",
    }
    texts = {
        "right to left": "\u202e\u05d0\u05d1\u05d2",
        "Arabic": "زائر",
        "emoji": "👩‍💻",
        "combining": "e" + "\u0301" * 50,
        "zero width": "a\u200bb",
        "256 characters": "ж" * 256,
        "blank at the ends": " a ",
        "noncharacter": "\uffff",
    }
    return {
        "hostile visitor": {name: record.with_(visitor_id=text) for name, text in hostile.items()},
        "hostile item": {name: record.with_(item_id=text, category=text, brand=text) for name, text in hostile.items()},
        "unusual visitor": {name: record.with_(visitor_id=text) for name, text in texts.items()},
        "unusual event id": {name: record.with_(event_id=text) for name, text in texts.items()},
        "normal forms": {"NFC": record.with_(visitor_id="jos\u00e9"), "NFD": record.with_(visitor_id="jose\u0301")},
        "escapes": {
            "pair": record.literal("visitor_id", rb'"\ud83d\ude00"'),
            "ASCII": record.literal("visitor_id", rb'"\u0061"'),
            "NUL in an item": record.with_(item_id="a\0b"),
        },
        "unknown fields": {
            "many": record.with_(**{f"field{n}": n for n in range(5_000)}),
            "nested": record.literal("note", "[" * 50 + "]" * 50),
            "10^5 digits": record.literal("note", "9" * 100_000),
            "past doubles": record.literal("note", "1e400"),
            "200 KB": record.with_(note="x" * 200_000),
        },
        "optional fields": {
            "null": record.with_(item_id=None, price=None, category=None, quantity=None, schema=None),
            "empty texts": record.with_(item_id="", category="", brand="", session_id="", query=""),
            "longest texts": record.with_(item_id="x" * 2_048, title="é" * 2_048),
            "none": record.without("item_id", "price"),
        },
        "amounts": {
            "zero": record.with_(price=0),
            "minus zero": record.literal("price", "-0.0"),
            "smallest": record.literal("price", "5e-324"),
            "below doubles": record.literal("price", "1e-400"),
            "largest": record.with_(price=1e12, quantity=1e12),
            "integer": record.with_(price=10**12),
            "many decimals": record.literal("price", "0." + "3" * 1_000),
        },
        "repeated field": {
            "same": record.with_()[:-1] + b', "event_type": "view"}',
            "last counts": b'{"event_type": "cart", ' + record.with_()[1:],
        },
        "white space": {"around": b"\n " + record.with_() + b" \r\n", "inside": record.with_().replace(b",", b" ,\n\t")},
        "times": {
            "just not ahead": record.with_(event_time=record.now_ms + MAX_FUTURE_MS - 60_000),
            "year 2000": record.with_(event_time=946_684_800_000),
        },
        "largest record": {"256 KB": record.with_().ljust(MAX_RECORD_BYTES)},
    }
