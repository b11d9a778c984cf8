"""The fold of a batch, compiled: what `Fold.apply` says event by event, over arrays. `Slab` is its only caller.

`Fold` and `Session` stay the definition; a property test holds the two equal on any log. What is rare is left to them: the
kernel stops at a late event, and goes on behind it.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from worker.contract.blake2b import compress, initial_state
from worker.contract.compiled import compiled
from worker.contract.features import CODES, NUMBERS, ROW, VISIBLE
from worker.contract.move import clear, copy

Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Records = npt.NDArray[np.void]

#: What the kernel did with an event; the order of `session.Outcome`.
APPENDED, NEW_SESSION, LATE, DUPLICATE, TOO_LATE = range(5)
#: `previous_end_ms` of a visitor's first session.
NO_VISIT = np.iinfo(np.int64).min
#: `unsaved` of a session that the changelog needs whole.
WHOLE = -1

#: A session but for its rows, which are `length` of the arena's from `home` on, of `room` that it has there.
#: `seen_ms` is the partition's newest event time when the session last changed.
#: `opened` is the index of the batch's event that began the session while its id is not known yet, else -1.
HEAD = np.dtype(
    [
        ("session", "<u8"), ("started_ms", "<i8"), ("last_ms", "<i8"), ("position", "<i8"), ("previous_end_ms", "<i8"),
        ("counted_ms", "<i8"), ("seen_ms", "<i8"), ("views", "<f8"), ("carts", "<f8"), ("purchases", "<f8"),
        ("home", "<i8"), ("room", "<i8"), ("length", "<i8"), ("opened", "<i8"), ("unsaved", "<i8"),
    ]
)  # fmt: skip

#: Words of 8 bytes and of 4 that a row has, and where in it things are.
ROW_WORDS, ROW_HALVES = ROW.itemsize // 8, ROW.itemsize // 4
_TIME, _HASH, _OFFSET, CHAIN = range(4)
_VISIBLE_WORD = VISIBLE // 8
_VISIBLE_WORDS = ROW_WORDS - _VISIBLE_WORD
_CODES_AT = VISIBLE // 4
_NUMBERS_AT = _CODES_AT + len(CODES)
_CODE_WORDS, _NUMBER_WORDS = len(CODES) // 2, len(NUMBERS) // 2
assert VISIBLE % 8 == len(CODES) % 2 == len(NUMBERS) % 2 == 0
_ITEM_AT, _MEMBER_AT = (_CODES_AT + CODES.index(name) for name in ("item", "member"))
#: The counts that an event finds: those of the visitor come after price, gap, elapsed, position and repeats.
_SHARED_AT = _NUMBERS_AT + NUMBERS.index("item_views")
#: Of a hash's block.
_MOST_WORDS = 16

_PLAIN = initial_state(b"")


class Batch(NamedTuple):
    """B events in the order of the log, as arrays [B]."""

    slot: Longs
    time_ms: Longs
    offset: Longs
    codes: npt.NDArray[np.int32]  # [B, len(CODES)]
    cells: Longs  # [B, 3] counter cells of item, category and brand, -1 where the id is missing
    price: Floats
    event_hash: Words
    of_user: npt.NDArray[np.bool_]  # whether it is to be told of if the one before it in its session has no user (`users`)


class Folded(NamedTuple):
    """What became of each event, [B]; of sessions, as they were right after it. `opened` is as in `HEAD`."""

    outcome: Bytes
    session: Words
    opened: Longs
    position: Longs
    chain: Words


class Memory(NamedTuple):
    """What the kernel works on. `words`, `ints` and `floats` are the arena's rows, seen three ways.

    `blocks` holds the homes of free blocks, small ones in column 0 and large ones in column 1; `free` how many there are of each,
    and then the first row of the arena that was never used.
    """

    heads: Records
    words: Words  # [R, ROW_WORDS]
    ints: npt.NDArray[np.int32]  # [R, ROW_HALVES]
    floats: Floats  # [R, ROW_HALVES]
    blocks: Longs  # [N, 2]
    free: Longs  # [3]
    newest_ms: Longs  # [1] event time
    cells: Records
    dirty: Bytes


class Rules(NamedTuple):
    """Session policy and feature spec. `half` is 0.5: as an argument, so that no compiler takes a power of it for another."""

    gap_ms: int
    grace_ms: int
    forget_ms: int
    window: int
    small: int
    half: float
    half_life_s: float
    weights: npt.NDArray[np.float64]  # [types + 1, 3]


class Encoded(NamedTuple):
    """Where the windows of changed sessions go, one after the other: the arrays of `ModelInputs` for B sessions, or for none
    if nobody wants them. Codes and numbers are seen as words of 8 bytes.
    """

    codes: Words  # [B, T, len(CODES) / 2]
    numbers: Words  # [B, T, len(NUMBERS) / 2]
    length: npt.NDArray[np.int32]  # [B]


@compiled()
def fold(
    first: int, batch: Batch, folded: Folded, memory: Memory, rules: Rules, out: Encoded, changed: int
) -> tuple[int, int, bool]:
    """Fold events from `first` on; `changed` of those before it changed their session.

    Returns where it stopped, `changed` up to there, and whether that is right behind one `of_user` that follows on one without.
    Else it stops at the end, at a late event (`outcome` LATE), or for want of memory, before the event has changed anything.
    """
    words = memory.words
    state, message, shared = np.empty(8, np.uint64), np.zeros(_MOST_WORDS, np.uint64), np.empty(9, np.float64)
    for i in range(first, len(batch.slot)):
        head = memory.heads[batch.slot[i]]
        time_ms = batch.time_ms[i]
        memory.newest_ms[0] = max(memory.newest_ms[0], time_ms)
        if head.position and head.seen_ms + rules.forget_ms <= memory.newest_ms[0]:
            _forget(head)
        length, home = head.length, head.home
        folded.position[i], folded.session[i], folded.opened[i] = head.position, head.session, head.opened
        if _holds(words, home, length, batch.event_hash[i]):
            folded.outcome[i] = DUPLICATE
            continue
        ahead_ms = time_ms - head.last_ms
        begins = head.position == 0 or ahead_ms >= rules.gap_ms
        if not begins and ahead_ms < 0:
            lost = head.position > length and time_ms <= np.int64(words[home, _TIME])
            if -ahead_ms > rules.grace_ms or lost:
                folded.outcome[i] = TOO_LATE
                continue
            folded.outcome[i] = LATE
            return i, changed, False
        if begins:
            if head.room != rules.small:
                if not has_block(memory, 0, rules.small):
                    return i, changed, False
                if head.room:
                    let_go(memory, 1, head.home)
                head.home, head.room = take(memory, 0, rules.small), rules.small
            head.previous_end_ms = head.last_ms if head.position else NO_VISIT
            head.started_ms = head.last_ms = time_ms
            head.position = head.length = 0
            head.opened, head.unsaved = i, WHOLE
        elif length == head.room and length < rules.window:
            if not has_block(memory, 1, rules.window):
                return i, changed, False
            room = take(memory, 1, rules.window)
            words[room : room + length] = words[home : home + length]
            let_go(memory, 0, home)
            head.home, head.room = room, rules.window
        if head.length == rules.window:
            _halve(head, words, rules.window, state, message)
        _read_counters(batch.cells[i], time_ms, memory.cells, rules, shared)
        _extend(i, batch, head, memory, rules, shared)
        _link(words, head.home, head.home + head.length - 1, state, message)
        _count(batch.cells[i], batch.codes[i, 0], time_ms, memory, rules, shared)
        head.seen_ms = memory.newest_ms[0]
        folded.outcome[i] = NEW_SESSION if begins else APPENDED
        folded.position[i], folded.session[i], folded.opened[i] = head.position, head.session, head.opened
        folded.chain[i] = words[head.home + head.length - 1, CHAIN]
        if len(out.length):
            write_window(head.home, head.length, memory, out, changed)
        changed += 1
        if batch.of_user[i] and head.length > 1 and not memory.ints[head.home + head.length - 2, _MEMBER_AT]:
            return i + 1, changed, True
    return len(batch.slot), changed, False


@compiled()
def write_window(home: int, length: int, memory: Memory, out: Encoded, at: int) -> None:
    """A session's rows as the model's inputs, padded with zeros."""
    codes, numbers, words = out.codes[at], out.numbers[at], memory.words
    for t in range(length):
        row = ROW_WORDS * (home + t) + _VISIBLE_WORD
        copy(words, row, row + _CODE_WORDS, codes, _CODE_WORDS * t)
        copy(words, row + _CODE_WORDS, row + _CODE_WORDS + _NUMBER_WORDS, numbers, _NUMBER_WORDS * t)
    clear(codes, _CODE_WORDS * length, codes.size)
    clear(numbers, _NUMBER_WORDS * length, numbers.size)
    out.length[at] = length


@compiled()
def pack(heads: Records, first: Longs, rows: Bytes, mark: Bytes, ends: Longs, head_bytes: int, packed: Bytes) -> None:
    """Write sessions one after the other: the mark, the first bytes of the head, and the rows from `first` on.

    `rows` is the arena as bytes, [R, bytes of a row]; `ends` is where each session ends in `packed`.
    """
    heads_as_bytes = heads.view(np.uint8).reshape(len(heads), -1)
    at = 0
    for i in range(len(heads)):
        at = copy(mark, 0, len(mark), packed, at)
        head = heads_as_bytes.shape[1] * i
        at = copy(heads_as_bytes, head, head + head_bytes, packed, at)
        start, end = heads[i].home + first[i], heads[i].home + heads[i].length
        at = copy(rows, rows.shape[1] * start, rows.shape[1] * end, packed, at)


@compiled()
def _holds(words: Words, home: int, length: int, event_hash: np.uint64) -> bool:
    for row in range(home + length - 1, home - 1, -1):  # noqa: SIM110  # copies mostly come soon; numba knows no `any`
        if words[row, _HASH] == event_hash:
            return True
    return False


@compiled()
def has_block(memory: Memory, kind: int, rows: int) -> bool:
    """Whether there is a free block of a kind (a column of `Memory.blocks`), or room for another of so many rows."""
    spare: bool = memory.free[kind] > 0 or memory.free[2] + rows <= len(memory.words)
    return spare


@compiled()
def take(memory: Memory, kind: int, rows: int) -> int:
    """The home of a block that `has_block` promised."""
    home: int
    if memory.free[kind]:
        memory.free[kind] -= 1
        home = memory.blocks[memory.free[kind], kind]
    else:
        home = memory.free[2]
        memory.free[2] += rows
    return home


@compiled()
def let_go(memory: Memory, kind: int, home: int) -> None:
    """The block is free."""
    memory.blocks[memory.free[kind], kind] = home
    memory.free[kind] += 1


@compiled()
def _forget(head: Any) -> None:
    """Nothing is known of the visitor any more."""
    head.last_ms = head.position = head.counted_ms = head.length = 0
    head.views = head.carts = head.purchases = 0.0


@compiled()
def _halve(head: Any, words: Words, window: int, state: Words, message: Words) -> None:
    """Drop the older half of a full window; the chain begins anew."""
    home, half = head.home, window // 2
    head.length = window - half
    for row in range(home, home + head.length):
        words[row] = words[row + half]
    for row in range(home, home + head.length):
        _link(words, home, row, state, message)
    head.unsaved = WHOLE


@compiled()
def _extend(i: int, batch: Batch, head: Any, memory: Memory, rules: Rules, shared: npt.NDArray[np.float64]) -> None:
    """Put the event's row behind the session's, still without its chain hash."""
    time_ms, row = batch.time_ms[i], head.home + head.length
    words, ints, floats = memory.words[row], memory.ints[row], memory.floats[row]
    words[_TIME], words[_HASH], words[_OFFSET] = np.uint64(time_ms), batch.event_hash[i], np.uint64(batch.offset[i])
    item, repeats = batch.codes[i, 1], 0
    if item:
        for earlier in range(head.home, row):
            repeats += memory.ints[earlier, _ITEM_AT] == item
    for k in range(len(CODES)):
        ints[_CODES_AT + k] = batch.codes[i, k]
    keep = _keep(time_ms - head.counted_ms, rules)
    head.views *= keep
    head.carts *= keep
    head.purchases *= keep
    floats[_NUMBERS_AT] = batch.price[i]
    floats[_NUMBERS_AT + 1] = (time_ms - head.last_ms) / 1000.0
    floats[_NUMBERS_AT + 2] = (time_ms - head.started_ms) / 1000.0
    floats[_NUMBERS_AT + 3] = head.position + 1
    floats[_NUMBERS_AT + 4] = repeats
    floats[_NUMBERS_AT + 5] = head.views
    floats[_NUMBERS_AT + 6] = head.carts
    floats[_NUMBERS_AT + 7] = head.purchases
    previous = head.previous_end_ms
    floats[_NUMBERS_AT + 8] = np.nan if previous == NO_VISIT else (time_ms - previous) / 1000.0
    for k in range(9):
        floats[_SHARED_AT + k] = shared[k]
    kind = batch.codes[i, 0]
    head.views += rules.weights[kind, 0]
    head.carts += rules.weights[kind, 1]
    head.purchases += rules.weights[kind, 2]
    head.last_ms = time_ms
    head.counted_ms = max(head.counted_ms, time_ms)
    head.position += 1
    head.length += 1
    if head.unsaved != WHOLE:
        head.unsaved += 1


@compiled()
def _link(words: Words, home: int, row: int, state: Words, message: Words) -> None:
    """Chain hash of a row: over that of the row before it and what the model sees of it (`features.chain_hash`)."""
    state[:] = _PLAIN
    message[0] = words[row - 1, CHAIN] if row > home else np.uint64(0)
    for k in range(_VISIBLE_WORDS):
        message[1 + k] = words[row, _VISIBLE_WORD + k]
    for k in range(1 + _VISIBLE_WORDS, _MOST_WORDS):
        message[k] = 0
    compress(state, message, 8 + 8 * _VISIBLE_WORDS, True)
    words[row, CHAIN] = state[0]


@compiled()
def _keep(since_ms: int, rules: Rules) -> float:
    """What share of counts is left after a time (`counters.decayed`)."""
    return rules.half ** (since_ms / 1000.0 / rules.half_life_s) if since_ms > 0 else 1.0


@compiled()
def _read_counters(cells: Longs, time_ms: int, counters: Records, rules: Rules, shared: npt.NDArray[np.float64]) -> None:
    """The counts of item, category and brand, [9], as they are at this time."""
    for k in range(3):
        if cells[k] < 0:
            shared[3 * k : 3 * k + 3] = 0.0
            continue
        cell = counters[cells[k]]
        keep = _keep(time_ms - cell.updated_ms, rules)
        shared[3 * k] = cell.views * keep
        shared[3 * k + 1] = cell.carts * keep
        shared[3 * k + 2] = cell.purchases * keep


@compiled()
def _count(cells: Longs, kind: int, time_ms: int, memory: Memory, rules: Rules, shared: npt.NDArray[np.float64]) -> None:
    """Add the event to the counts of item, category and brand, which are `shared` at its time."""
    views, carts, purchases = rules.weights[kind]
    if not (views or carts or purchases):
        return
    for k in range(3):
        if cells[k] < 0:
            continue
        cell = memory.cells[cells[k]]
        cell.views = shared[3 * k] + views
        cell.carts = shared[3 * k + 1] + carts
        cell.purchases = shared[3 * k + 2] + purchases
        cell.updated_ms = max(cell.updated_ms, time_ms)
        memory.dirty[cells[k]] = 1
