"""Next items in columns say what lists of them would, and a tensor that holds none is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import serialize_byte_tensor

from worker.scoring.items import NextItems

_ODD = ["", '"', "\\", "\n", "\x00", "\x7f", "é", "😀"]
_IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(_ODD)
_LISTS = st.integers(0, 3).flatmap(
    lambda most: st.lists(st.lists(st.tuples(_IDS, st.floats(0, 1, width=32)), min_size=most, max_size=most), max_size=5)
)


def tensor(lists: list[list[tuple[str, float]]]) -> bytes:
    ids = np.array([item.encode() for some in lists for item, _ in some], object)
    return serialize_byte_tensor(ids).item() if ids.size else b""  # type: ignore[no-any-return]


def read(lists: list[list[tuple[str, float]]]) -> NextItems:
    chances = np.array([[p for _, p in some] for some in lists], np.float32)
    return NextItems.read(tensor(lists), chances.reshape(len(lists), len(lists[0]) if lists else 0))


def known(lists: list[list[tuple[str, float]]]) -> list[list[tuple[str, float]]]:
    return [[pair for pair in some if pair[0]] for some in lists]


@given(_LISTS)
def test_a_tensor_is_read_as_it_was_written(lists: list[list[tuple[str, float]]]) -> None:
    """Whatever characters the ids hold; a place without an id is left out."""
    assert read(lists).named() == NextItems.of(lists).named() == known(lists)


@given(_LISTS, _LISTS)
def test_parts_are_joined_and_taken_apart(one: list[list[tuple[str, float]]], other: list[list[tuple[str, float]]]) -> None:
    """In any order of the sessions."""
    width = max((len(some) for some in one + other), default=0)
    one, other = ([some + [("", 0.0)] * (width - len(some)) for some in lists] for lists in (one, other))
    joined = NextItems.joined([NextItems.of(lists) for lists in (one, other) if lists] or [NextItems.of([])])
    back = np.arange(len(one + other))[::-1]
    assert joined.rows(back).named() == known((one + other)[::-1])
    assert joined.rows(slice(0, len(one))).named() == known(one)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x01\x00\x00",
        b"\x01\x00\x00\x00",
        b"\xff\xff\xff\xffa",
        b"\x01\x00\x00\x00a",
        b"\x01\x00\x00\x00a\x01\x00\x00\x00b?",
        b"\x01\x00\x00\x00a\x01\x00\x00\x00\xff",
        b"\x01\x00\x00\x00\xc3\x01\x00\x00\x00\xa9",
    ],
    ids=["empty", "no size", "no text", "too long", "one of two", "more than two", "no utf-8", "one character in two"],
)
def test_a_tensor_that_holds_other_texts_is_refused(raw: bytes) -> None:
    """Here two are wanted."""
    with pytest.raises(ValueError, match=r"text|utf-8"):
        NextItems.read(raw, np.zeros((1, 2), np.float32))
