"""Dead letters keep the record as it came and say why it is here."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.dead import (
    KEPT_BYTES,
    WHOLE_BYTES,
    DeadLetter,
    Headers,
    Origin,
    dead_letter,
    drop_record,
    parse_dead,
    parse_dropped,
)

_HEADERS = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=8)), max_size=4)


def _made(value: bytes | None, key: bytes | None = b"v1", headers: Headers = (), detail: str = "why") -> DeadLetter:
    sent_key, sent_value, sent_headers = dead_letter(
        value, key, headers, topic="clicks", partition=3, offset=42, timestamp_ms=1_700_000_000_000,
        reason="not_json", detail=detail, stage="decode", worker_version="0.1.0",
    )  # fmt: skip
    parsed = parse_dead(sent_value, sent_key, tuple(sent_headers))
    assert parsed is not None
    return parsed


@given(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=20), _HEADERS)
def test_parse_gives_back_what_was_written(value: bytes | None, key: bytes | None, headers: Headers) -> None:
    """Key, value and headers of any record come back as they were."""
    dead = _made(value, key, headers)
    assert (dead.value, dead.key, list(dead.headers)) == (value, key, list(headers))
    assert str(dead.origin) == "clicks:3:42"
    assert (dead.reason, dead.detail, dead.stage, dead.worker_version) == ("not_json", "why", "decode", "0.1.0")
    assert dead.cut == ()


def test_headers_that_look_like_ours_stay_the_originals() -> None:
    """A sender cannot forge the origin by a header of its name."""
    dead = _made(b"x", headers=[("inkling-origin", b"other:0:0"), ("inkling-length", b"7")])
    assert dead.origin == Origin("clicks", 3, 42)
    assert dead.length == 1
    assert dead.headers[0] == ("inkling-origin", b"other:0:0")


def test_a_value_that_fits_is_whole() -> None:
    """Just below the limit nothing is cut."""
    dead = _made(b"x" * (WHOLE_BYTES - 2))
    assert dead.cut == ()
    assert dead.value is not None
    assert len(dead.value) == dead.length == WHOLE_BYTES - 2


def test_a_value_too_large_is_cut_and_measured() -> None:
    """Past the limit the first 64 KB stay, with length and hash of the whole."""
    value = bytes(range(256)) * 5000
    dead = _made(value)
    assert dead.cut == ("value",)
    assert dead.value == value[:KEPT_BYTES]
    assert dead.length == len(value)
    assert dead.sha256 == hashlib.sha256(value).hexdigest()


def test_large_keys_and_headers_are_cut_as_well() -> None:
    """A dead letter always fits into a record of Kafka's default size."""
    key, value, headers = dead_letter(
        b"x", b"k" * 500_000, [(f"h{n}", b"x" * 1000) for n in range(600)], topic="clicks", partition=0, offset=0,
        timestamp_ms=0, reason="not_json", detail="", stage="decode", worker_version="0",
    )  # fmt: skip
    dead = parse_dead(value, key, headers)
    assert dead is not None
    assert dead.cut == ("key", "headers")
    assert len(key or b"") + len(value or b"") + sum(len(v or b"") for _, v in headers) < 2 * KEPT_BYTES + 1000


def test_a_tombstone_stays_without_value() -> None:
    """A record without value is not turned into an empty one."""
    dead = _made(None)
    assert dead.value is None
    assert dead.length == -1


def test_details_that_are_no_unicode_do_not_break_it() -> None:
    """Lone surrogates in an error text are escaped."""
    assert _made(b"x", detail="bad \ud800").detail == "bad \\ud800"


@pytest.mark.parametrize("headers", [(), [("inkling-origin", b"clicks:0:1")], [("x", b"y")] * 9])
def test_a_foreign_record_is_no_dead_letter(headers: Headers) -> None:
    """Whatever else lies on the topic is told apart, not raised over."""
    assert parse_dead(b"x", b"k", headers) is None


def test_dropped_origins_come_back() -> None:
    """From a record that says so; it is no dead letter itself."""
    origins = [Origin("clicks", 3, 42), Origin("a:b", 0, 0)]
    key, value, headers = drop_record(origins)
    assert parse_dropped(headers) == origins
    assert parse_dead(value, key, headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        (),
        [("inkling-dropped", b"clicks")],
        [("inkling-dropped", None)],
        [("inkling-dropped", b"\xff:0:1")],
        [("x", b"clicks:0:1")],
    ],
)
def test_what_drops_nothing_is_told_apart(headers: Headers) -> None:
    """Nonsense hides no dead letter."""
    assert parse_dropped(headers) == []


@given(_HEADERS)
def test_a_dead_letter_drops_nothing(headers: Headers) -> None:
    """Whatever headers its sender made up: ours come first."""
    _, _, sent = dead_letter(
        b"x", b"k", [*headers, ("inkling-dropped", b"clicks:0:1")], topic="clicks", partition=3, offset=42, timestamp_ms=0,
        reason="not_json", detail="", stage="decode", worker_version="0",
    )  # fmt: skip
    assert parse_dropped(sent) == []


def test_an_origin_that_is_none_is_refused() -> None:
    """Text without partition and offset names no origin."""
    with pytest.raises(ValueError, match="unpack"):
        Origin.parse("clicks")
