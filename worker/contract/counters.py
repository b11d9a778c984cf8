"""Decayed counts of views, carts and purchases by item, category and brand: a fold of one partition's log."""

import struct

import numpy as np
import numpy.typing as npt

from worker.contract.events import EVENT_TYPES, ClickEvent
from worker.contract.features import FeatureSpec

#: Per bucket: views, carts, purchases, and the event time (ms) that they are decayed to.
_CELL = struct.Struct("<fffq")
CELL = np.dtype([("views", "<f4"), ("carts", "<f4"), ("purchases", "<f4"), ("updated_ms", "<i8")])
assert CELL.itemsize == _CELL.size
#: Blocks of cells, one of which a changelog record holds whether it changed or not: of the fewest cells each, and as many. The
#: smaller, the smaller are records; the more, the more of them does compaction leave.
_LEAST_CELLS, _MOST_BLOCKS = 16, 320
_NUMBER = np.dtype("<u4")

Counts = tuple[float, float, float]

_NOTHING = (0.0, 0.0, 0.0)
#: What an event of a type adds to (views, carts, purchases).
WEIGHTS: dict[str, Counts] = dict.fromkeys(EVENT_TYPES, _NOTHING) | {
    "view": (1.0, 0.0, 0.0),
    "cart": (0.0, 1.0, 0.0),
    "purchase": (0.0, 0.0, 1.0),
}


def decayed(counts: Counts, since_ms: int, half_life_s: float) -> Counts:
    """Counts `since_ms` milliseconds later. Time that runs backwards decays nothing."""
    if since_ms <= 0:
        return counts
    keep: float = 0.5 ** (since_ms / 1000.0 / half_life_s)
    return counts[0] * keep, counts[1] * keep, counts[2] * keep


class Counters:
    """The counts of one partition. Memory is fixed by the spec's bucket numbers."""

    def __init__(self, spec: FeatureSpec) -> None:
        self._half_life_s = spec.half_life_s
        self._category_base = spec.item_buckets
        self._brand_base = spec.item_buckets + spec.category_buckets
        cells = self._brand_base + spec.brand_buckets
        self.block_cells = max(_LEAST_CELLS, -(-cells // _MOST_BLOCKS))
        self.block_bytes = self.block_cells * _CELL.size
        self.blocks = -(-cells // self.block_cells)
        self._cells = bytearray(self.blocks * self.block_bytes)
        self._dirty = bytearray(self.blocks * self.block_cells)  # 1 for a cell that changed
        self._turn = 0  # the block that is taken next

    @property
    def memory(self) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint8]]:
        """The cells (dtype `CELL`) and the marks of changed ones themselves, to be worked on by `kernel.fold`."""
        return np.frombuffer(self._cells, CELL), np.frombuffer(self._dirty, np.uint8)

    def read(self, codes: tuple[int, ...], at_ms: int) -> tuple[float, ...]:
        """Counts of the event's item, category and brand at `at_ms`: nine numbers, zero where the id is missing."""
        numbers: tuple[float, ...] = ()
        for cell in self.addresses(codes):
            if cell < 0:
                numbers += _NOTHING
            else:
                views, carts, purchases, updated = _CELL.unpack_from(self._cells, cell * _CELL.size)
                numbers += decayed((views, carts, purchases), at_ms - updated, self._half_life_s)
        return numbers

    def add(self, event: ClickEvent, codes: tuple[int, ...]) -> None:
        """Count the event."""
        weights = WEIGHTS[event.event_type]
        if weights is _NOTHING:
            return
        for cell in self.addresses(codes):
            if cell < 0:
                continue
            views, carts, purchases, updated = _CELL.unpack_from(self._cells, cell * _CELL.size)
            counts = decayed((views, carts, purchases), event.event_time - updated, self._half_life_s)
            _CELL.pack_into(
                self._cells,
                cell * _CELL.size,
                counts[0] + weights[0],
                counts[1] + weights[1],
                counts[2] + weights[2],
                max(updated, event.event_time),
            )
            self._dirty[cell] = 1

    def take_changed(self) -> tuple[int, bytes] | None:
        """The number of a block, that block, and behind it all other cells that changed since the last call; None if none did.

        Every call that gives something takes the next block, so that between two of the same number each was taken once.
        """
        cells, marks = self.memory
        changed = np.flatnonzero(marks)
        if not len(changed):
            return None
        marks[changed] = 0
        number, self._turn = self._turn, (self._turn + 1) % self.blocks
        others = changed[changed // self.block_cells != number]
        return number, self.block(number) + others.astype(_NUMBER).tobytes() + cells[others].tobytes()

    def block(self, number: int) -> bytes:
        """One block's bytes."""
        return bytes(self._cells[number * self.block_bytes : (number + 1) * self.block_bytes])

    def restore(self, number: int, taken: bytes) -> None:
        """Put back what `take_changed` gave, in the order that it did, or a block alone. Goes on with the block after it.

        Raises ValueError if it cannot be of this spec.
        """
        count, rest = divmod(len(taken) - self.block_bytes, _NUMBER.itemsize + CELL.itemsize)
        if not 0 <= number < self.blocks or count < 0 or rest:
            raise ValueError(f"counter block {number} of {len(taken)} bytes does not fit the feature spec")
        others = np.frombuffer(taken, _NUMBER, count, self.block_bytes)
        if count and others.max() >= len(self._dirty):
            raise ValueError(f"counter cell {others.max()} does not fit the feature spec")
        self._cells[number * self.block_bytes : (number + 1) * self.block_bytes] = taken[: self.block_bytes]
        self.memory[0][others] = np.frombuffer(taken, CELL, count, self.block_bytes + others.nbytes)
        self._turn = (number + 1) % self.blocks

    def cells_of(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """`addresses` of B events by their codes [B, len(CODES)]: [B, 3]."""
        bases = np.array([0, self._category_base, self._brand_base])
        return np.where(codes[:, 1:4] != 0, codes[:, 1:4] + bases, -1)

    def addresses(self, codes: tuple[int, ...]) -> tuple[int, int, int]:
        """The cells of the event's item, category and brand; -1 where the id is missing."""
        item, category, brand = codes[1], codes[2], codes[3]
        return (
            item if item else -1,
            self._category_base + category if category else -1,
            self._brand_base + brand if brand else -1,
        )
