"""Where a level stands: by few buyers, after a move, and where it never moved."""

import numpy as np
import pytest

from training.drift import level_now


def test_few_buyers_do_not_pull_the_level_down() -> None:
    """Of many small logs with a right level the mean of what is added is about nothing."""
    shifts = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        p = 1 / (1 + np.exp(-rng.normal(-3.0, 0.3, 1200)))
        number = np.arange(1200, dtype=np.int64)
        shifts.append(level_now(p, (rng.random(1200) < p).astype(float), number, number))
    assert abs(np.mean(shifts)) < 0.03


def level(shift: float, sessions: int = 6000, seed: int = 0) -> float:
    """What is said of a shop whose last third is `shift` log-odds above what was predicted."""
    rng = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(-rng.normal(-2.2, 0.5, sessions)))
    true = 1 / (1 + (1 - p) / p * np.exp(-shift * (np.arange(sessions) > sessions * 2 / 3)))
    number = np.arange(sessions, dtype=np.int64)
    return level_now(p, (rng.random(sessions) < true).astype(float), number, number)


def test_a_level_that_has_moved_is_followed() -> None:
    """To where it is now, not to the mean."""
    assert np.mean([level(0.7, seed=seed) for seed in range(5)]) == pytest.approx(0.7, abs=0.15)


def test_a_level_that_stays_is_left_alone() -> None:
    """Chance in the latest stretch is not taken for a move."""
    assert max(abs(level(0.0, seed=seed)) for seed in range(10)) < 0.12
