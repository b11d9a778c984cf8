"""Figures of lists and of classes: where the right answer stood in a list, and what a distribution gave it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from training.metrics.draws import Doubles, Draws, Ints, Measured

#: Lengths of lists that are looked at.
DEPTHS = (1, 5, 10, 20)


def ranks_of(lists: npt.NDArray[np.integer[Any]], target: Ints) -> Ints:
    """[n, K] lists, best first, and targets [n] -> the rank of the target, from 1; 0 where the list does not hold it.

    A negative entry fills a list up and is never right.
    """
    found = (lists == target[:, None]) & (lists >= 0)
    return np.where(found.any(axis=1), found.argmax(axis=1) + 1, 0)


def ranking(draws: Draws, rank: Ints, longest: int) -> Measured:
    """recall@k and mrr@k for k up to `longest`, from ranks [n] (see `ranks_of`)."""
    values = {}
    for k in (depth for depth in DEPTHS if depth <= longest):
        inside = (rank > 0) & (rank <= k)
        values[f"recall@{k}"] = inside.astype(np.float64)
        values[f"mrr@{k}"] = np.where(inside, 1 / np.maximum(rank, 1), 0.0)
    return means(draws, values)


def means(draws: Draws, values: dict[str, Doubles]) -> Measured:
    """Means of values [n] over the events."""
    weights = draws.of_sessions()
    sizes = np.bincount(draws.number, minlength=draws.sessions)
    totals = weights @ sizes
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            name: weights @ np.bincount(draws.number, each, draws.sessions) / totals for name, each in values.items()
        }  # sums by session first: a draw takes whole sessions
