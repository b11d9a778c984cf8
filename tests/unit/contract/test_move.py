"""Parts of arrays that are copied and cleared."""

import numpy as np
import pytest
from numba import njit

from worker.contract.move import clear, copy


@njit
def copied(source: np.ndarray, start: int, end: int, target: np.ndarray, at: int) -> int:  # type: ignore[type-arg]
    return copy(source, start, end, target, at)


@njit
def cleared(target: np.ndarray, start: int, end: int) -> None:  # type: ignore[type-arg]
    clear(target, start, end)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize(("start", "end", "at"), [(0, 0, 0), (0, 12, 0), (3, 5, 7), (11, 12, 0), (4, 4, 12)])
def test_a_part_is_copied_and_nothing_else(kind: type, start: int, end: int, at: int) -> None:
    """Whatever the items are, from an array that may be read only."""
    source, target = np.arange(1, 13).astype(kind), np.zeros((3, 4), kind)
    source.flags.writeable = False
    assert copied(source, start, end, target, at) == at + end - start
    expected = np.zeros(12, kind)
    expected[at : at + end - start] = source[start:end]
    np.testing.assert_array_equal(target.ravel(), expected)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize(("start", "end"), [(0, 0), (0, 12), (3, 5), (11, 12)])
def test_a_part_is_cleared_and_nothing_else(kind: type, start: int, end: int) -> None:
    """Whatever the items are."""
    target = np.arange(1, 13).astype(kind).reshape(3, 4)
    expected = target.copy().ravel()
    expected[start:end] = 0
    cleared(target, start, end)
    np.testing.assert_array_equal(target.ravel(), expected)
