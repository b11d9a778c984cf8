"""Packed rows: what a window answers, and its chain as it grows, is cut and is repaired."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests.logs import START_MS, click, folded, logs
from worker.contract import window
from worker.contract.events import ClickEvent
from worker.contract.features import CODES, NUMBERS, ROW, ROW_STRUCT
from worker.contract.window import ROW_BYTES


def row(event_time: int = 0, event_hash: int = 0, item: int = 0) -> bytes:
    codes = [item if name == "item" else 7 for name in CODES]
    return ROW_STRUCT.pack(event_time, event_hash, 9, 0, *codes, *[0.0] * len(NUMBERS))


def test_holds_compares_all_64_bits_of_whole_rows() -> None:
    """Neighbouring hashes past 2^53 differ, and bytes across fields or rows are no hash."""
    rows = row(event_hash=2**63) + row(event_time=5, event_hash=2**64 - 1)
    assert window.holds(rows, 2**63)
    assert window.holds(rows, 2**64 - 1)
    assert not window.holds(rows, 2**63 + 1)
    assert not window.holds(rows, 5)
    assert not window.holds(rows, 9)
    assert not window.holds(b"", 0)


def test_repeats_counts_the_items_bucket() -> None:
    """Other codes of the same number do not count, nor does a missing item."""
    rows = row(item=3) + row(item=4) + row(item=3) + row(item=0)
    assert window.repeats(rows, 3) == 2
    assert window.repeats(rows, 7) == 0
    assert window.repeats(rows, 0) == 0
    assert window.repeats(b"", 3) == 0


def test_first_time_is_signed() -> None:
    """Of the oldest row, whatever the others say."""
    assert window.first_time(row(event_time=-5) + row(event_time=7)) == -5


def test_extending_keeps_the_bytes_before() -> None:
    """A longer window begins with the shorter one, and the row differs in its chain alone."""
    one = window.extended(b"", row(event_hash=1))
    two = window.extended(one, row(event_hash=2))
    assert two[:ROW_BYTES] == one
    assert two[ROW_BYTES : ROW_BYTES + 24] == row(event_hash=2)[:24]
    assert two[ROW_BYTES + 32 :] == row(event_hash=2)[32:]
    # The same row after another has another chain.
    assert window.last_chain(two) != window.last_chain(one)
    assert window.last_chain(b"") == b""


@pytest.mark.parametrize(("size", "left"), [(2, 1), (3, 2), (6, 3), (7, 4)])
def test_halving_leaves_the_newer_rows_with_a_chain_of_their_own(size: int, left: int) -> None:
    """What is left is what a window of just these rows would be."""
    rows = b""
    for number in range(size):
        rows = window.extended(rows, row(event_hash=number))
    alone = b""
    for number in range(size - left, size):
        alone = window.extended(alone, row(event_hash=number))
    assert window.halved(rows, size) == alone


def test_repairing_fills_in_what_the_place_decides() -> None:
    """Position, elapsed time and gap follow from where a row lies; the late row's repeats are its maker's business."""
    rows = window.extended(window.extended(b"", row(1_000, 1, item=3)), row(5_000, 2, item=3))
    late = window.repaired(rows, row(2_000, 3, item=3), place=1, started_ms=500, position=12)
    fields = np.frombuffer(late, ROW)
    values = {name: fields["numbers"][:, number].tolist() for number, name in enumerate(NUMBERS)}
    assert fields["event_hash"].tolist() == [1, 3, 2]
    assert values["position"] == [10, 11, 12]
    assert values["elapsed_s"] == [0.5, 1.5, 4.5]
    assert values["gap_s"] == [0, 1, 3]
    assert values["repeats"] == [0, 0, 1]
    assert rows == window.extended(window.extended(b"", row(1_000, 1, item=3)), row(5_000, 2, item=3))  # not written to


@settings(max_examples=60)
@given(logs(max_size=40))
def test_windows_are_whole_rows_with_a_sound_chain(log: list[ClickEvent]) -> None:
    """However a window came about, extending from nothing by its rows gives the very same bytes."""
    for step in folded(log)[1]:
        rows, again = step.session.rows, b""
        for start in range(0, len(rows), ROW_BYTES):
            again = window.extended(again, rows[start : start + ROW_BYTES])
        assert again == rows


def test_repeats_count_what_the_window_held_then() -> None:
    """Once the window has moved on, new rows count what is left in it, and rows that stayed keep their counts."""
    fold, _ = folded([click(f"e{n}", START_MS + n, item="lamp") for n in range(8)])
    repeats = np.frombuffer(fold.sessions["v"].rows, ROW)["numbers"][:, NUMBERS.index("repeats")]
    assert repeats.tolist() == [3, 4, 5, 3, 4]
