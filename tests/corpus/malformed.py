"""Values that are no JSON, or too much of it."""

import json
from collections.abc import Iterator

from tests.corpus.record import BadClass, Record
from worker.contract.codec import MAX_RECORD_BYTES
from worker.contract.events import Reason


def malformed(record: Record) -> Iterator[BadClass]:
    """Syntax, encodings and bombs."""
    yield from _syntax(record)
    yield from _encodings(record)
    yield from _bombs(record)


def _syntax(record: Record) -> Iterator[BadClass]:
    sound = record.with_()
    yield "tombstone", Reason.TOMBSTONE, {"null": None}
    yield "empty", Reason.EMPTY, {"no bytes": b"", "blank": b" ", "line ends": b"\r\n\n", "tabs": b"\t\t", "form feed": b"\x0c"}
    yield "truncated", Reason.NOT_JSON, _truncated(record, sound)
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
            "drawn": sound + record.dice.choice((b"]", b",", b"\0\0", b"null", b'"', b"0", b"{}", b"[]")),
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


def _encodings(record: Record) -> Iterator[BadClass]:
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
            "little": record.without().decode().encode("utf-16-le"),
            "big": record.without().decode().encode("utf-16-be"),
        },
    )
    yield "Latin-1", Reason.BAD_ENCODING, {"item": record.literal("item_id", '"café"'.encode("latin-1"))}
    yield (
        "bad UTF-8",
        Reason.BAD_ENCODING,
        {
            "stray byte": record.literal("item_id", b'"\xff"'),
            "cut sequence": record.literal("item_id", b'"\xe2\x82"'),
            "overlong slash": record.literal("item_id", b'"\xc0\xaf"'),
            "past Unicode": record.literal("item_id", b'"\xf4\x90\x80\x80"'),
            "binary": bytes(range(128, 256)),
            "unknown field": record.literal("note", b'"\xff"'),
            "name of an unknown field": record.without()[:-1] + b', "pri\xffce": 1}',
            "drawn byte": record.literal(
                "title", b'"' + bytes([record.dice.choice((*range(0x80, 0xC2), *range(0xF5, 0x100)))]) + b'"'
            ),
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
            "name of a field": record.literal(r"\ud800", b"1"),
            "drawn": record.literal("query", rb'"a\u%x"' % record.dice.randrange(0xD800, 0xE000)),
            "as UTF-8": record.literal("event_id", b'"\xed\xa0\x80"'),
        },
    )


def _truncated(record: Record, sound: bytes) -> dict[str, bytes]:
    """Cut between characters: inside of one, it would be the encoding that is wrong."""
    ends = [at for at in range(1, len(sound)) if sound[at] & 0xC0 != 0x80]
    return {f"{keep} bytes": sound[:keep] for keep in (1, 2, 10, 40, ends[-1])} | {"drawn": sound[: record.dice.choice(ends)]}


def _bombs(record: Record) -> Iterator[BadClass]:
    if not record.large:
        return
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
            "drawn size": record.with_().ljust(MAX_RECORD_BYTES + record.dice.randint(1, 600_000)),
        },
    )
    yield (
        "larger than Kafka's default",
        Reason.TOO_LARGE,
        {
            "10 MB": record.with_(note="x" * 10_000_000),
            "10^6 keys": b"{" + b",".join(b'"%x":0' % n for n in range(1_000_000)) + b"}",
            "10^6-digit numbers": b"[" + b"9" * 1_000_000 + b"," + b"9" * 1_000_000 + b"]",
            "id of 1 MB": record.with_(visitor_id="v" * 1_000_000),
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
