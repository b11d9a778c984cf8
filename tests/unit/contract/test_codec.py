"""Decoding: every record becomes an event or a dead letter with its one reason, and nothing raises."""

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus import MAX_FUTURE_MS, BadRecord, OddRecord, bad_records, odd_records
from tests.corpus.stories import stories
from tests.corpus.wire import wire_records
from worker.contract.codec import MAX_EVENT_TIME_MS, MIN_EVENT_TIME_MS, decode, encode
from worker.contract.events import EVENT_TYPES, ClickEvent, InvalidRecord, Reason

NOW_MS = 1_700_000_000_000
SOUND = {"event_id": "e", "event_time": NOW_MS, "visitor_id": "v", "event_type": "view"}

BAD = list(bad_records(NOW_MS))
ODD = list(odd_records(NOW_MS))


def record(**changes: Any) -> bytes:
    return json.dumps(SOUND | changes).encode()


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad.kind}: {bad.name}")
def test_bad_record_has_its_one_reason(bad: BadRecord) -> None:
    """Each record of the corpus is refused for the reason it was made for."""
    refused = decode(bad.value, bad.key, NOW_MS, MAX_FUTURE_MS)
    assert isinstance(refused, InvalidRecord)
    assert refused.reason is bad.reason, refused.detail


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: f"{odd.kind}: {odd.name}")
def test_odd_record_is_an_event(odd: OddRecord) -> None:
    """Each odd but sound record of the corpus is an event."""
    assert isinstance(decode(odd.value, odd.key, NOW_MS, MAX_FUTURE_MS), ClickEvent)


@pytest.mark.parametrize("seed", range(10))
def test_drawn_variants_are_told_apart_as_well(seed: int) -> None:
    """Whatever event a variant stands in, and whatever is drawn for it, it gets its one reason, or is an event."""
    dice = random.Random(seed)
    told = [(case, case.reason) for case in bad_records(NOW_MS, dice, large=seed == 0)]
    told += [(case, case.reason) for case in wire_records(NOW_MS, dice)]
    told += [(case, None) for case in odd_records(NOW_MS, dice, large=seed == 0)]
    wrong = [(case, decode(case.value, case.key, NOW_MS, MAX_FUTURE_MS), reason) for case, reason in told]
    assert [(case, made) for case, made, reason in wrong if getattr(made, "reason", None) is not reason] == []


def test_stories_are_events() -> None:
    """What is odd about them is their order."""
    told = [record for story in stories(NOW_MS, random.Random(0)) for record in story.records]
    assert [value for key, value in told if not isinstance(decode(value, key, NOW_MS, MAX_FUTURE_MS), ClickEvent)] == []


def test_corpus_covers_every_reason() -> None:
    """No reason is without a bad record, and there are at least 90 classes, of which 60 are bad."""
    dice = random.Random(0)
    assert {bad.reason for bad in BAD} == set(Reason)
    assert len({bad.kind for bad in BAD}) >= 60
    odd = [case.kind for cases in (odd_records(NOW_MS), stories(NOW_MS, dice), wire_records(NOW_MS, dice)) for case in cases]
    assert len({bad.kind for bad in BAD} | set(odd)) >= 90


def test_details_are_short_lines_without_the_records_content() -> None:
    """A dead letter's detail goes to logs: one short line that repeats no text of the visitor's."""
    secret = "jane@example.org"
    for bad in BAD:
        refused = decode(bad.value, bad.key, NOW_MS, MAX_FUTURE_MS)
        assert isinstance(refused, InvalidRecord)
        assert 0 < len(refused.detail) < 200
        assert refused.detail.isprintable()
    for field in ("event_id", "visitor_id", "event_type", "price", "event_time", "title"):
        for text in (secret, secret + "\n", secret * 200):
            refused = decode(record(**{field: text}), b"v", NOW_MS, MAX_FUTURE_MS)
            assert secret not in getattr(refused, "detail", "")


def test_time_limits_are_exact() -> None:
    """The first and last milliseconds of the range, and the last one that is not too far ahead, are in."""

    def reason(event_time: int, timestamp_ms: int, max_future_ms: int) -> Reason | None:
        decoded = decode(record(event_time=event_time), b"v", timestamp_ms, max_future_ms)
        return decoded.reason if isinstance(decoded, InvalidRecord) else None

    assert reason(MIN_EVENT_TIME_MS, NOW_MS, 0) is None
    assert reason(MIN_EVENT_TIME_MS - 1, NOW_MS, 0) is Reason.TIME_OUT_OF_RANGE
    assert reason(MAX_EVENT_TIME_MS - 1, MAX_EVENT_TIME_MS, 0) is None
    assert reason(MAX_EVENT_TIME_MS, MAX_EVENT_TIME_MS, 0) is Reason.TIME_OUT_OF_RANGE
    assert reason(NOW_MS, NOW_MS, 0) is None
    assert reason(NOW_MS + 5, NOW_MS, 5) is None
    assert reason(NOW_MS + 6, NOW_MS, 5) is Reason.FUTURE_TIME


def test_last_of_repeated_fields_counts() -> None:
    """A field that comes twice is read as the usual JSON parsers read it."""
    decoded = decode(b'{"event_type": "cart", "item_id": "a", ' + record(item_id="b")[1:], b"v", NOW_MS, 0)
    assert isinstance(decoded, ClickEvent)
    assert (decoded.event_type, decoded.item_id) == ("view", "b")


@settings(max_examples=100)
@given(st.binary(max_size=300), st.none() | st.binary(max_size=8), st.integers(-1, 2**63 - 1))
def test_any_bytes_are_decoded_or_refused(value: bytes, key: bytes | None, timestamp_ms: int) -> None:
    """No bytes raise."""
    assert isinstance(decode(value, key, timestamp_ms, 0), ClickEvent | InvalidRecord)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8) | st.just("v"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
_fields = st.sampled_from(ClickEvent.__struct_fields__)


@settings(max_examples=150)
@given(st.dictionaries(_fields | st.text(max_size=5), _json, max_size=4), st.booleans())
def test_any_json_is_decoded_or_refused(changes: dict[str, Any], ascii_only: bool) -> None:
    """No structure raises: whatever a field holds, lone surrogates and NaN included, there is an event or a reason."""
    value = json.dumps(SOUND | changes, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    decoded = decode(value, b"v", NOW_MS, MAX_FUTURE_MS)
    if isinstance(decoded, ClickEvent):
        assert decoded.visitor_id == "v"
        # What is accepted can be written and read again: no text in it is broken.
        assert decode(encode(decoded), b"v", NOW_MS, MAX_FUTURE_MS) == decoded
    else:
        assert isinstance(decoded, InvalidRecord)


@settings(max_examples=150)
@given(st.data())
def test_damaged_event_is_decoded_or_refused(data: st.DataObject) -> None:
    """Bytes of a sound record changed, cut or put in never raise."""
    value = bytearray(record(item_id="\ud83d\ude00é", price=1.5, note=[{"a": [None, "b"]}]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(value) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                value[at] = data.draw(st.integers(0, 255))
            case "cut":
                del value[at : at + data.draw(st.integers(1, 20))]
            case _:
                value[at:at] = data.draw(st.sampled_from([b"\\ud800", b"[", b"{", b'"', b"\xff", b"1e999", b"null", b"\0"]))
        if not value:
            break
    assert isinstance(decode(bytes(value), b"v", NOW_MS, MAX_FUTURE_MS), ClickEvent | InvalidRecord)


_text = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_id = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=30).filter(lambda id_: id_.strip())


@settings(max_examples=100)
@given(
    st.builds(
        ClickEvent,
        event_id=_id,
        event_time=st.integers(MIN_EVENT_TIME_MS, MAX_EVENT_TIME_MS - 1),
        visitor_id=_id,
        event_type=st.sampled_from(EVENT_TYPES),
        item_id=_text,
        query=_text,
        price=st.none() | st.floats(0, 1e12),
    )
)
def test_encoded_event_decodes_to_itself(event: ClickEvent) -> None:
    """Events survive the way through bytes."""
    assert decode(encode(event), event.visitor_id.encode(), MAX_EVENT_TIME_MS, 0) == event


def test_invalid_record_is_plain_data() -> None:
    """Refusals can be compared and kept, and cannot be changed."""
    refused = decode(None, None, 0, 0)
    assert refused == InvalidRecord(Reason.TOMBSTONE, "the record has no value")
    with pytest.raises(AttributeError):
        refused.detail = "other"  # type: ignore[misc]
    assert msgspec.json.decode(msgspec.json.encode(refused), type=InvalidRecord) == refused
