"""Arrays that grow where they lie: while a gigabyte is copied a partition's events would wait for seconds."""

import mmap
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

#: Addresses that are reserved at the start, in lengths of the start. They cost nothing; an array that outgrows them is copied.
_RESERVED = 8192
#: Linux' flag for addresses that no memory is set aside for; Python names it from 3.13 on.
_NORESERVE = 0x4000
#: From here on the system may give memory in large pages, as numpy asks for: a page is 2 MB then.
_LARGE_BYTES = 4 << 20


class Growing:
    """An array [length, *row] that doubles its length. New elements are 0, and take memory when they are first used.

    Raises OSError when there is no memory left.
    """

    def __init__(self, dtype: npt.DTypeLike, length: int, *row: int) -> None:
        self._dtype, self._row = np.dtype(dtype), row
        self._pages = _reserved(length * self._row_bytes)
        self.array = self._seen(length)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, key: Any) -> Any:
        return self.array[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.array[key] = value

    def double(self) -> None:
        """Make it twice as long. Views of `array` from before are of no use after it."""
        length = 2 * len(self)
        size = length * self._row_bytes
        if size > len(self._pages):
            before, self._pages = self.array, _reserved(size)
            self._seen(len(before))[:] = before
        if size >= _LARGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without them
                self._pages.madvise(mmap.MADV_HUGEPAGE)
        self.array = self._seen(length)

    @property
    def _row_bytes(self) -> int:
        return self._dtype.itemsize * int(np.prod(self._row))

    def _seen(self, length: int) -> npt.NDArray[Any]:
        return np.frombuffer(self._pages, self._dtype, length * int(np.prod(self._row))).reshape(length, *self._row)


def _reserved(size: int) -> mmap.mmap:
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        return mmap.mmap(-1, size * _RESERVED, flags=private | _NORESERVE)
    except OSError:  # addresses are limited, or each is counted as memory
        return mmap.mmap(-1, size, flags=private)
