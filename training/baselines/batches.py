"""Sessions as padded index tables, those of like length together, for networks that read whole sessions."""

from collections.abc import Iterator

import numpy as np

from training.history import Ints
from training.session_log import SessionLog

#: Padding in a table of event indices.
NONE = -1


def session_tables(log: SessionLog, events: int, rng: np.random.Generator | None = None) -> Iterator[Ints]:
    """All sessions once, in tables [B, T] of event indices with about `events` events each; NONE on the right.

    In random order with `rng`.
    """
    length = np.diff(log.start)
    jitter = np.zeros(len(length)) if rng is None else rng.uniform(0, 1, len(length))
    # Whole steps of padding decide, chance breaks the ties.
    order = np.lexsort((jitter, -(-length // 4)))
    yield from (_table(log.start[group], length[group]) for group in _groups(order, length, events, rng))


def prefix_tables(
    log: SessionLog, longest: int, events: int, rng: np.random.Generator | None = None
) -> Iterator[tuple[Ints, Ints]]:
    """All events once: tables [B, T] of the last `longest` event indices up to each, and the events themselves [B]."""
    length = np.minimum(log.position, longest)
    jitter = np.zeros(len(length)) if rng is None else rng.uniform(0, 1, len(length))
    order = np.lexsort((jitter, length))
    ones = np.ones(len(length), np.int64)
    for group in _groups(order, ones, events, rng):
        yield _table(group - length[group] + 1, length[group]), group


def last_events(log: SessionLog, longest: int) -> Ints:
    """[N, longest]: the indices of each event and of those before it in its session, the newest first; NONE behind."""
    back = np.arange(longest)
    return np.where(back < log.position[:, None], np.arange(len(log))[:, None] - back, NONE)


def _groups(order: Ints, size: Ints, events: int, rng: np.random.Generator | None) -> list[Ints]:
    if not len(order):
        return []
    number = (np.cumsum(size[order]) - 1) // events
    groups = np.split(order, np.flatnonzero(np.diff(number)) + 1)
    if rng is not None:
        rng.shuffle(groups)
    return groups


def _table(first: Ints, length: Ints) -> Ints:
    steps = np.arange(int(length.max()))
    return np.where(steps < length[:, None], first[:, None] + steps, NONE)
