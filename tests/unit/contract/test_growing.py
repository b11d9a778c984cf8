"""Arrays that grow: what is in them stays, and what nobody used takes no memory."""

import errno
import mmap
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from worker.contract.growing import Growing

_DTYPE = np.dtype([("number", "<i8"), ("share", "<f8")])


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_what_was_there_stays_and_what_comes_is_zero() -> None:
    numbers = Growing(np.uint64, 3, 5)
    numbers[:] = np.arange(15).reshape(3, 5)
    for _ in range(12):
        numbers.double()
    assert numbers.array.shape == (3 * 2**12, 5)
    np.testing.assert_array_equal(numbers[:3].ravel(), np.arange(15))
    assert not numbers[3:].any()


def test_records_are_written_where_they_lie() -> None:
    records = Growing(_DTYPE, 4)
    records[3]["number"] = 7
    records["share"][[1, 3]] = 0.5
    records.double()
    assert len(records) == 8
    assert records["number"].tolist() == [0, 0, 0, 7, 0, 0, 0, 0]
    assert records["share"].tolist() == [0, 0.5, 0, 0.5, 0, 0, 0, 0]


def test_what_outgrows_its_addresses_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where none can be reserved: a limit of them, or a system that counts each as memory."""
    made = mmap.mmap

    def scarce(fileno: int, size: int, **options: int) -> mmap.mmap:
        if size > 100_000:
            raise OSError(errno.ENOMEM, "no addresses left")
        return made(fileno, size, **options)

    monkeypatch.setattr(mmap, "mmap", scarce)
    numbers = Growing(np.int64, 2, 3)
    for length in (2, 4, 8, 16, 32):
        assert len(numbers) == length
        numbers[length // 2 :] = length
        numbers.double()
    assert numbers[:, 0].tolist() == [0, 2, *[4] * 2, *[8] * 4, *[16] * 8, *[32] * 16, *[0] * 32]
    for _ in range(6):
        numbers.double()
    with pytest.raises(OSError, match="no addresses left"):
        numbers.double()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_growing_takes_no_memory() -> None:
    numbers = Growing(np.uint64, 1 << 20)
    numbers[:] = 1
    before = resident_bytes()
    for _ in range(8):
        numbers.double()
    assert numbers.array.nbytes == 2 << 30
    assert resident_bytes() - before < 8 << 20
    assert numbers[(1 << 20) - 1] == 1
