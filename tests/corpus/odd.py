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
