"""Shared counts: decay, buckets, and blocks as the changelog keeps them."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.logs import SPEC, START_MS, click, folded, logs
from worker.contract.counters import _CELL, WEIGHTS, Counters, decayed
from worker.contract.events import EVENT_TYPES, ClickEvent
from worker.contract.features import FeatureSpec, event_codes

HALF_LIFE_MS = int(SPEC.half_life_s * 1000)


def counted(*events: ClickEvent) -> Counters:
    counters = Counters(SPEC)
    for event in events:
        counters.add(event, event_codes(event, SPEC))
    return counters


def read(counters: Counters, event: ClickEvent) -> tuple[float, ...]:
    return counters.read(event_codes(event, SPEC), event.event_time)


def test_counts_are_by_type_and_id() -> None:
    """Nine numbers: views, carts and purchases of item, category and brand; zeros where nothing was counted."""
    lamp = click("a", START_MS, item="lamp")
    counters = counted(lamp, click("b", START_MS, kind="cart", item="lamp"), click("c", START_MS, kind="search", item="lamp"))
    assert read(counters, lamp) == (1, 1, 0) * 3
    assert read(counters, click("d", START_MS)) == (0,) * 9
    assert read(Counters(SPEC), lamp) == (0,) * 9


def test_counts_halve_in_a_half_life() -> None:
    """Reading later gives less and writes nothing."""
    counters = counted(click("a", START_MS, item="lamp"))
    later = click("b", START_MS + HALF_LIFE_MS, item="lamp")
    assert read(counters, later) == read(counters, later) == (0.5, 0, 0) * 3
    assert read(counters, click("c", START_MS + 10_000 * HALF_LIFE_MS, item="lamp")) == (0,) * 9


def test_time_that_runs_backwards_decays_nothing() -> None:
    """An event older than the newest counts in full, and moves no clock back."""
    counters = counted(click("a", START_MS, item="lamp"), click("b", START_MS - HALF_LIFE_MS, item="lamp"))
    assert read(counters, click("c", START_MS - HALF_LIFE_MS, item="lamp"))[0] == 2
    assert read(counters, click("c", START_MS + HALF_LIFE_MS, item="lamp"))[0] == 1


@given(st.integers(-(2**62), 2**62), st.floats(1e-9, 1e18))
def test_decay_never_raises_or_grows(since_ms: int, half_life_s: float) -> None:
    """Whatever the span, counts stay between nothing and what they were."""
    assert all(0 <= after <= before for after, before in zip(decayed((3, 2, 0), since_ms, half_life_s), (3, 2, 0), strict=True))


def test_every_type_has_a_weight() -> None:
    """Types without a count of their own add nothing, and change no cell."""
    assert set(WEIGHTS) == set(EVENT_TYPES)
    assert counted(click("a", START_MS, kind="search", item="lamp")).take_changed() is None
    assert counted(click("a", START_MS)).take_changed() is None


def test_items_categories_and_brands_do_not_share_cells() -> None:
    """The highest bucket of one kind is not the lowest of the next."""
    spec = FeatureSpec(item_buckets=2, category_buckets=2, brand_buckets=2)
    counters = Counters(spec)
    counters.add(click("a", START_MS), (1, 1, 0, 0, 1, 1))
    assert counters.read((1, 1, 1, 1, 1, 1), START_MS) == (1, 0, 0) + (0,) * 6
    counters.add(click("b", START_MS), (1, 0, 0, 1, 1, 1))
    assert counters.read((1, 1, 1, 1, 1, 1), START_MS) == (1, 0, 0) + (0,) * 3 + (1, 0, 0)


def test_take_changed_gives_each_change_once() -> None:
    """The block in turn, whole, and of all others what changed; the first cell of a kind follows the last of the one before."""
    spec = FeatureSpec(item_buckets=30, category_buckets=20, brand_buckets=20)
    counters = Counters(spec)
    assert counters.blocks == 5
    for turn in range(12):
        assert counters.take_changed() is None
        counters.add(click(f"e{turn}", START_MS), (1, 29, 19, 1, 1, 1))
        taken = counters.take_changed()
        assert taken is not None
        number, cells = taken
        assert number == turn % 5
        assert cells[: counters.block_bytes] == counters.block(number)
        others = [cell for cell in (29, 49, 51) if cell // counters.block_cells != number]
        one = _CELL.pack(turn + 1, 0, 0, START_MS)
        assert cells[counters.block_bytes :] == struct.pack(f"<{len(others)}I", *others) + one * len(others)


@settings(max_examples=50)
@given(logs())
def test_cells_put_back_give_the_same_counts(log: list[ClickEvent]) -> None:
    """What changed in a log, restored into fresh counters, makes those counters."""
    counters = folded(log)[0].counters
    restored = Counters(SPEC)
    if (taken := counters.take_changed()) is not None:
        restored.restore(*taken)
    assert restored.take_changed() is None
    assert all(restored.block(number) == counters.block(number) for number in range(counters.blocks))


_BLOCK_BYTES = Counters(SPEC).block_bytes


@pytest.mark.parametrize(
    ("number", "size"), [(-1, _BLOCK_BYTES), (10**6, _BLOCK_BYTES), (0, _BLOCK_BYTES - 1), (0, 0), (0, _BLOCK_BYTES + 23)]
)
def test_block_that_does_not_fit_is_refused(number: int, size: int) -> None:
    """A block of another spec must not be taken for one of this."""
    with pytest.raises(ValueError, match="does not fit the feature spec"):
        Counters(SPEC).restore(number, bytes(size))


def test_cell_that_does_not_fit_is_refused() -> None:
    """The same for a single cell, and nothing is taken over then."""
    counters = Counters(SPEC)
    with pytest.raises(ValueError, match="does not fit the feature spec"):
        counters.restore(0, b"\x01" * _BLOCK_BYTES + struct.pack("<I", 10**6) + bytes(20))
    assert not any(counters.block(0))


def test_memory_is_fixed_by_the_spec() -> None:
    """As many cells as buckets, in whole blocks: at most 320, so that a compacted changelog stays short."""
    for items, blocks, cells in ((2, 1, 16), (4096, 257, 16), (2**16, 320, 205)):
        counters = Counters(FeatureSpec(item_buckets=items, category_buckets=4, brand_buckets=4))
        assert (counters.blocks, counters.block_cells) == (blocks, cells)
