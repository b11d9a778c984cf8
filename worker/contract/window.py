"""The model's window as packed rows (`features.ROW`): what it holds, and how it grows. All functions are pure."""

import struct

import numpy as np

from worker.contract.features import CODES, NUMBERS, ROW, VISIBLE, chain_hash

ROW_BYTES = ROW.itemsize
_TIME = struct.Struct(f"<q{ROW_BYTES - 8}x")
_HASH = struct.Struct(f"<8xQ{ROW_BYTES - 16}x")
_CHAIN_AT = 24
_ITEM_AT = VISIBLE + 4 * CODES.index("item")
_ITEM = struct.Struct(f"<{_ITEM_AT}xi{ROW_BYTES - _ITEM_AT - 4}x")
_GAP, _ELAPSED, _POSITION, _REPEATS = (NUMBERS.index(name) for name in ("gap_s", "elapsed_s", "position", "repeats"))


def holds(rows: bytes, event_hash: int) -> bool:
    """Whether the window has a row of this event."""
    return (event_hash,) in _HASH.iter_unpack(rows)


def repeats(rows: bytes, item: int) -> int:
    """How many rows have the item's bucket; 0 for a missing item."""
    return list(_ITEM.iter_unpack(rows)).count((item,)) if item else 0


def first_time(rows: bytes) -> int:
    """Event time of the oldest row, of at least one."""
    time: int = _TIME.unpack_from(rows)[0]
    return time


def last_chain(rows: bytes) -> bytes:
    """Chain hash of the newest row, little-endian as it lies there; empty for an empty window."""
    return rows[-ROW_BYTES + _CHAIN_AT : -ROW_BYTES + VISIBLE]


def extended(rows: bytes, row: bytes) -> bytes:
    """The window with one row more at its end."""
    return rows + _linked(last_chain(rows), row)


def halved(rows: bytes, window: int) -> bytes:
    """A window of `window` rows or one more without its older half, and so with a chain that starts anew."""
    return _chained(rows[window // 2 * ROW_BYTES :])


def repaired(rows: bytes, row: bytes, place: int, started_ms: int, position: int) -> bytes:
    """The window with a late row put at index `place`, and the rows after it told so.

    `started_ms` is the start of the session and `position` that of the newest row, both with the late event counted.
    Counts of visitors, items, categories and brands stay as they were when each row was made.
    """
    late = np.frombuffer(rows[: place * ROW_BYTES] + row + rows[place * ROW_BYTES :], ROW).copy()
    times, items, numbers = late["event_time"], late["codes"][:, CODES.index("item")], late["numbers"]  # views
    numbers[:, _POSITION] = np.arange(position - len(late) + 1, position + 1)
    numbers[:, _ELAPSED] = (times - started_ms) / 1000.0
    numbers[1:, _GAP] = np.diff(times) / 1000.0  # what lay before the first row may have left the window
    numbers[place + 1 :, _REPEATS] += (items[place + 1 :] == items[place]) & (items[place] != 0)
    return _chained(late.tobytes())


def _chained(rows: bytes) -> bytes:
    chain, linked = b"", []
    for start in range(0, len(rows), ROW_BYTES):
        row = _linked(chain, rows[start : start + ROW_BYTES])
        chain = last_chain(row)
        linked.append(row)
    return b"".join(linked)


def _linked(before: bytes, row: bytes) -> bytes:
    chain = chain_hash(int.from_bytes(before, "little"), row[VISIBLE:])
    return row[:_CHAIN_AT] + chain.to_bytes(8, "little") + row[VISIBLE:]
