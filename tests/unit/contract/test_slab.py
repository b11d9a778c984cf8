"""The columns against the definition: whatever the log, a slab says and holds what a fold does, byte for byte."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.logs import FORGETFUL, SPEC, START_MS, click, fold_events, folded, logs
from worker.contract.events import ClickEvent
from worker.contract.features import FeatureSpec, encode
from worker.contract.fold import Fold
from worker.contract.packed import unpack
from worker.contract.session import Outcome, SessionPolicy
from worker.contract.slab import Slab
from worker.contract.users import anonymous_before


def by_batches(slab: Slab, log: list[ClickEvent], ends: set[int], after_each: Callable[[], None] = lambda: None) -> None:
    """Fold the log in batches that end at `ends`, holding each to what the scalar fold says of it."""
    fold = Fold(slab.spec, slab.policy)
    start = 0
    for end in sorted(end for end in {*ends, len(log)} if end <= len(log)):
        events, offsets = log[start:end], range(start, end)
        step = fold_events(slab, events, offsets)
        after_each()
        expected = [fold.apply(event, offset) for event, offset in zip(events, offsets, strict=True)]
        start = end
        assert [tuple(Outcome)[code] for code in step.outcome] == [outcome for _, outcome, _ in expected]
        assert step.revisions == [revision for one in expected for revision in one.revisions]
        changed = [session for session, outcome, _ in expected if outcome.changed]
        assert {number: earlier.tobytes() for number, earlier in step.logins.items()} == {
            number: earlier.tobytes()
            for number, (session, outcome, _) in enumerate(expected)
            if outcome.changed and events[number].user_id and len(earlier := anonymous_before(session.rows, offsets[number]))
        }
        assert step.at.tolist() == [number for number, (_, outcome, _) in enumerate(expected) if outcome.changed]
        assert [f"{one:016x}" for one in step.session.tolist()] == [one.session_id for one in changed]
        assert step.position.tolist() == [one.position for one in changed]
        assert [f"{one:016x}" for one in step.chain.tolist()] == [one.input_hash for one in changed]
        if not changed:
            assert step.inputs is None
            continue
        assert step.inputs is not None
        for ours, theirs in zip(step.inputs, encode(changed), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    fold.expire()
    assert {one.visitor_id: one for one in slab.sessions()} == fold.sessions
    blocks = range(fold.counters.blocks)
    assert [slab.counters.block(number) for number in blocks] == [fold.counters.block(number) for number in blocks]
    assert slab.counters.take_changed() == fold.counters.take_changed()


@settings(max_examples=300)
@given(logs(max_size=60), st.sets(st.integers(0, 60)))
def test_equals_the_fold(log: list[ClickEvent], ends: set[int]) -> None:
    """In batches that end anywhere: outcomes, sessions, positions, hashes, model inputs, and at the end sessions and counters."""
    by_batches(Slab(SPEC, FORGETFUL), log, ends)


@settings(max_examples=100)
@given(logs(max_size=60), st.lists(st.integers(0, 59), max_size=30), st.sets(st.integers(0, 90)))
def test_equals_the_fold_on_copies(log: list[ClickEvent], copies: list[int], ends: set[int]) -> None:
    """Events that come again later change nothing."""
    by_batches(Slab(SPEC, FORGETFUL), log + [log[number] for number in copies if number < len(log)], ends)


@settings(max_examples=150)
@given(logs(max_size=60), st.sets(st.integers(0, 60)), st.integers(1, 3))
def test_equals_the_fold_with_few_in_memory(log: list[ClickEvent], ends: set[int], most_hot: int) -> None:
    """Sessions become cold after each batch, and come back as they were."""
    slab, most = Slab(SPEC, FORGETFUL, most_hot=most_hot), 0

    def cooled() -> None:
        nonlocal most
        slab.drop_changed()
        slab.cool()
        most = max(most, len(slab._slots))

    by_batches(slab, log, ends, cooled)
    assert most <= most_hot


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(1, 3), st.randoms(use_true_random=False), st.sets(st.integers(0, 400)))
def test_equals_the_fold_on_long_sessions(size: int, visitors: int, random, ends: set[int]) -> None:  # type: ignore[no-untyped-def]
    """A visitor with hundreds of events in one batch, so that windows fill, halve and move to larger blocks and back."""
    spec, policy = FeatureSpec(window=20, item_buckets=50), SessionPolicy()
    log, now_ms = [], START_MS
    for number in range(size):
        now_ms += random.choice((0, 500, 20_000, 20_000, 2_000_000 if random.random() < 0.05 else 1))
        late_ms = random.choice((0, 0, 0, 0, 60_000, 400_000))
        kind = random.choice(("view", "cart", "purchase", "search"))
        item = random.choice((None, "lamp", "chair", "é-chaise", "x" * 300))
        log.append(
            click(
                f"ü{number}" + "y" * random.choice((0, 90, 120, 250)),
                now_ms - late_ms,
                f"v{random.randrange(visitors)}",
                kind,
                item,
                9.99,
            )
        )
    by_batches(Slab(spec, policy), log, ends)


def test_many_visitors_make_it_grow() -> None:
    """Slots and rows grow as needed, and what was there stays."""
    log = [click(f"e{n}", START_MS + n, f"v{n % 3_000}", item=f"i{n % 7}") for n in range(9_000)]
    by_batches(Slab(SPEC, FORGETFUL), log, {1, 256, 5_000})


def taken_from(slab: Slab) -> Iterator[tuple[bytes, int, bytes]]:
    """Key, first row and packed session of each that changed."""
    changed = slab.take_changed()
    ends = changed.sizes.cumsum()
    for key, row, size, end in zip(changed.keys, changed.first, changed.sizes, ends, strict=True):
        yield key, int(row), changed.packed[end - size : end]


@settings(max_examples=150)
@given(logs(max_size=60), st.sets(st.integers(0, 60)))
def test_changes_read_back_in_order_are_the_sessions(log: list[ClickEvent], ends: set[int]) -> None:
    """What `take_changed` gives after each batch, put and extended in that order, holds the same and goes on the same."""
    slab, copy = Slab(SPEC, FORGETFUL), Slab(SPEC, FORGETFUL)
    start = 0
    for end in sorted({*ends, len(log)}):
        fold_events(slab, log[start:end], range(start, min(end, len(log))))
        start = min(end, len(log))
        for key, row, packed in taken_from(slab):
            if row:
                assert copy.extend(key, packed)
            else:
                copy.put(key, packed)
    copy.newest_ms = slab.newest_ms
    fold = folded(log, policy=FORGETFUL)[0]
    fold.expire()
    assert {one.visitor_id: one for one in copy.sessions()} == {one.visitor_id: one for one in slab.sessions()} == fold.sessions
    if (taken := slab.counters.take_changed()) is not None:
        copy.counters.restore(*taken)
    more = [click(f"more{n}", START_MS + 10_000_000 + n, f"v{n % 3}", item="lamp") for n in range(20)]
    for one in (slab, copy):
        fold_events(one, more, range(100, 120))
    assert {one.visitor_id: one for one in copy.sessions()} == {one.visitor_id: one for one in slab.sessions()}


@settings(max_examples=100)
@given(logs(max_size=60), st.sets(st.integers(0, 60)))
def test_expiring_changes_nothing_but_memory(log: list[ClickEvent], ends: set[int]) -> None:
    """Whether forgotten visitors are still there or not: what comes after is the same; and at the end none is left."""
    slab, fold = Slab(SPEC, FORGETFUL), Fold(SPEC, FORGETFUL)
    start = 0
    for end in sorted(end for end in {*ends, len(log)} if end <= len(log)):
        step = fold_events(slab, log[start:end], range(start, end))
        expected = [fold.apply(event, offset) for offset, event in enumerate(log[start:end], start)]
        assert [tuple(Outcome)[code] for code in step.outcome] == [outcome for _, outcome, _ in expected]
        assert [f"{one:016x}" for one in step.chain.tolist()] == [
            one.input_hash for one, outcome, _ in expected if outcome.changed
        ]
        start = end
        while slab.expire(most=1):
            pass
    fold.expire()
    assert {one.visitor_id: one for one in slab.sessions()} == fold.sessions
    fold_events(slab, [click("last", START_MS + 10**9, "last")], [len(log)])
    slab.expire()
    assert len(slab) == 1


def test_rows_that_do_not_follow_are_refused() -> None:
    """New rows need the very session that they were added to."""
    slab = Slab(SPEC, FORGETFUL)
    fold_events(slab, [click(f"e{n}", START_MS + n, "v") for n in range(5)], range(5))
    ((_, _, whole),) = taken_from(slab)
    fold_events(slab, [click("e5", START_MS + 5, "v")], [5])
    ((_, row, fresh),) = taken_from(slab)
    assert row == 5
    other = Slab(SPEC, FORGETFUL)
    assert not other.extend(b"v", fresh)
    other.put(b"v", whole)
    assert other.extend(b"v", fresh)
    assert not other.extend(b"v", fresh)
    assert [unpack("v", whole)] != list(other.sessions()) == list(slab.sessions())
    with pytest.raises(ValueError, match="no packed session"):
        other.put(b"v", whole[:-1])
