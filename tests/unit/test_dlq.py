"""Bytes of a dead letter on a terminal. (The rest needs Kafka: integration/test_dlq.)"""

from hypothesis import given
from hypothesis import strategies as st

from worker.dlq import printable


@given(st.binary(max_size=300))
def test_whatever_comes_is_harmless(data: bytes) -> None:
    """No control character, no direction override, no line break gets through."""
    assert printable(data).isprintable()


def test_text_stays_readable() -> None:
    """UTF-8 as it is, the rest escaped."""
    assert printable('{"a": "ä→"}'.encode()) == '{"a": "ä→"}'
    assert printable(b"a\x1b[2J\xff") == "a\\x1b[2J\\xff"
    assert printable(None) == "(none)"


def test_long_values_are_cut() -> None:
    """A megabyte does not flood the terminal, and the cut is visible."""
    assert printable(b"x" * 1_000_000, 10) == "x" * 10 + "…"
