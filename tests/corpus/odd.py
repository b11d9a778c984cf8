"""Values that look wrong and are sound events."""

from tests.corpus.record import MAX_FUTURE_MS, Record
from worker.contract.codec import MAX_RECORD_BYTES


def odd_values(record: Record) -> dict[str, dict[str, bytes]]:
    """Values by class and name."""
    hostile = {
        "SQL": "'; DROP TABLE sessions; --",
        "HTML": "<script>alert(1)</script>",
        "path": "../../etc/passwd",
        "PromQL": '"} or vector(1) #',
        "log": "a ERROR b",
        "format": "%s%n{0.__class__}${jndi:ldap://x}",
        "null": "null",
        "template": "{{7*7}}",
        "formula": "=cmd|' /C calc'!A0",
        "shell": "$(reboot); `id` | cat",
        "LDAP": "*)(uid=*))(|(uid=*",
        "NoSQL": '{"$gt": ""}',
        "regular expression": "(a+)+$",
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
        "drawn": "".join(chr(record.dice.choice((record.dice.randrange(0x20, 0x7F), record.dice.randrange(0xA1, 0x2000),
                                                 record.dice.randrange(0x1F300, 0x1F600)))) for _ in range(20)) + "x",
    }  # fmt: skip
    words = (
        "null",
        "None",
        "undefined",
        "NaN",
        "true",
        "0",
        "-1",
        "1e3",
        "[object Object]",
        "__proto__",
        "CON",
        "..",
        "~",
        "%00",
    )
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
            "many": record.with_(**{f"field{n}": n for n in range(5_000 if record.large else 50)}),
            "nested": record.literal("note", "[" * 50 + "]" * 50),
            "past doubles": record.literal("note", "1e400"),
            "our names inside": record.with_(note={"event_id": 1, "event_time": [], "visitor_id": {"price": None}}),
            **(
                {"10^5 digits": record.literal("note", "9" * 100_000), "200 KB": record.with_(note="x" * 200_000)}
                if record.large
                else {}
            ),
        },
        "names of unknown fields": {
            name or "empty": record.with_(**{name: record.dice.choice((1, None, "x", [], {}))})
            for name in (
                "",
                "__proto__",
                "constructor",
                "$where",
                "a b",
                "event_id ",
                "EVENT_ID",
                "../..",
                "é",
                "\n\x00\x1b",
                "x" * 2_000,
            )
        },
        "words of languages": {word: record.with_(visitor_id=word, item_id=word) for word in words},
        "log injection": {
            "line ends": record.with_(item_id="a\nERROR forged\r\nb", query="\n\n"),
            "terminal": record.with_(title="\x1b[2J\x1b]0;pwned\x07", brand="\x9b31m"),
            "separators": record.with_(referrer="a\u2028b\u2029c\x85d"),
        },
        "longest ids": {
            "ASCII": record.with_(event_id="e" * 250 + str(record.dice.randrange(10**6)).zfill(6), visitor_id="v" * 256),
            "four bytes each": record.with_(visitor_id="😀" * 256),
            "escapes": record.literal("visitor_id", b'"' + rb"\u0062" * 256 + b'"'),
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
            "exponent": record.literal("price", record.dice.choice(("1E3", "1e+3", "0.1e-7", "0e0", "0E-400"))),
            "drawn": record.with_(price=record.dice.uniform(0, 1e12), quantity=record.dice.randrange(10**12)),
        },
        "repeated field": {
            "same": record.with_()[:-1] + b', "event_type": "view"}',
            "last counts": b'{"event_type": "cart", ' + record.with_()[1:],
            "a hundred times": b"{" + b'"item_id": "a", ' * 100 + record.with_()[1:],
        },
        "white space": {"around": b"\n " + record.with_() + b" \r\n", "inside": record.with_().replace(b",", b" ,\n\t")},
        "times": {
            "just not ahead": record.with_(event_time=record.now_ms + MAX_FUTURE_MS - 60_000),
            "year 2000": record.with_(event_time=946_684_800_000),
            "leap day": record.with_(event_time=1_582_934_400_000),
            "leap second": record.with_(event_time=1_483_228_799_999),
            "drawn": record.with_(event_time=record.dice.randrange(946_684_800_000, record.now_ms)),
        },
        **({"largest record": {"256 KB": record.with_().ljust(MAX_RECORD_BYTES)}} if record.large else {}),
    }
