"""Records read as columns against the definition: `codec.decode` of each, and the columns of what it gives."""

import json
import random
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.logs import START_MS
from worker.contract import clicks as module
from worker.contract.clicks import Clicks, clicks_of, read, texts_of
from worker.contract.codec import decode, encode
from worker.contract.events import ClickEvent, InvalidRecord
from worker.contract.features import FeatureSpec

SPEC = FeatureSpec()
_DAY_MS = 86_400_000

_WHOLE = {
    "event_id": "e-1", "event_time": START_MS, "visitor_id": "v-1", "event_type": "remove_from_cart", "session_id": "s",
    "item_id": "lamp", "category": "light", "brand": "Ikeå", "price": 129.95, "currency": "EUR", "quantity": 2, "query": "",
    "title": "A lamp, 40 W, «bright»", "user_id": None, "device": "phone", "country": "NL", "referrer": "https://a.b/?c=d",
    "schema": "1",
}  # fmt: skip
_LONG = ["x" * 256, "x" * 257, "x" * 2048, "x" * 2049, "é" * 256]
_TEXTS = st.text(max_size=4) | st.sampled_from([*_LONG, " a", "a ", " ", "\x7f"])
_NUMBERS = (
    st.integers(-5, 2 * 10**12)
    | st.floats(allow_nan=False)
    | st.sampled_from([0, 10**12, 10**12 + 1, 2**53 + 1, 2**63, 10**30, START_MS + _DAY_MS, START_MS + _DAY_MS + 1, 0.1, 1e22])
)
_VALUES = _TEXTS | _NUMBERS | st.none() | st.booleans() | st.just([1]) | st.just({"a": "b"})
_REFERRERS = st.lists(st.sampled_from(["https", "a.b", ":", "/", "//", "://", "?", "#", "é", " "]), max_size=7).map("".join)
_FIELDS = st.sampled_from([*_WHOLE, *_WHOLE, "other", "event_id ", "evenü"])
_PIECES = st.sampled_from(
    [b"", b" ", b"\t\r\n", b",", b"}", b"{", b'"', b"\\", b":", b"0", b"9", b".", b"-", b"e", b"E5", b"null", b"true", b"fals",
     b"\x00", b"\x1f", b"\x7f", b"\xc3", b"\xa9", b"\xc3\xa9", b"\xed\xa0\x80", b"\\u00e9", b'"price":1,', b'"price":1.50,',
     b'"other":',
     b"NaN"]
)  # fmt: skip


@st.composite
def _records(draw: st.DrawFn) -> tuple[bytes | None, bytes | None]:
    """A value and a key, most of which are nearly an event."""
    event = dict(_WHOLE)
    for field, value in draw(st.lists(st.tuples(_FIELDS, _VALUES), max_size=3)):
        event[field] = value
    if draw(st.booleans()):
        event["referrer"] = draw(_REFERRERS)
    for field in draw(st.lists(_FIELDS, max_size=2)):
        event.pop(field, None)
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]))
    text = json.dumps(event, ensure_ascii=draw(st.booleans()), separators=separators)
    value = text.encode("utf-8", "surrogatepass")
    for _ in range(draw(st.integers(0, 2))):
        at, gone = draw(st.integers(0, len(value))), draw(st.integers(0, 2))
        value = value[:at] + draw(_PIECES) + value[at + gone :]
    visitor = event.get("visitor_id")
    key = visitor.encode("utf-8", "surrogatepass") if isinstance(visitor, str) else b"v-1"
    return draw(st.sampled_from([value, value, value, value, None, b""])), draw(
        st.sampled_from([key, key, key, key, None, b"v-2"])
    )


def ids(clicks: Clicks) -> list[tuple[str, str]]:
    text, spans = clicks.text.tobytes(), zip(clicks.event_id.tolist(), clicks.visitor_id.tolist(), strict=True)
    event_ids, visitor_ids = zip(*spans, strict=True) if len(clicks.keys) else ((), ())
    told = [[json.loads(b'"' + text[start:end] + b'"') for start, end in column] for column in (event_ids, visitor_ids)]
    return list(zip(*told, strict=True))


def assert_read_as_decoded(values: Sequence[bytes | None], keys: Sequence[bytes | None]) -> None:
    decoded = [decode(value, key, START_MS, _DAY_MS) for value, key in zip(values, keys, strict=True)]
    told = read(texts_of(values), texts_of(keys), np.full(len(values), START_MS), SPEC, _DAY_MS)
    assert told.invalid == [(row, one) for row, one in enumerate(decoded) if isinstance(one, InvalidRecord)]
    assert told.at.tolist() == [row for row, one in enumerate(decoded) if isinstance(one, ClickEvent)]
    events = [one for one in decoded if isinstance(one, ClickEvent)]
    expected = clicks_of(events, SPEC)
    assert told.clicks.keys == expected.keys
    for name in ("time_ms", "codes", "price", "event_hash"):
        np.testing.assert_array_equal(getattr(told.clicks, name), getattr(expected, name), name)
    assert ids(told.clicks) == ids(expected) == [(event.event_id, event.visitor_id) for event in events]
    assert [told.clicks.event(row) for row in range(len(events))] == events


@settings(max_examples=1500)
@given(st.lists(_records(), max_size=4))
def test_reads_what_decode_says(records: list[tuple[bytes | None, bytes | None]]) -> None:
    """Of whatever comes, whole or broken; one broken record in a batch leaves the others alone."""
    assert_read_as_decoded([value for value, _ in records], [key for _, key in records])


@pytest.mark.parametrize(
    "value",
    [
        encode(ClickEvent("e", START_MS, "v-1", "view")),
        encode(ClickEvent("e", START_MS, "v-1", "cart", item_id="é", price=1e11, quantity=0.5)),
        json.dumps(_WHOLE, ensure_ascii=False, indent=2).encode(),
        json.dumps({**_WHOLE, "ours": 1.5, "more": None, "yes": True, "no": False, "text": "é"}, ensure_ascii=False).encode(),
        json.dumps(dict(reversed(_WHOLE.items())), ensure_ascii=False).encode(),
    ],
)
def test_what_nearly_all_records_are_is_read_without_decoding(value: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """As shops write them: compact or with blanks, with fields in any order and of their own, in any script."""
    event = decode(value, b"v-1", START_MS, 0)
    assert isinstance(event, ClickEvent)
    monkeypatch.setattr(module, "decode", lambda *_: pytest.fail("was decoded"))
    told = read(texts_of([value] * 2), texts_of([b"v-1"] * 2), np.full(2, START_MS), SPEC, 0)
    assert not told.invalid
    expected = clicks_of([event] * 2, SPEC)
    np.testing.assert_array_equal(told.clicks.codes, expected.codes)
    np.testing.assert_array_equal(told.clicks.price, expected.price)


@settings(max_examples=500)
@given(st.decimals(0, 10**12, allow_nan=False, places=2) | st.decimals(0, 1000, allow_nan=False, places=11))
def test_prices_are_the_nearest_numbers(price: Decimal) -> None:
    """Digit for digit as any other parser reads them."""
    value = b'{"event_id":"e","event_time":%d,"visitor_id":"v","event_type":"view","price":%s}' % (
        START_MS,
        f"{price:f}".encode(),
    )
    assert_read_as_decoded([value], [b"v"])


def test_more_names_than_are_remembered_have_their_own_buckets() -> None:
    """Names come again at once, later, and when others have taken their place; each field has buckets of its own."""
    draw = random.Random(5)
    names = [f"name-{number}" for number in range(3_000)]
    events = [
        ClickEvent(
            f"e-{n}",
            START_MS,
            "v-1",
            "view",
            item_id=one,
            category=draw.choice([one, *names[:50]]),
            brand=draw.choice(names),
            device=draw.choice(names[:5]),
            country=draw.choice([None, *names]),
            referrer=f"https://{draw.choice(names)}/{n}",
        )
        for n, one in enumerate(draw.choices(names, k=6_000))
    ]
    assert_read_as_decoded([encode(event) for event in events], [b"v-1"] * len(events))
